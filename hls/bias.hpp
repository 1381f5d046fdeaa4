// The bias of a layer: added to each row of its output, and its gradient, the sum over the rows.
#pragma once

#include "memory.hpp"

namespace ttfpga {

/// y (kRows, kCols), from y0 on, += the kCols elements of bank kBank from `start` on, in every row.
template <int kRows, int kCols, int kBank, int kYSize>
void add_bias(float (&y)[kYSize], int y0, int start) {
BIAS_ROW:
  for (int t = 0; t < kRows; ++t) {
  BIAS_COL:
    for (int i = 0; i < kCols; ++i) {
#pragma HLS PIPELINE
      y[y0 + t * kCols + i] += Bank<kBank>::value()[start + i];
    }
  }
}

/// The gradient of those elements: the sums of dy's columns.
template <int kRows, int kCols, int kBank, int kYSize>
void bias_gradient(const float (&dy)[kYSize], int dy0, int start) {
  const int to = Gradient<kBank>::at(start);
D_BIAS_COL:
  for (int i = 0; i < kCols; ++i) {
    float sum = 0.0f;
  D_BIAS_ROW:
    for (int t = 0; t < kRows; ++t) {
#pragma HLS PIPELINE
      sum += dy[dy0 + t * kCols + i];
    }
    Gradient<kBank>::memory()[to + i] = sum;
  }
}

}  // namespace ttfpga
