// Element-wise stages: GELU, tanh, sums and copies of the residual stream, and the SGD update.
#pragma once

#include "taps.hpp"

namespace ttfpga {

/// y = GELU(x), tanh form.
template <int kSize>
void gelu_forward(const float (&x)[kSize], float (&y)[kSize], int offset, const Taps& taps) {
GELU:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    y[i] = gelu_f32(x[i]);
  }
  tap(taps, offset, y);
}

/// dx = dy * GELU'(x).
template <int kSize>
void gelu_backward(const float (&x)[kSize], float (&dy)[kSize], float (&dx)[kSize], int offset,
                   const Taps& taps) {
  tap(taps, offset, dy);
D_GELU:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    dx[i] = dy[i] * gelu_derivative_f32(x[i]);
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

/// sum += x.
template <int kSize>
void add_to(float (&sum)[kSize], const float (&x)[kSize]) {
ADD:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    sum[i] += x[i];
  }
}

/// to = from.
template <int kSize>
void copy_to(float (&to)[kSize], const float (&from)[kSize]) {
COPY:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    to[i] = from[i];
  }
}

/// One step of plain SGD, in place: parameter -= rate * gradient.
template <int kSize>
void sgd_update(float (&parameter)[kSize], const float (&gradient)[kSize], float rate) {
SGD:
  for (int i = 0; i < kSize; ++i) {
#pragma HLS PIPELINE
    parameter[i] = parameter[i] - rate * gradient[i];
  }
}

}  // namespace ttfpga
