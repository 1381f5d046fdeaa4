// Balanced trees of adders: how deep one is, and the sum it makes.
#pragma once

namespace ttfpga {

/// Levels of a tree that joins n values.
constexpr int levels_of(int n) { return n <= 1 ? 0 : 1 + levels_of((n + 1) / 2); }

/// The sum of kN values: each level adds the upper half of its values to the lower; an odd one is left over.
template <int kN>
struct AdderTree {
  static float sum(const float (&value)[kN]) {
#pragma HLS INLINE
    constexpr int kHalf = (kN + 1) / 2;
    float next[kHalf];
#pragma HLS ARRAY_PARTITION variable = next complete
    if (kN % 2 == 1) next[kHalf - 1] = value[kHalf - 1];
  ADDER_TREE:
    for (int i = 0; i < kN / 2; ++i) {
#pragma HLS UNROLL
      next[i] = value[i] + value[i + kHalf];
    }
    return AdderTree<kHalf>::sum(next);
  }
};

template <>
struct AdderTree<1> {
  static float sum(const float (&value)[1]) {
#pragma HLS INLINE
    return value[0];
  }
};

}  // namespace ttfpga
