// The sequencer: the one loop of a step. In every iteration each of the four units does a trip of the
// instruction it works on; a unit takes its next one once those that it waits for have finished.
#pragma once

#include "engine.hpp"
#include "nonlinear.hpp"
#include "norm.hpp"
#include "taps.hpp"
#include "update.hpp"
#ifndef __SYNTHESIS__
#include "csim/interruption.hpp"
#endif

namespace ttfpga {

// In one word of memory a struct holds numbers and arrays, but no further structs (AMD's UG1399, AGGREGATE): an
// operand lies there as an array of its numbers.
constexpr int kOperandNumbers = 5;
using StoredInstruction = InstructionOf<int[kOperandNumbers]>;
static_assert(sizeof(StoredInstruction) == sizeof(Instruction), "an operand's numbers are its members");

constexpr StoredInstruction kProgram[kInstructions] = {TTFPGA_PROGRAM};

/// An instruction as the units take it.
inline Instruction unpacked(const StoredInstruction& from) {
#pragma HLS INLINE
  Instruction to = {from.op,   from.rows,          from.cols,  from.stream, from.batches, from.interval,
                    from.load, from.load_interval, from.flags, from.order,  from.trace,   from.scale,
                    {},        {}};
UNPACK_WAITS:
  for (int unit = 0; unit < kUnits; ++unit) {
#pragma HLS UNROLL
    to.wait[unit] = from.wait[unit];
  }
UNPACK_OPERANDS:
  for (int n = 0; n < kOperands; ++n) {
#pragma HLS UNROLL
    const int(&at)[kOperandNumbers] = from.operand[n];
    to.operand[n] = {at[0], at[1], at[2], at[3], at[4]};
  }
  return to;
}

#ifndef __SYNTHESIS__
/// Since the library was loaded, what the cycle model is held against: trips of each instruction, and cycles
/// of the loop.
static uint64_t executed_trips[kInstructions];
static uint64_t executed_cycles;
#endif

inline void count_trip(int i) {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
  ++executed_trips[i];
#endif
}

inline void count_iteration() {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
  executed_cycles += kInterval;
  stop_if_interrupted();
#endif
  TTFPGA_GUARD(iteration++);
}

/// Notes whose work it is, should an access leave its array or the work not end.
inline void work_on(int i) {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
  at_work = i;
#else
  static_cast<void>(i);
#endif
}

/// The unit of an operation; kUnits for what only the trace wants.
constexpr int unit_of(int op) {
  return op <= kToTile         ? kEngine
         : op <= kNormBackward ? kNorm
         : op < kUpdate        ? kNonlinear
         : op == kUpdate       ? kUpdating
                               : kUnits;
}

/// A unit's first instruction.
constexpr int first_of(int unit) {
  int i = 0;
  for (; i < kInstructions && unit_of(kProgram[i].op) != unit;) ++i;
  return i;
}

static Engine engine;
static Norm norm;
static Nonlinear nonlinear;
static Update update;

/// Where a unit is in the program.
struct Station {
  int at;            ///< the instruction that it works on or begins next, or one from the end on
  int after;         ///< the one that is fetched next, while that is at work
  int left;          ///< iterations until the results of the last trip are stored, that trip's included
  bool works;        ///< whether `at` has begun
  bool fetched;      ///< whether `next` holds an instruction
  Instruction next;  ///< the one to begin next
};

/// Whether a unit's next instruction must still wait for one of another unit.
inline bool waits(int unit, const Station (&stations)[kUnits]) {
#pragma HLS INLINE
  bool waiting = false;
WAITS:
  for (int other = 0; other < kUnits; ++other) {
#pragma HLS UNROLL
    waiting = waiting || (other != unit && stations[other].at <= stations[unit].next.wait[other]);
  }
  return waiting;
}

/// Reads the next instruction of the first unit that lacks one: the program's memory gives one an iteration, in
/// one word, where members would otherwise have a memory each.
inline void fetch(int end, Station (&stations)[kUnits]) {
#pragma HLS INLINE
#pragma HLS AGGREGATE variable = kProgram
#pragma HLS BIND_STORAGE variable = kProgram type = rom_1p impl = BRAM
  int unit = kUnits;
FETCH:
  for (int candidate = kUnits - 1; candidate >= 0; --candidate) {
#pragma HLS UNROLL
    if (!stations[candidate].fetched && stations[candidate].after < end) unit = candidate;
  }
  if (unit == kUnits) return;
  stations[unit].next = unpacked(kProgram[stations[unit].after]);
  stations[unit].fetched = true;
}

/// Whether nothing happens but one unit's trips, until it has finished: simulation does these in a row. What it
/// lacks is fetched in this iteration, since another that lacked its next would still work.
inline bool works_alone(const Station (&stations)[kUnits], const bool (&takes)[kUnits]) {
#pragma HLS INLINE
  int working = 0;
WORKING:
  for (int unit = 0; unit < kUnits; ++unit) {
#pragma HLS UNROLL
    working += (stations[unit].works ? 1 : 0) + (takes[unit] ? 2 : 0);
  }
  return working == 1;
}

/// One iteration of a unit: takes its next instruction, or does a trip of the one it works on, or waits until
/// the last trip's results are stored. `alone`: whether no other unit does anything meanwhile.
///
/// An instruction takes trips - 1 + depth iterations, from its first trip to the one before which its last
/// result is stored. It is handed over in the iteration before its first trip: the last one, at the earliest,
/// of those that it waits for.
template <int kUnit, int kDepth, class Unit>
void advance(bool takes, bool alone, const Sentence& sentence, Unit& unit, Station& station) {
#pragma HLS INLINE
  if (takes) {
    TTFPGA_GUARD(begin(station.at));
    work_on(station.at);
    unit.begin(station.next, sentence);
    station.after = station.next.wait[kUnit];
    station.left = kDepth - 1;
    station.works = true;
    station.fetched = false;
    return;
  }
  if (!station.works) return;
  TTFPGA_GUARD(working = station.at);
  work_on(station.at);
  if (unit.busy) {
    count_trip(station.at);
    unit.step(sentence);
  }
#ifndef __SYNTHESIS__
  // The same iterations, without a look at the other units in each.
  for (; alone && unit.busy;) {
    count_iteration();
    count_trip(station.at);
    unit.step(sentence);
  }
  for (; alone && station.left > 1; --station.left) count_iteration();
#endif
  TTFPGA_GUARD(working = -1);
  if (unit.busy || --station.left > 0) return;
  TTFPGA_GUARD(end(station.at));
  station.works = false;
  station.at = station.after;
}

/// Every unit's instructions before `end` that have not run: the one loop.
inline void run_units(int end, const Sentence& sentence, Station (&stations)[kUnits]) {
  bool takes[kUnits];
#pragma HLS ARRAY_PARTITION variable = takes complete
FETCH_FIRST:
  for (int unit = 0; unit < kUnits; ++unit) fetch(end, stations);
  bool unfinished = true;
SEQUENCE:
  for (; unfinished;) {
#pragma HLS LOOP_TRIPCOUNT max = 1000000
#pragma HLS PIPELINE II = kInterval
// How many iterations lie, at least, between one that stores and one that uses it (the units say why). Vitis
// lets no more cycles pass between read and store in the pipeline. To a sum another term is added after
// kSumDistance. What a pass of the norm finds in a row goes through most of the pipeline before the same trip
// stores what the next pass uses: for that, idle trips make the distance longer (norm_settle). What an array
// holds is read by an instruction that waits for the one that stores it; only the gradients of tokens add up
// in memory, kSumDistance iterations apart.
#pragma HLS DEPENDENCE variable = engine.c.sums inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = engine.c.part_sums inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = norm.minus_mean inter RAW distance = kNormSettle true
#pragma HLS DEPENDENCE variable = norm.minus_slope inter RAW distance = kNormSettleInverse true
#pragma HLS DEPENDENCE variable = norm.inverse inter RAW distance = kNormSettleInverse true
#pragma HLS DEPENDENCE variable = norm.d_scale inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = norm.d_shift inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = nonlinear.highest inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = nonlinear.sums inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = nonlinear.total inter RAW distance = kSumDistance true
#pragma HLS DEPENDENCE variable = nonlinear.weight inter RAW distance = kSumDistance true
    TTFPGA_ARRAYS(TTFPGA_INDEPENDENT)
    count_iteration();
  TAKE:
    for (int unit = 0; unit < kUnits; ++unit) {
#pragma HLS UNROLL
      takes[unit] = stations[unit].fetched && !stations[unit].works && !waits(unit, stations);
    }
    const bool alone = works_alone(stations, takes);
    fetch(end, stations);
    advance<kEngine, depth_of(kEnginePipeline)>(takes[kEngine], alone, sentence, engine, stations[kEngine]);
    advance<kNorm, depth_of(kNormPipeline)>(takes[kNorm], alone, sentence, norm, stations[kNorm]);
    advance<kNonlinear, depth_of(kNonlinearPipeline)>(takes[kNonlinear], alone, sentence, nonlinear,
                                                      stations[kNonlinear]);
    advance<kUpdating, depth_of(kUpdatePipeline)>(takes[kUpdating], alone, sentence, update,
                                                  stations[kUpdating]);
    unfinished = false;
  UNFINISHED:
    for (int unit = 0; unit < kUnits; ++unit) {
#pragma HLS UNROLL
      unfinished = unfinished || stations[unit].at < end;
    }
  }
}

/// The program up to the instruction before `end`, for one sentence. With a trace each instruction runs alone,
/// and the taps between them: their loops, as long as an array, could not be unrolled in the pipelined one.
inline void run_program(int end, const Sentence& sentence, const Taps& taps) {
  Station stations[kUnits];
#pragma HLS ARRAY_PARTITION variable = stations complete dim = 0
  constexpr int kFirst[kUnits] = {first_of(kEngine), first_of(kNorm), first_of(kNonlinear),
                                  first_of(kUpdating)};
STATIONS:
  for (int unit = 0; unit < kUnits; ++unit) {
    stations[unit].at = stations[unit].after = kFirst[unit];
    stations[unit].left = 0;
    stations[unit].works = stations[unit].fetched = false;
  }
  TTFPGA_GUARD(start());
  int to = 0;
STRETCHES:
  for (int from = 0; from < end; from = to) {
#pragma HLS LOOP_TRIPCOUNT max = 1
    to = traced(taps) ? from + 1 : end;
    work_on(from);
    if (traced(taps) && kProgram[from].op == kTap) {
      tap(unpacked(kProgram[from]), sentence, taps);
    } else if (traced(taps) && kProgram[from].op == kClear) {
      clear(unpacked(kProgram[from]));
    } else {
      run_units(to, sentence, stations);
    }
  }
}

}  // namespace ttfpga
