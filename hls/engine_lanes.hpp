// The engine's arithmetic in one trip: a tile of products, and the adders that sum them. Each operator of the
// hardware stands here once; what feeds it depends on the mode.
#pragma once

#include "adder_tree.hpp"
#include "engine_tiles.hpp"
#include "pipeline.hpp"

namespace ttfpga {

constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int kLevels = larger(levels_of(kTileRows), levels_of(kTileLanes));

/// Adders of one level of the trees that sum n rows or m lanes of a tile; both modes use the same ones.
constexpr int level_adders(int rows, int lanes) {
  return larger(rows / 2 * kTileLanes, lanes / 2 * kTileRows);
}
constexpr int tree_adders(int rows, int lanes) {
  return rows <= 1 && lanes <= 1 ? 0
                                 : level_adders(rows, lanes) + tree_adders((rows + 1) / 2, (lanes + 1) / 2);
}
constexpr int kHalfTile = kTile / 2;             // adders of the first level: rows and lanes are even
constexpr int kSums = kTileLanes / 2 * kColumn;  // registers of its results, at most

// Path: two reads (operand and addend), scale (in), product, the tree, the accumulation, scale (out), what is
// added to that: the sum of bias and addend is made beside the tree. No mode uses both scales, but which is
// known when it runs: the one pipeline has both on its way.
// Units: the products and scales (in and out); the trees; the rest of kToTile's sums; the accumulator, bias,
// addend, column sums, partial sums, and what a stored tile adds to.
constexpr Pipeline kEnginePipeline = {
    "engine",
    {3, kLevels + 2, 0, 0, 2},
    {kTile + 2 * kTileRows, tree_adders(kTileRows, kTileLanes) + (kTile - kHalfTile) + 6 * kTileLanes, 0, 0,
     0},
};

/// The products of a trip and an addition to each: in kToTile the sum so far, which it replaces; in the other
/// modes two products half a tile apart are added, the first level of the tree.
TTFPGA_FOR_MODE void multiply_add(int op, const float (&narrow)[kTileRows], const float (&wide)[kTileLanes],
                                  const float (&tile)[kRegisters], bool first, float (&so_far)[kTile],
                                  float (&sum)[kSums]) {
#pragma HLS INLINE
  const bool to_tile = op == kToTile, to_narrow = op == kToNarrow;
  const int half = to_narrow ? kSums : kHalfTile, run = run_of(to_narrow ? kColumn : kTileLanes);
MULTIPLY_RUN:
  for (int n = 0; n < half / run; ++n) {
#pragma HLS LOOP_TRIPCOUNT max = kHalfTile
#pragma HLS UNROLL
    const int at = n * run, far = at + half;
    const float x = to_narrow ? wide[at / kColumn] : narrow[at / kTileLanes];
    const float far_x = to_narrow ? wide[far / kColumn] : narrow[far / kTileLanes];
  MULTIPLY:
    TTFPGA_STAYS_LOOP
    for (int i = 0; i < run; ++i) {
#pragma HLS LOOP_TRIPCOUNT max = 1
#pragma HLS UNROLL
      const float of_wide = wide[to_tile ? at % kTileLanes + i : 0];
      const float product = x * (to_tile ? of_wide : tile[at + i]);
      const float far_product = far_x * (to_tile ? of_wide : tile[far + i]);
      sum[at + i] = product + (!to_tile ? far_product : first ? 0.0f : so_far[at + i]);
      if (to_tile) {
        so_far[at + i] = sum[at + i];
        so_far[far + i] = far_product + (first ? 0.0f : so_far[far + i]);
      }
    }
  }
}

/// The further levels of the tree, in place, from where kRows rows (kToWide) or kLanes columns (kToNarrow)
/// are left: halves are added to halves. The results are the first kTileLanes, or kTileRows.
template <int kRows, int kLanes>
struct TileTree {
  TTFPGA_FOR_MODE static void add(int op, float (&sum)[kSums]) {
#pragma HLS INLINE
    const bool to_narrow = op == kToNarrow;
    const int adders = to_narrow ? kLanes / 2 * kColumn : kRows / 2 * kTileLanes;
    const int half = to_narrow ? (kLanes + 1) / 2 * kColumn : (kRows + 1) / 2 * kTileLanes;
  TILE_TREE:
    for (int f = 0; f < bound_of(level_adders(kRows, kLanes), adders); ++f) {
#pragma HLS LOOP_TRIPCOUNT max = kHalfTile
#pragma HLS UNROLL
      if (f < adders) sum[f] += sum[f + half];
    }
    TileTree<(kRows + 1) / 2, (kLanes + 1) / 2>::add(op, sum);
  }
};

template <>
struct TileTree<1, 1> {
  static void add(int, float (&)[kSums]) {
#pragma HLS INLINE
  }
};

/// The first kTileRows lanes times `scale`.
template <int kLanes>
void scale_narrow(float scale, float (&narrow)[kLanes]) {
#pragma HLS INLINE
SCALE:
  for (int lane = 0; lane < kTileRows; ++lane) {
#pragma HLS UNROLL
    narrow[lane] *= scale;
  }
}

/// total += more, kTileLanes at a time.
inline void add_lanes(float (&total)[kTileLanes], const float (&more)[kTileLanes]) {
#pragma HLS INLINE
ADD_LANES:
  for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
    total[lane] += more[lane];
  }
}

}  // namespace ttfpga
