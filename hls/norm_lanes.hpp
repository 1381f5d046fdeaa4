// What the norm unit computes in one trip: its lanes, and what becomes of a row's sums. Each operator of the
// hardware stands here once; what feeds it depends on the pass.
#pragma once

#include <cmath>

#include "adder_tree.hpp"
#include "pipeline.hpp"

namespace ttfpga {

/// What the lanes do in a pass.
struct NormMode {
  bool backward;
  bool kept;     ///< the normalised values are those kept, not made here
  bool sums;     ///< the pass that sums g and g * unit
  bool moments;  ///< the pass that sums x - shift and its square
  bool dx;       ///< the pass that makes dx
};

/// What all lanes are given in a trip.
struct NormValues {
  float minus_mean, factor, inverse;
  int count;  ///< lanes that hold elements
};

/// What a lane is given.
struct NormIn {
  float in[kNormLanes], kept[kNormLanes], scale[kNormLanes], shift[kNormLanes];
  float scale_sum[kNormLanes], shift_sum[kNormLanes];
};

/// What a lane makes: values of a pass, and what goes into the two row sums.
struct NormOut {
  float unit[kNormLanes], moved[kNormLanes], out[kNormLanes];
  float to_sum[kNormLanes], to_slope[kNormLanes];
};

/// One trip of a pass.
inline void norm_lanes(const NormMode& mode, const NormValues& given, const NormIn& from, NormOut& to) {
#pragma HLS INLINE
NORM_LANE:
  for (int lane = 0; lane < kNormLanes; ++lane) {
#pragma HLS UNROLL
    const float in = from.in[lane];
    const float g = in * from.scale[lane];
    // x - shift, x - mean, g - mean, or the sum of dy.
    const float centred = select_f32(mode.backward, g, in);
    const float moved = select_f32(mode.sums, from.shift_sum[lane], centred) +
                        select_f32(mode.sums, in, given.minus_mean);
    // The square of x - shift, the normalised value, dy * unit, or -unit * slope; the kept unit times 1.
    const float factor = select_f32(mode.moments, moved, given.factor);
    const float product =
        select_f32(mode.kept, from.kept[lane], moved) * select_f32(mode.sums, in, factor);
    // unit * scale, dy * unit * scale, or (g - mean) * inverse.
    const float scaled =
        select_f32(mode.dx, moved, product) * select_f32(mode.dx, given.inverse, from.scale[lane]);
    to.moved[lane] = moved;
    to.unit[lane] = product;
    // y, the sum of dy * unit, or dx.
    to.out[lane] = select_f32(mode.sums, from.scale_sum[lane], scaled) +
                   select_f32(mode.backward, product, from.shift[lane]);
    // Beyond the end of a row, x - shift isn't zero.
    const bool inside = lane < given.count;
    to.to_sum[lane] = select_f32(inside, select_f32(mode.moments, moved, centred), 0.0f);
    to.to_slope[lane] = select_f32(inside, select_f32(mode.moments, product, scaled), 0.0f);
  }
}

/// Adds a trip's values to a row sum: to the partial sum whose turn it is, which was last added to
/// kSumDistance trips ago; the first kSumDistance trips of a row replace.
inline void norm_add(const float (&value)[kNormLanes], int turn, bool first, float (&partial)[kSumDistance]) {
#pragma HLS INLINE
  const float before = first ? 0.0f : partial[turn];
  partial[turn] = before + AdderTree<kNormLanes>::sum(value);
}

/// A row sum: its first `used` partial sums.
inline float norm_join(const float (&partial)[kSumDistance], int used) {
#pragma HLS INLINE
  float value[kSumDistance];
#pragma HLS ARRAY_PARTITION variable = value complete
NORM_JOIN:
  for (int turn = 0; turn < kSumDistance; ++turn) {
#pragma HLS UNROLL
    value[turn] = select_f32(turn < used, partial[turn], 0.0f);
  }
  return AdderTree<kSumDistance>::sum(value);
}

/// 1 / sqrt(variance + kNormEps), of a variance m2 - m1^2; below zero, by rounding, that counts as 0.
inline float norm_inverse(float m2, float m1_square) {
#pragma HLS INLINE
  const float with_eps = (m2 + kNormEps) - m1_square;
  return 1.0f / std::sqrt(select_f32(with_eps < kNormEps, kNormEps, with_eps));
}

}  // namespace ttfpga
