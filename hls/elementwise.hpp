// Element-wise stages on arrays of the activation pool: GELU, and sums and copies of the residual stream;
// tanh on the intent head's row.
#pragma once

#include "memory.hpp"

namespace ttfpga {

/// y = GELU(x), tanh form; x0 and y0 are places in the activation pool.
inline void gelu_forward(int x0, int y0, int offset, const Taps& taps) {
GELU:
  for (int i = 0; i < kActivation; ++i) {
#pragma HLS PIPELINE
    activation[y0 + i] = gelu_f32(activation[x0 + i]);
  }
  tap(taps, offset, activation, y0, kActivation);
}

/// dx = dy * GELU'(x).
inline void gelu_backward(int x0, int dy0, int dx0, int offset, const Taps& taps) {
  tap(taps, offset, activation, dy0, kActivation);
D_GELU:
  for (int i = 0; i < kActivation; ++i) {
#pragma HLS PIPELINE
    activation[dx0 + i] = activation[dy0 + i] * gelu_derivative_f32(activation[x0 + i]);
  }
}

/// sum += x, both places in the activation pool.
inline void add_to(int sum0, int x0) {
ADD:
  for (int i = 0; i < kActivation; ++i) {
#pragma HLS PIPELINE
    activation[sum0 + i] += activation[x0 + i];
  }
}

/// A copy within the activation pool.
inline void copy_to(int to0, int from0) {
COPY:
  for (int i = 0; i < kActivation; ++i) {
#pragma HLS PIPELINE
    activation[to0 + i] = activation[from0 + i];
  }
}

/// y = tanh(x).
template <int kSize>
void tanh_forward(const float (&x)[kSize], float (&y)[kSize], int offset, const Taps& taps) {
TANH:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    y[i] = tanh_f32(x[i]);
  }
  tap(taps, offset, y);
}

/// In place, from the output y: dx = dy * (1 - y^2) replaces dy.
template <int kSize>
void tanh_backward(const float (&y)[kSize], float (&dy)[kSize], int offset, const Taps& taps) {
  tap(taps, offset, dy);
D_TANH:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    dy[i] = dy[i] * (1.0f - y[i] * y[i]);
  }
}

}  // namespace ttfpga
