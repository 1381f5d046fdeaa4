// The contraction engine: all matrix-like work of a step. A tile of multiply-accumulators computes the form
// sum over r, c of narrow[r] tile[r][c] wide[c]: given two of the three, its derivative by the third.
#pragma once

#include "engine_state.hpp"

namespace ttfpga {

// A product C = A B has three uses: y = x W, dx = dy W^T, dW = x^T dy. One of x and y is the narrow operand,
// the other the wide one, W is cut into tiles; each use is one mode:
//
//   kToWide    wide[s][c]   = sum over r of narrow[s][r] tile[r][c]    a tile stays, rows s stream by
//   kToNarrow  narrow[s][r] = sum over c of wide[s][c] tile[r][c]      a tile stays, rows s stream by
//   kToTile    tile[r][c]   = sum over s of narrow[s][r] wide[s][c]    sums stay, rows s stream by
//
// A trip is one row s against one tile: kTileRows narrow and kTileLanes wide elements. The next tile is
// loaded, or the last sums are stored, in the shadow of the stream. Nothing is transposed in memory: a tile
// that lies there by columns changes hands on its way into the registers.

/// Executes trip `row` of the stream on the current tile.
TTFPGA_FOR_MODE void engine_stream(int op, const Instruction& job, const Sentence& sentence, EngineState& c) {
#pragma HLS INLINE
  const bool to_tile = op == kToTile, to_wide = op == kToWide;
  const Operand &narrow_at = job.operand[kNarrow], &wide_at = job.operand[kWide];
  if (c.row == 0) c.visits[c.turn] = visit_of(op, job, sentence, c);
  const Visit& visit = c.visits[c.turn];
  const int narrow0 = visit.narrow + c.row * narrow_at.row, wide0 = visit.wide + c.row * wide_at.row;
  float narrow[kTileRows] = {}, wide[kTileLanes] = {}, product[kSums];
// Which of their elements an operator takes depends on the mode.
#pragma HLS ARRAY_PARTITION variable = wide complete
#pragma HLS ARRAY_PARTITION variable = product complete
  if (to_tile || to_wide) read(narrow_at.array, narrow0, visit.rows, narrow);
  if (to_tile || !to_wide) read(wide_at.array, wide0, visit.cols, wide);
  scale_narrow(job.scale, narrow);

  const int slot = c.turn * c.turns.partials + c.partial_turn;
  const bool first_of_slot = c.row < c.turns.partials;
  multiply_add(op, narrow, wide, c.tile[c.now], first_of_slot, c.slots[c.now][slot], product);
  if (to_tile) {
    if (visit.sums_columns) {
      float columns[kTileLanes];
    COLUMNS:
      for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
        columns[lane] = first_of_slot ? 0.0f : c.column_sums[c.now][slot][lane];
      }
      add_lanes(columns, wide);
    COLUMNS_KEEP:
      for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
        c.column_sums[c.now][slot][lane] = columns[lane];
      }
    }
    return;
  }

  TileTree<kTileRows / 2, kTileLanes / 2>::add(op, product);
  const int sum = visit.sum + c.row;
  float total[kTileLanes];
TOTAL:
  for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
    total[lane] = to_wide || lane < kTileRows ? product[lane] : 0.0f;
  }
  if (!visit.first) add_lanes(total, c.sums[sum]);
  if (!visit.last) {
  SUM_KEEP:
    for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      c.sums[sum][lane] = total[lane];
    }
    return;
  }
  const int count = to_wide ? visit.cols : visit.rows;
  const Operand &bias_at = job.operand[kBias], &addend_at = job.operand[kAddend];
  const bool has_bias = bias_at.array != kNone, has_addend = addend_at.array != kNone;
  if (!to_wide) scale_narrow(job.scale, total);
  // Bias and addend are added to each other while the tree still works.
  float more[kTileLanes] = {}, bias[kTileLanes] = {};
  if (has_bias) read(bias_at.array, visit.bias, count, bias);
  if (has_addend) read(addend_at.array, visit.addend + c.row * addend_at.row, count, more);
  if (has_bias && has_addend) add_lanes(bias, more);
  if (has_bias) {
  WITH_BIAS:
    for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      more[lane] = bias[lane];
    }
  }
  if (has_bias || has_addend) add_lanes(total, more);
  write(to_wide ? wide_at.array : narrow_at.array, to_wide ? wide0 : narrow0, count, total);
}

