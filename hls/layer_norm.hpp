// LayerNorm over the width of each token, forward and backward, from the kept normalised values.
#pragma once

#include <cmath>

#include "contract.hpp"
#include "memory.hpp"
#include "taps.hpp"

namespace ttfpga {

constexpr int kNormPartials = lanes_for(kWidth, kMaxPartials);
constexpr float kWidthInverse = 1.0f / kWidth;

/// y = (x - mean) / sqrt(variance + kNormEps) * scale + bias; `norm` numbers the LayerNorms.
inline void layer_norm_forward(int norm, const float (&x)[kActivation], float (&y)[kActivation],
                               const Taps& taps) {
NORM_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
    const int row = t * kWidth;
    float sums[kNormPartials], squares[kNormPartials];
#pragma HLS ARRAY_PARTITION variable = sums complete
#pragma HLS ARRAY_PARTITION variable = squares complete
  NORM_START:
    for (int p = 0; p < kNormPartials; ++p) {
#pragma HLS UNROLL
      sums[p] = 0.0f;
      squares[p] = 0.0f;
    }
  NORM_MEAN:
    for (int i = 0; i < kWidth; i += kNormPartials) {
#pragma HLS PIPELINE
    NORM_MEAN_LANE:
      for (int p = 0; p < kNormPartials; ++p) {
#pragma HLS UNROLL
        sums[p] += x[row + i + p];
      }
    }
    const float mean = tree_sum(sums) * kWidthInverse;
    // The variance from centred values: one more pass, but no cancellation.
  NORM_VARIANCE:
    for (int i = 0; i < kWidth; i += kNormPartials) {
#pragma HLS PIPELINE
    NORM_VARIANCE_LANE:
      for (int p = 0; p < kNormPartials; ++p) {
#pragma HLS UNROLL
        const float centered = x[row + i + p] - mean;
        squares[p] += centered * centered;
      }
    }
    const float variance = tree_sum(squares) * kWidthInverse;
    const float inverse = 1.0f / std::sqrt(variance + kNormEps);
    inverse_std[norm][t] = inverse;
  NORM_APPLY:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const float unit = (x[row + i] - mean) * inverse;
      normalized[norm][row + i] = unit;
      y[row + i] =
          unit * Bank<kNormScaleBank>::value[norm * kWidth + i] + Bank<kNormBiasBank>::value[norm * kWidth + i];
    }
  }
  tap(taps, trace::norm[norm], y);
}

/// dx = (g - mean(g) - n * mean(g n)) / std with g = dy * scale and n the normalised values; gradients of
/// scale (sum of dy n) and bias (sum of dy) over the tokens.
inline void layer_norm_backward(int norm, float (&dy)[kActivation], float (&dx)[kActivation],
                                const Taps& taps) {
  tap(taps, trace::d_norm[norm], dy);
D_NORM_PARAMETERS:
  for (int i = 0; i < kWidth; ++i) {
    float d_scale = 0.0f, d_bias = 0.0f;
  D_NORM_PARAMETERS_TOKEN:
    for (int t = 0; t < kTokens; ++t) {
#pragma HLS PIPELINE
      d_scale += dy[t * kWidth + i] * normalized[norm][t * kWidth + i];
      d_bias += dy[t * kWidth + i];
    }
    Bank<kNormScaleBank>::gradient[norm * kWidth + i] = d_scale;
    Bank<kNormBiasBank>::gradient[norm * kWidth + i] = d_bias;
  }
D_NORM_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
    const int row = t * kWidth;
    float sums[kNormPartials], products[kNormPartials];
#pragma HLS ARRAY_PARTITION variable = sums complete
#pragma HLS ARRAY_PARTITION variable = products complete
  D_NORM_START:
    for (int p = 0; p < kNormPartials; ++p) {
#pragma HLS UNROLL
      sums[p] = 0.0f;
      products[p] = 0.0f;
    }
  D_NORM_SUMS:
    for (int i = 0; i < kWidth; i += kNormPartials) {
#pragma HLS PIPELINE
    D_NORM_SUMS_LANE:
      for (int p = 0; p < kNormPartials; ++p) {
#pragma HLS UNROLL
        const float g = dy[row + i + p] * Bank<kNormScaleBank>::value[norm * kWidth + i + p];
        sums[p] += g;
        products[p] += g * normalized[norm][row + i + p];
      }
    }
    const float mean = tree_sum(sums) * kWidthInverse;
    const float slope = tree_sum(products) * kWidthInverse;
  D_NORM_APPLY:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const float g = dy[row + i] * Bank<kNormScaleBank>::value[norm * kWidth + i];
      dx[row + i] = (g - mean - normalized[norm][row + i] * slope) * inverse_std[norm][t];
    }
  }
}

}  // namespace ttfpga
