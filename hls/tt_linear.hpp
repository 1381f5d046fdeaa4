// The tensor-train linear layer in the bidirectional flow: y = (x A) B + b, with the merged halves A and B
// kept for the backward pass (arXiv 2501.06663, section III).
#pragma once

#include "taps.hpp"
#include "tt_chain.hpp"

namespace ttfpga {

// Kept from forward to backward, for each layer.
static float left_halves[kLinears][kLeftProducts];
static float right_halves[kLinears][kRightProducts];
static float bond[kLinears][kTokens * kBond];

// Gradients of one layer at a time.
static float d_left[kLeftProducts];
static float d_right[kRightProducts];
static float d_bond[kTokens * kBond];

/// Where the cores of `layer` begin in their banks: cores of one position in all layers share a bank.
template <class Chain>
void find_cores(int layer, int (&start)[Chain::kCores]) {
#pragma HLS INLINE
FIND_CORE:
  for (int k = 0; k < Chain::kCores; ++k) {
#pragma HLS UNROLL
    start[k] = layer * core_size<Chain>(k);
  }
}

/// y (kRows, kWidth) = x A B + b for the first kRows rows of x.
template <int kRows, int kXSize, int kYSize>
void linear_forward(int layer, const float (&x)[kXSize], float (&y)[kYSize], const Taps& taps) {
  static_assert(kRows * kWidth <= kXSize && kRows * kWidth <= kYSize, "rows beyond an array");
  int left_start[kInCores], right_start[kOutCores];
  find_cores<LeftHalf>(layer, left_start);
  find_cores<RightHalf>(layer, right_start);

  LeftMerge<kInCores - 1>::forward(left_start, left_halves[layer]);
  tap(taps, trace::linear_left[layer], left_halves[layer], 0, kLeftHalf);
  RightMerge<RightHalf, Into::kReplace, 0>::forward(right_start, right_halves[layer]);
  tap(taps, trace::linear_right[layer], right_halves[layer], 0, kRightHalf);

  contract<RowMajor<kRows, kWidth>, RowMajor<kWidth, kBond>>(x, 0, left_halves[layer], 0, bond[layer], 0);
  tap(taps, trace::linear_bond[layer], bond[layer], 0, kRows * kBond);
  contract<RowMajor<kRows, kBond>, RowMajor<kBond, kWidth>>(bond[layer], 0, right_halves[layer], 0, y, 0);

LINEAR_BIAS_ROW:
  for (int t = 0; t < kRows; ++t) {
  LINEAR_BIAS:
    for (int i = 0; i < kWidth; ++i) {
#pragma HLS PIPELINE
      y[t * kWidth + i] += Bank<kLinearBiasBank>::value[layer * kWidth + i];
    }
  }
  tap(taps, trace::linear_out[layer], y, 0, kRows * kWidth);
}

/// From dy (kRows, kWidth): gradients of the bias and of all cores; dx = (dy B^T) A^T replaces `dx` or is
/// added to it.
template <int kRows, Into kInto, int kXSize, int kYSize, int kDXSize>
void linear_backward(int layer, const float (&x)[kXSize], float (&dy)[kYSize], float (&dx)[kDXSize],
                     const Taps& taps) {
  using X = RowMajor<kRows, kWidth>;
  using Z = RowMajor<kRows, kBond>;
  using A = RowMajor<kWidth, kBond>;
  using B = RowMajor<kBond, kWidth>;
  int left_start[kInCores], right_start[kOutCores];
  find_cores<LeftHalf>(layer, left_start);
  find_cores<RightHalf>(layer, right_start);
  tap(taps, trace::d_linear_out[layer], dy, 0, kRows * kWidth);

  contract<X, Transposed<B>>(dy, 0, right_halves[layer], 0, d_bond, 0);
  tap(taps, trace::d_linear_bond[layer], d_bond, 0, kRows * kBond);
  contract<Transposed<Z>, X>(bond[layer], 0, dy, 0, d_right, 0);
  tap(taps, trace::d_linear_right[layer], d_right, 0, kRightHalf);
  contract<Transposed<X>, Z>(x, 0, d_bond, 0, d_left, 0);
  tap(taps, trace::d_linear_left[layer], d_left, 0, kLeftHalf);

  LeftMerge<kInCores - 1>::backward(left_start, left_halves[layer], d_left);
  RightMerge<RightHalf, Into::kReplace, 0>::backward(right_start, right_halves[layer], d_right);

D_BIAS:
  for (int i = 0; i < kWidth; ++i) {
    float sum = 0.0f;
  D_BIAS_ROW:
    for (int t = 0; t < kRows; ++t) {
#pragma HLS PIPELINE
      sum += dy[t * kWidth + i];
    }
    Bank<kLinearBiasBank>::gradient[layer * kWidth + i] = sum;
  }
  contract<Z, Transposed<A>, kInto>(d_bond, 0, left_halves[layer], 0, dx, 0);
}

}  // namespace ttfpga