/// Adds partial sum `c.partial` of one part of a tile to those before; with the last one the part is stored.
inline void engine_store(const Instruction& job, const Sentence& sentence, EngineState& c) {
#pragma HLS INLINE
  const Operand& tile_at = job.operand[kTileOperand];
  const Operand& column_at = job.operand[kColumnSums];
  const bool by_columns = job.flags & kTransposed;
  const int parts = parts_of(c.tiling, c.moving, by_columns);
  const bool is_columns = c.part == parts && column_at.array != kNone && c.moving.row_tile == 0;
  if (c.part >= parts && !is_columns) return;

  const int slot = c.leaving_turn * c.leaving.partials + c.partial;
  float more[kTileLanes];
TAKE:
  for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
    const int row = by_columns ? lane % kTileRows : c.part;
    const int col = by_columns ? c.part * kColumnsAPart + lane / kTileRows : lane;
    const bool inside = row < kTileRows && col < kTileLanes;
    more[lane] = is_columns ? c.column_sums[1 - c.now][slot][lane]
                            : inside ? c.slots[1 - c.now][slot][row * kTileLanes + col] : 0.0f;
  }
  float(&total)[kTileLanes] = c.part_sums[c.part];
  if (c.partial == 0) {
  BEGIN:
    for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      total[lane] = 0.0f;
    }
  }
  add_lanes(total, more);
  if (c.partial < partials_used(c.leaving, c.stream) - 1) return;

  if (is_columns) {
    const int first = column_at.base + c.moving.col_tile * kTileLanes;
    write(column_at.array, first, c.tiling.cols_of(c.moving), total);
    return;
  }
  const int base = batch_base(tile_at, batch_number(job, c.moving.batch, sentence), sentence);
  const Part to = part_of(job, c.tiling, c.moving, c.part, base);
  const bool adds = !begins_sum(job, c.moving.batch, sentence);
  // The runs lie side by side in `total`, and so does what they add to: one row of adders serves them all.
  float stored[kTileLanes], lanes[kTileLanes] = {};
STORE_LANE:
  for (int lane = 0; lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
    stored[lane] = total[lane];
  }
  if (adds) {
  ADD_RUN:
    for (int run = 0; run < kColumnsAPart; ++run) {
#pragma HLS UNROLL
      if (run >= to.runs) continue;
      read(tile_at.array, to.from + run * to.pitch, to.length, lanes);
    ADD_RUN_LANE:
      for (int lane = 0; run * kTileRows + lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
        if (lane < to.length) more[run * kTileRows + lane] = lanes[lane];
      }
    }
    add_lanes(stored, more);
  }
STORE_RUN:
  for (int run = 0; run < kColumnsAPart; ++run) {
#pragma HLS UNROLL
    if (run >= to.runs) continue;
  STORE_RUN_LANE:
    for (int lane = 0; run * kTileRows + lane < kTileLanes; ++lane) {
#pragma HLS UNROLL
      lanes[lane] = stored[run * kTileRows + lane];
    }
    write(tile_at.array, to.from + run * to.pitch, to.length, lanes);
  }
}

/// Moves one part of a tile: of the next one in, or of sums out.
TTFPGA_FOR_MODE void engine_transfer(int op, const Instruction& job, const Sentence& sentence,
                                     EngineState& c) {
#pragma HLS INLINE
  if (op == kToTile) {
    engine_store(job, sentence, c);
  } else if (c.part < parts_of(c.tiling, c.moving, job.flags & kTransposed)) {
    const int number = batch_number(job, c.moving.batch, sentence);
    const int base = batch_base(job.operand[kTileOperand], number, sentence);
    load_part(op, job, c.tiling, c.moving, c.part, base, c.tile[1 - c.now]);
  }
}

/// The engine's registers, and where in a contraction it is. Extents: `rows` of the narrow operand, `cols` of
/// the wide one, `stream` rows of both, `batches` of all three (heads, or tokens); `scale` of what is narrow.
/// Further operands: an addend of a streamed result, laid out like it, a bias along it and, in kToTile, a place
/// for the sums of the wide operand's columns.
struct Engine {
  Instruction job;
  bool busy;  ///< whether trips are left
  EngineState c;

