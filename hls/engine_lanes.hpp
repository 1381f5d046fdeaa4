// The engine's arithmetic in one trip: a tile of products, and the adders that sum them. Each operator of the
// hardware stands here once; what feeds it depends on the mode.
#pragma once

#include "adder_tree.hpp"
#include "engine_tiles.hpp"
#include "meter.hpp"

namespace ttfpga {

/// A function of the engine that g++ makes a copy of for each mode (see engine.hpp).
#define TTFPGA_FOR_MODE __attribute__((always_inline)) inline

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
constexpr int kFirstLevel = level_adders(kTileRows, kTileLanes);

// Path: two reads (operand and addend), scale and product, the tree, the accumulation, bias, addend.
// Units: the products and scales (in and out); the trees; the rest of kToTile's sums; the accumulator, bias,
// addend, column sums, partial sums, and what a stored tile adds to.
constexpr Pipeline kEnginePipeline = {
    "contract",
    1,
    {2, kLevels + 3, 0, 0, 2},
    {kTile + 2 * kTileRows, tree_adders(kTileRows, kTileLanes) + (kTile - kFirstLevel) + 6 * kTileLanes, 0, 0,
     0},
};

/// The products of a trip.
TTFPGA_FOR_MODE void multiply(int op, const float (&narrow)[kTileRows], const float (&wide)[kTileLanes],
                     const float (&tile)[kTile], float (&product)[kTile]) {
#pragma HLS INLINE
MULTIPLY_ROW:
  for (int row = 0; row < kTileRows; ++row) {
#pragma HLS UNROLL
  MULTIPLY:
    for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      const float x = op == kToNarrow ? wide[lane] : narrow[row];
      const float y = op == kToTile ? wide[lane] : tile[row * kTileLanes + lane];
      product[row * kTileLanes + lane] = x * y;
    }
  }
}

/// In place: sums of the products, over rows (kToWide: kTileLanes results, the first) or over lanes
/// (kToNarrow: the first of each row), by halves added to halves; in kToTile each with the sum so far. One
/// set of adders serves all: a level sums groups of as many neighbours, which lie in different places, and
/// kToTile takes the first level's adders and as many as it lacks.
TTFPGA_FOR_MODE void add_products(int op, float (&product)[kTile], float (&so_far)[kTile], bool first) {
#pragma HLS INLINE
  const bool to_tile = op == kToTile, to_narrow = op == kToNarrow;
  int rows = kTileRows, lanes = kTileLanes;
ADD_LEVEL:
  for (int level = 0; level < kLevels; ++level) {
#pragma HLS UNROLL
    const int size = lanes > 1 ? lanes / 2 : 1;
    const int in_tree = to_narrow ? kTileRows * (lanes / 2) : rows / 2 * kTileLanes;
    const int groups = (!to_tile ? in_tree : level == 0 ? kFirstLevel : 0) / size;
    const int apart = to_narrow ? kTileLanes : size;
    const int half = to_narrow ? (lanes + 1) / 2 : (rows + 1) / 2 * kTileLanes;
  ADD_GROUP:
    for (int group = 0; group < groups; ++group) {
#pragma HLS LOOP_TRIPCOUNT max = kTileLanes
#pragma HLS UNROLL
    ADD:
      for (int i = 0; i < size; ++i) {
#pragma HLS LOOP_TRIPCOUNT max = kTileLanes
#pragma HLS UNROLL
        const int f = group * apart + i;
        product[f] += to_tile ? (first ? 0.0f : so_far[f]) : product[f + half];
      }
    }
    rows = (rows + 1) / 2;
    lanes = (lanes + 1) / 2;
  }
  if (!to_tile) return;
ADD_REST:
  for (int f = kFirstLevel; f < kTile; ++f) {
#pragma HLS UNROLL
    product[f] += first ? 0.0f : so_far[f];
  }
KEEP:
  for (int f = 0; f < kTile; ++f) {
#pragma HLS UNROLL
    so_far[f] = product[f];
  }
}

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
