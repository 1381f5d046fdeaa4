// The sequencer: runs a stretch of the program, each instruction on the unit that it is for, when those that
// it waits for have finished.
#pragma once

#include "engine.hpp"
#include "nonlinear.hpp"
#include "norm.hpp"
#include "taps.hpp"
#include "update.hpp"

namespace ttfpga {

constexpr Instruction kProgram[kInstructions] = {TTFPGA_PROGRAM};

#ifndef __SYNTHESIS__
/// Trips of each instruction's loop since the library was loaded: what the cycle model reads.
static uint64_t executed_trips[kInstructions];
#endif

/// The unit of an operation; kUnits for what only the trace wants.
inline int unit_of(int op) {
#pragma HLS INLINE
  if (op <= kToTile) return kEngine;
  if (op <= kNormBackward) return kNorm;
  return op == kTap || op == kClear ? kUnits : op == kUpdate ? kUpdating : kNonlinear;
}

/// Executes instruction `i`.
inline void execute(int i, const Sentence& sentence, const Taps& taps) {
  const Instruction& job = kProgram[i];
  Meter meter = {};
  switch (unit_of(job.op)) {
    case kEngine:
      engine(job, sentence, meter);
      break;
    case kNorm:
      norm(job, sentence, meter);
      break;
    case kNonlinear:
      nonlinear(job, sentence, meter);
      break;
    case kUpdating:
      update(job, sentence, meter);
      break;
    default:
      job.op == kTap ? tap(job, sentence, taps) : clear(job, taps);
  }
#ifndef __SYNTHESIS__
  executed_trips[i] += meter.trips;
#endif
}

/// The first instruction from `i` on of a unit, or `end`.
inline int next_of(int unit, int i, int end) {
#pragma HLS INLINE
NEXT:
  for (; i < end; ++i) {
#pragma HLS LOOP_TRIPCOUNT max = kInstructions
    if (unit_of(kProgram[i].op) == unit) break;
  }
  return i;
}

/// Whether an instruction must still wait, where every unit has reached its `next`.
inline bool waits(const Instruction& job, const int (&next)[kUnits]) {
#pragma HLS INLINE
  bool waiting = false;
WAITS:
  for (int unit = 0; unit < kUnits; ++unit) {
#pragma HLS UNROLL
    waiting = waiting || next[unit] <= job.wait[unit];
  }
  return waiting;
}

/// Instructions from `first` to the one before `end`, for one sentence.
///
/// With a trace they run in the program's order. Without one, each unit runs ahead as far as its waits let
/// it, the engine before the others: one of the orders that units side by side could take, and one that would
/// show a wait too few in other bits.
inline void run_program(int first, int end, const Sentence& sentence, const Taps& taps) {
#if TTFPGA_TAPS
  if (taps.trace != nullptr) {
    for (int i = first; i < end; ++i) execute(i, sentence, taps);
    return;
  }
#endif
  int next[kUnits];
#pragma HLS ARRAY_PARTITION variable = next complete
  int unfinished = 0;
QUEUES:
  for (int unit = 0; unit < kUnits; ++unit) {
    next[unit] = next_of(unit, first, end);
    unfinished += next[unit] < end ? 1 : 0;
  }
SEQUENCE:
  for (; unfinished > 0;) {
#pragma HLS LOOP_TRIPCOUNT max = kInstructions
  ISSUE:
    for (int unit = 0; unit < kUnits; ++unit) {
      if (next[unit] == end || waits(kProgram[next[unit]], next)) continue;
      execute(next[unit], sentence, taps);
      next[unit] = next_of(unit, next[unit] + 1, end);
      unfinished -= next[unit] < end ? 0 : 1;
      break;
    }
  }
}

}  // namespace ttfpga
