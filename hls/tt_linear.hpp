// The tensor-train linear layer in the bidirectional flow: y = (x A) B + b, with the merged halves A and B
// kept for the backward pass, or merged again there (arXiv 2501.06663, section III).
#pragma once

#include "bias.hpp"
#include "tt_chain.hpp"

namespace ttfpga {

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

/// A and B of a layer into their slots.
inline void merge_halves(int layer, Pass pass) {
  int left_start[kInCores], right_start[kOutCores];
  find_cores<LeftHalf>(layer, left_start);
  find_cores<RightHalf>(layer, right_start);
  LeftMerge<kInCores - 1>::forward(left_start, place::left[pass][layer]);
  RightMerge<RightHalf, Into::kReplace, 0>::forward(right_start, right, place::right[pass][layer]);
}

/// y (kRows, kWidth) = x A B + b for kRows rows of x; x0 and y0 are where they begin in their arrays.
template <int kRows, int kXSize, int kYSize>
void linear_forward(int layer, Pass pass, const float (&x)[kXSize], int x0, float (&y)[kYSize], int y0,
                    const Taps& taps) {
  const int a0 = place::left[pass][layer], b0 = place::right[pass][layer], z0 = place::bond[pass][layer];
  merge_halves(layer, pass);
  tap(taps, trace::linear_left[layer], left, a0, kLeftHalf);
  tap(taps, trace::linear_right[layer], right, b0, kRightHalf);

  contract<RowMajor<kRows, kWidth>, RowMajor<kWidth, kBond>>(x, x0, left, a0, bond, z0);
  tap(taps, trace::linear_bond[layer], bond, z0, kRows * kBond);
  contract<RowMajor<kRows, kBond>, RowMajor<kBond, kWidth>>(bond, z0, right, b0, y, y0);
  add_bias<kRows, kWidth, kLinearBiasBank>(y, y0, layer * kWidth);
  tap(taps, trace::linear_out[layer], y, y0, kRows * kWidth);
}

/// From dy (kRows, kWidth): dx = (dy B^T) A^T replaces `dx` or is added to it; then the gradients of all
/// cores and of the bias are complete.
template <int kRows, Into kInto, int kXSize, int kYSize, int kDXSize>
void linear_backward(int layer, const float (&x)[kXSize], int x0, float (&dy)[kYSize], int dy0,
                     float (&dx)[kDXSize], int dx0, const Step& step) {
  using X = RowMajor<kRows, kWidth>;
  using Z = RowMajor<kRows, kBond>;
  using A = RowMajor<kWidth, kBond>;
  using B = RowMajor<kBond, kWidth>;
  const int a0 = place::left[kBackward][layer], b0 = place::right[kBackward][layer];
  const int z0 = place::bond[kBackward][layer];
  tap(step.taps, trace::d_linear_out[layer], dy, dy0, kRows * kWidth);
  if (kRederive) {
    // The taps see the halves again, so that an override of theirs holds here too.
    merge_halves(layer, kBackward);
    tap(step.taps, trace::linear_left[layer], left, a0, kLeftHalf);
    tap(step.taps, trace::linear_right[layer], right, b0, kRightHalf);
  }

  contract<X, Transposed<B>>(dy, dy0, right, b0, d_bond, 0);
  tap(step.taps, trace::d_linear_bond[layer], d_bond, 0, kRows * kBond);
  contract<Z, Transposed<A>, kInto>(d_bond, 0, left, a0, dx, dx0);
  if (!kLinearTrains[layer]) return;

  contract<Transposed<Z>, X>(bond, z0, dy, dy0, d_right, 0);
  tap(step.taps, trace::d_linear_right[layer], d_right, 0, kRightHalf);
  contract<Transposed<X>, Z>(x, x0, d_bond, 0, d_left, 0);
  tap(step.taps, trace::d_linear_left[layer], d_left, 0, kLeftHalf);

  int left_start[kInCores], right_start[kOutCores];
  find_cores<LeftHalf>(layer, left_start);
  find_cores<RightHalf>(layer, right_start);
  LeftMerge<kInCores - 1>::backward(left_start, a0);
  RightMerge<RightHalf, Into::kReplace, 0>::backward(right_start, right, b0, d_right, 0);
  bias_gradient<kRows, kWidth, kLinearBiasBank>(dy, dy0, layer * kWidth);
  CoresComplete<LeftHalf>::run(left_start, step);
  CoresComplete<RightHalf>::run(right_start, step);
  gradient_complete<kLinearBiasBank>(layer * kWidth, kWidth, step);
}

}  // namespace ttfpga
