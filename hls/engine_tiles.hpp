// How a matrix is cut into the engine's tiles, and how a tile crosses between a memory, which gives two words
// a cycle, and the engine's registers.
#pragma once

#include "program.hpp"

namespace ttfpga {

constexpr int kTile = kTileRows * kTileLanes;

/// A function of the engine that g++ makes a copy of for each mode (see engine.hpp).
#define TTFPGA_FOR_MODE __attribute__((always_inline)) inline

// A tile lies in the registers by rows or, in kToNarrow, by columns: what is added in the tree's first levels
// then lies equally far apart in both modes, and the adders take it from one place.
//
// In hardware every register is one by itself, and every loop over them of constant length. g++ makes vectors
// of runs, the rows or columns: a column is whole vectors, of which the rest stays zero; a loop ends where
// the mode does; that of a run stays a loop (a short one would be unrolled first, and then not vectorised).
#ifdef __SYNTHESIS__
#define TTFPGA_STAYS_LOOP
constexpr int kColumn = kTileRows;
constexpr int run_of(int) { return 1; }
constexpr int bound_of(int most, int) { return most; }
#else
#define TTFPGA_STAYS_LOOP _Pragma("GCC unroll 1")
constexpr int kColumn = (kTileRows + 15) / 16 * 16;
constexpr int run_of(int line) { return line; }
constexpr int bound_of(int, int used) { return used; }
#endif
constexpr int kRegisters = kTileLanes * kColumn;

/// Operands of a contraction, as in Instruction::operand.
enum EngineOperand { kNarrow, kWide, kTileOperand, kAddend, kBias, kColumnSums };

// Flags of a contraction.
constexpr int kTransposed = 1;  ///< the tiled matrix lies in memory as (cols, rows)
constexpr int kApart = 2;       ///< tiles move between the streams, not beside them: they share a memory
constexpr int kBatchAlone = 4;  ///< kToTile: only tiles of one batch take turns

/// One tile of one batch.
struct TileAt {
  int batch, row_tile, col_tile;
};

/// A matrix (rows, cols) of each batch in tiles.
struct Tiling {
  int rows, cols;
  bool by_rows;  ///< tiles follow one another along the rows first

  int row_tiles() const { return (rows + kTileRows - 1) / kTileRows; }
  int col_tiles() const { return (cols + kTileLanes - 1) / kTileLanes; }

  int rows_of(const TileAt& at) const {
    const int left = rows - at.row_tile * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  int cols_of(const TileAt& at) const {
    const int left = cols - at.col_tile * kTileLanes;
    return left < kTileLanes ? left : kTileLanes;
  }

  TileAt after(const TileAt& at) const {
    TileAt next = at;
    if (by_rows) {
      if (++next.row_tile < row_tiles()) return next;
      next.row_tile = 0;
      if (++next.col_tile < col_tiles()) return next;
      next.col_tile = 0;
    } else {
      if (++next.col_tile < col_tiles()) return next;
      next.col_tile = 0;
      if (++next.row_tile < row_tiles()) return next;
      next.row_tile = 0;
    }
    ++next.batch;
    return next;
  }
};

// A tile moves in parts of at most kTileLanes elements: a row of a tile that lies by rows; of one that lies
// by columns a run of whole columns, which are neighbours in memory if the tile has all rows of the matrix.
constexpr int kColumnsAPart = kTileLanes / kTileRows;
constexpr int kMaxParts = kTileRows > kTileLanes / kColumnsAPart ? kTileRows : kTileLanes / kColumnsAPart + 1;

/// Parts of a tile.
inline int parts_of(const Tiling& tiling, const TileAt& at, bool by_columns) {
#pragma HLS INLINE
  return by_columns ? (tiling.cols_of(at) + kColumnsAPart - 1) / kColumnsAPart : tiling.rows_of(at);
}

/// What a part consists of: `runs` runs of `length` elements, `pitch` apart in memory from element `from` on.
struct Part {
  int from, pitch, runs, length;
};

inline Part part_of(const Instruction& job, const Tiling& tiling, const TileAt& at, int part, int base) {
#pragma HLS INLINE
  const int row0 = at.row_tile * kTileRows, col0 = at.col_tile * kTileLanes;
  const int pitch = job.operand[kTileOperand].row;
  if (!(job.flags & kTransposed)) return {base + (row0 + part) * pitch + col0, pitch, 1, tiling.cols_of(at)};
  const int first = part * kColumnsAPart, left = tiling.cols_of(at) - first;
  const int runs = left < kColumnsAPart ? left : kColumnsAPart;
  return {base + (col0 + first) * pitch + row0, pitch, runs, tiling.rows_of(at)};
}

/// One part of a tile from memory into the registers.
TTFPGA_FOR_MODE void load_part(int op, const Instruction& job, const Tiling& tiling, const TileAt& at,
                               int part, int base, float (&tile)[kRegisters]) {
#pragma HLS INLINE
  const bool by_columns = job.flags & kTransposed;
  const Part from = part_of(job, tiling, at, part, base);
LOAD_RUN:
  for (int run = 0; run < kColumnsAPart; ++run) {
#pragma HLS UNROLL
    if (run >= from.runs) continue;
    float lanes[kTileLanes];
    read(job.operand[kTileOperand].array, from.from + run * from.pitch, from.length, lanes);
  LOAD_LANE:
    for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      if (lane >= from.length) continue;
      const int row = by_columns ? lane : part, col = by_columns ? part * kColumnsAPart + run : lane;
      tile[op == kToNarrow ? col * kColumn + row : row * kTileLanes + col] = lanes[lane];
    }
  }
}

}  // namespace ttfpga