  void begin(const Instruction& next, const Sentence& sentence) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable = job.operand complete
#pragma HLS ARRAY_PARTITION variable = c.tile complete dim = 0
// The sums that grow and those that leave are memories of their own: one is read and written in a cycle, the
// other read.
#pragma HLS ARRAY_PARTITION variable = c.slots complete dim = 1
#pragma HLS ARRAY_PARTITION variable = c.slots complete dim = 3
#pragma HLS BIND_STORAGE variable = c.slots type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = c.column_sums complete dim = 1
#pragma HLS ARRAY_PARTITION variable = c.column_sums complete dim = 3
#pragma HLS BIND_STORAGE variable = c.column_sums type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = c.part_sums complete dim = 2
#pragma HLS BIND_STORAGE variable = c.part_sums type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = c.sums complete dim = 2
#pragma HLS BIND_STORAGE variable = c.sums type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = c.visits complete
    job = next;
    c.tiling = {extent(job.rows, sentence), extent(job.cols, sentence), job.op == kToWide};
    c.stream = extent(job.stream, sentence);
    const int of_batch = c.tiling.row_tiles() * c.tiling.col_tiles();
    c.to_do = extent(job.batches, sentence) * of_batch;
    c.alike = c.all_alike = job.flags & kBatchAlone ? of_batch : c.to_do;
    c.now = 0;
    restart(c);
    c.moving = c.after_turns = {0, 0, 0};
    c.turns = {c.moving, 0, 0};
    // Lanes beyond a ragged edge multiply zeros by what is there: it must be numbers.
  CLEAR_TILES:
    for (int f = 0; f < kRegisters; ++f) {
#pragma HLS UNROLL
      c.tile[0][f] = 0.0f;
      c.tile[1][f] = 0.0f;
    }

    // The first step only loads, or only streams.
    c.streaming = c.transferring = c.cycle = 0;
    busy = c.to_do > 0;
    if (job.op == kToTile) {
      next_turns(c);
      c.streaming = c.turns.tiles * c.stream * job.interval;
    } else {
      c.transferring = job.load * job.load_interval;
    }
  }

  /// One cycle. The hardware has one engine. For simulation there is a copy of it for each mode, in which the
  /// choices between modes are made beforehand: g++ vectorises these.
  void step(const Sentence& sentence) {
#pragma HLS INLINE
#ifdef __SYNTHESIS__
    step_as(job.op, sentence);
#else
    switch (job.op) {
      case kToWide: return step_as(kToWide, sentence);
      case kToNarrow: return step_as(kToNarrow, sentence);
      default: return step_as(kToTile, sentence);
    }
#endif
  }

  TTFPGA_FOR_MODE void step_as(int op, const Sentence& sentence) {
#pragma HLS INLINE
    const bool to_tile = op == kToTile, apart = job.flags & kApart;
    if (c.cycle < c.streaming) {
      if (c.wait == 0) engine_stream(op, job, sentence, c);
      step_stream(op, job, c);
    }
    if (apart ? c.cycle >= c.streaming : c.cycle < c.transferring) {
      if (c.part_wait == 0) engine_transfer(op, job, sentence, c);
      step_transfer(op, job, c);
    }
    const int longer = c.streaming > c.transferring ? c.streaming : c.transferring;
    if (++c.cycle < (apart ? c.streaming + c.transferring : longer)) return;

    c.cycle = 0;
    restart(c);
    const int transfer = job.load * job.load_interval;
    if (to_tile) {
      busy = c.turns.tiles > 0;
      next_turns(c);
      c.streaming = c.turns.tiles * c.stream * job.interval;
      c.transferring = c.leaving.tiles * partials_used(c.leaving, c.stream) * transfer;
    } else {
      busy = c.to_do > 0;
      c.at = c.moving;
      c.now = 1 - c.now;
      --c.to_do;
      c.moving = c.tiling.after(c.at);
      c.streaming = c.stream * job.interval;
      c.transferring = c.to_do > 0 ? transfer : 0;
    }
  }
};

}  // namespace ttfpga
