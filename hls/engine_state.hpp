// The engine's registers, and how it walks through a contraction: the tiles one after another or by turns,
// the rows of the stream, the parts of the tile that moves.
#pragma once

#include "engine_lanes.hpp"

namespace ttfpga {

// A result that takes part in a further sum comes at least kSumDistance trips after the one before, so that
// the adder's latency doesn't stall the loop: rows of the stream lie between them or, in kToTile, other
// tiles, and partial sums of one tile, which take turns.

constexpr int kTurns = 2 * kSumDistance;  // sums that take turns, at most

/// Tiles whose sums grow side by side in kToTile, from `first` on, each in `partials` sums.
struct Turns {
  TileAt first;
  int tiles, partials;
};

/// Partial sums of each tile that hold anything.
inline int partials_used(const Turns& turns, int stream) {
#pragma HLS INLINE
  return turns.partials < stream ? turns.partials : stream;
}

/// The tiles that take turns next, of `left` that are still to do: each in as many sums as fill kSumDistance
/// trips. Chosen among constants: the trips go by in the loop of one cycle, which has no time for a divider.
inline Turns take_turns(const TileAt& first, int left) {
#pragma HLS INLINE
  const int tiles = left < kSumDistance ? left : kSumDistance;
  int partials = 0;
PARTIALS:
  for (int n = 1; n <= kSumDistance; ++n) {
#pragma HLS UNROLL
    if (tiles == n) partials = (kSumDistance + n - 1) / n;
  }
  return {first, tiles, partials};
}

/// What the stream needs to know of a tile: found with its first row, kept for the others.
struct Visit {
  int rows, cols;                  // of the tile
  int narrow, wide, addend, bias;  // elements of these operands, and
  int sum;                         // number of the sum over several tiles, where the first row begins
  bool first, last;                // of the tiles that one sum is over
  bool sums_columns;               // in kToTile: whether the wide operand's columns are summed with this tile
};

/// The engine's registers, and where in a contraction it is.
struct EngineState {
  // Two tiles: one in use, one on its way in. Two sets of sums: one growing, one on its way out.
  float tile[2][kRegisters];
  float slots[2][kTurns][kTile];
  float column_sums[2][kTurns][kTileLanes];
  float part_sums[kMaxParts + 1][kTileLanes];  // of a tile that leaves; after its parts, its columns' sums
  // Sums over several tiles, by row of the stream (and tile of the result).
  float sums[kSumDepth][kTileLanes];

  Tiling tiling;
  int stream;                    // rows of it
  int now;                       // the tile, or the set of sums, in use
  TileAt at, moving;             // the tile that is multiplied, and the one that moves
  Turns turns, leaving;          // kToTile: tiles whose sums grow, and those whose sums leave
  TileAt after_turns;            // the tile that begins the next turns
  int to_do;                     // tiles, of all batches, whose stream has not begun
  int alike, all_alike;          // kToTile: those of them that may take turns with the next, and all such
  Visit visits[kSumDistance];    // the tiles that take turns
  int row, turn, wait;           // where in the stream
  int partial_turn;              // the partial sum whose turn it is
  int part, partial, part_wait;  // where in the transfer
  int leaving_turn;
  // A step: the stream beside, or before, a transfer, in cycles; and the cycle of the step that it is in.
  int streaming, transferring, cycle;
};

/// The visit of tile `c.at`.
TTFPGA_FOR_MODE Visit visit_of(int op, const Instruction& job, const Sentence& sentence,
                               const EngineState& c) {
#pragma HLS INLINE
  const bool to_wide = op == kToWide;
  const Operand &bias_at = job.operand[kBias], &addend_at = job.operand[kAddend];
  const int row0 = c.at.row_tile * kTileRows, col0 = c.at.col_tile * kTileLanes;
  const int number = batch_number(job, c.at.batch, sentence), element = to_wide ? col0 : row0;
  Visit visit = {};
  visit.rows = c.tiling.rows_of(c.at);
  visit.cols = c.tiling.cols_of(c.at);
  visit.narrow = batch_base(job.operand[kNarrow], number, sentence) + row0;
  visit.wide = batch_base(job.operand[kWide], number, sentence) + col0;
  visit.sums_columns = op == kToTile && job.operand[kColumnSums].array != kNone && c.at.row_tile == 0;
  if (op == kToTile) return visit;
  if (addend_at.array != kNone) visit.addend = batch_base(addend_at, number, sentence) + element;
  if (bias_at.array != kNone) visit.bias = bias_at.base + element;
  // A sum over the tiles of a contraction and, of tokens of one digit, over these.
  const int summed = to_wide ? c.at.row_tile : c.at.col_tile;
  const int n_summed = to_wide ? c.tiling.row_tiles() : c.tiling.col_tiles();
  visit.first = summed == 0 && begins_sum(job, c.at.batch, sentence);
  visit.last = summed == n_summed - 1 && ends_sum(job, c.at.batch, sentence);
  visit.sum = job.order == kNone ? 0 : (to_wide ? c.at.col_tile : c.at.row_tile) * c.stream;
  return visit;
}

/// The tiles of the next turns begin to grow; those of the last ones begin to leave.
inline void next_turns(EngineState& c) {
#pragma HLS INLINE
  c.leaving = c.turns;
  c.moving = c.turns.first;
  c.turns = take_turns(c.after_turns, c.to_do < c.alike ? c.to_do : c.alike);
  c.to_do -= c.turns.tiles;
  c.alike -= c.turns.tiles;
  if (c.alike == 0) c.alike = c.all_alike;
  c.at = c.turns.first;
  c.now = 1 - c.now;
}

/// To the beginning of a stream and of a transfer.
inline void restart(EngineState& c) {
#pragma HLS INLINE
  c.row = c.turn = c.wait = c.partial_turn = 0;
  c.part = c.partial = c.part_wait = c.leaving_turn = 0;
}

/// One trip of the stream further.
inline void step_stream(int op, const Instruction& job, EngineState& c) {
#pragma HLS INLINE
  if (++c.wait < job.interval) return;
  c.wait = 0;
  if (op != kToTile) {
    ++c.row;
    return;
  }
  // The first row walks the tiles; for the others they are known.
  if (c.row == 0) c.at = c.tiling.after(c.at);
  if (++c.turn < c.turns.tiles) return;
  if (c.row == 0) c.after_turns = c.at;
  c.turn = 0;
  ++c.row;
  c.partial_turn = c.partial_turn == c.turns.partials - 1 ? 0 : c.partial_turn + 1;
}

/// One trip of the transfer further.
inline void step_transfer(int op, const Instruction& job, EngineState& c) {
#pragma HLS INLINE
  if (++c.part_wait < job.load_interval) return;
  c.part_wait = 0;
  if (++c.part < job.load || op != kToTile) return;
  c.part = 0;
  if (++c.partial < partials_used(c.leaving, c.stream)) return;
  c.partial = 0;
  ++c.leaving_turn;
  c.moving = c.tiling.after(c.moving);
}

}  // namespace ttfpga
