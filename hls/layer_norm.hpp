// LayerNorm over the width of each token, forward and backward, from the kept normalised values.
#pragma once

#include <cmath>

#include "contract.hpp"
#include "memory.hpp"

namespace ttfpga {

constexpr int kNormPartials = lanes_for(kWidth);
constexpr float kWidthInverse = 1.0f / kWidth;

inline float scale_and_shift(int norm, int i, float unit) {
#pragma HLS INLINE
  return unit * Bank<kNormScaleBank>::value()[norm * kWidth + i] +
         Bank<kNormBiasBank>::value()[norm * kWidth + i];
}

/// y = (x - mean) / sqrt(variance + kNormEps) * scale + bias; `norm` numbers the LayerNorms. x0 and y0 are
/// places in the activation pool and may be the same; the normalised values are kept in a place of their own.
inline void layer_norm_forward(int norm, Pass pass, int x0, int y0, const Taps& taps) {
  const int unit0 = place::unit[pass][norm];
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
        sums[p] += activation[x0 + row + i + p];
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
        const float centered = activation[x0 + row + i + p] - mean;
        squares[p] += centered * centered;
      }
    }
    const float variance = tree_sum(squares) * kWidthInverse;
    const float inverse = 1.0f / std::sqrt(variance + kNormEps);
    inverse_std[norm * kTokens + t] = inverse;
  NORM_APPLY:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const float unit = (activation[x0 + row + i] - mean) * inverse;
      activation[unit0 + row + i] = unit;
      activation[y0 + row + i] = scale_and_shift(norm, i, unit);
    }
  }
  tap(taps, trace::norm[norm], activation, y0, kActivation);
}

/// y again, from the normalised values that were kept.
inline void layer_norm_rederive(int norm, int y0, const Taps& taps) {
  const int unit0 = place::unit[kBackward][norm];
NORM_AGAIN_TOKEN:
  for (int t = 0; t < kTokens; ++t) {
  NORM_AGAIN:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const int at = t * kWidth + i;
      activation[y0 + at] = scale_and_shift(norm, i, activation[unit0 + at]);
    }
  }
  tap(taps, trace::norm[norm], activation, y0, kActivation);
}

/// Gradients of scale (sum of dy n) and bias (sum of dy) over the tokens, n the normalised values.
inline void norm_parameter_gradients(int norm, int dy0) {
  using ScaleGradient = Gradient<kNormScaleBank>;
  using BiasGradient = Gradient<kNormBiasBank>;
  const int unit0 = place::unit[kBackward][norm];
D_NORM_PARAMETERS:
  for (int i = 0; i < kWidth; ++i) {
    float d_scale = 0.0f, d_bias = 0.0f;
  D_NORM_PARAMETERS_TOKEN:
    for (int t = 0; t < kTokens; ++t) {
#pragma HLS PIPELINE
      const float dy = activation[dy0 + t * kWidth + i];
      d_scale += dy * activation[unit0 + t * kWidth + i];
      d_bias += dy;
    }
    ScaleGradient::memory()[ScaleGradient::at(norm * kWidth) + i] = d_scale;
    BiasGradient::memory()[BiasGradient::at(norm * kWidth) + i] = d_bias;
  }
}

/// dx = (g - mean(g) - n * mean(g n)) / std with g = dy * scale and n the normalised values; then the
/// gradients of scale and bias are complete. dy0 and dx0 are places in the activation pool.
inline void layer_norm_backward(int norm, int dy0, int dx0, const Step& step) {
  const int unit0 = place::unit[kBackward][norm];
  tap(step.taps, trace::d_norm[norm], activation, dy0, kActivation);
  if (kNormTrains[norm]) norm_parameter_gradients(norm, dy0);
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
        const float g = activation[dy0 + row + i + p] * Bank<kNormScaleBank>::value()[norm * kWidth + i + p];
        sums[p] += g;
        products[p] += g * activation[unit0 + row + i + p];
      }
    }
    const float mean = tree_sum(sums) * kWidthInverse;
    const float slope = tree_sum(products) * kWidthInverse;
  D_NORM_APPLY:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      const float g = activation[dy0 + row + i] * Bank<kNormScaleBank>::value()[norm * kWidth + i];
      activation[dx0 + row + i] = (g - mean - activation[unit0 + row + i] * slope) * inverse_std[norm * kTokens + t];
    }
  }
  if (kNormTrains[norm]) {
    gradient_complete<kNormScaleBank>(norm * kWidth, kWidth, step);
    gradient_complete<kNormBiasBank>(norm * kWidth, kWidth, step);
  }
}

}  // namespace ttfpga
