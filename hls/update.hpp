// The update unit: plain SGD on parameters in place, on kUpdateLanes lanes.
#pragma once

#include "pipeline.hpp"

namespace ttfpga {

/// Operands of kUpdate, as in Instruction::operand: batches of `stream` rows of cols elements.
///
/// If the parameter has a digit, its batches are those of a table, one for each value of the digit, and only
/// those that a token of the sentence picks are updated: job.batches is not looked at.
enum UpdateOperand { kUpdateParameter, kUpdateGradient };

// Path: read, product, difference. Units: a lane has one multiplication and one addition.
constexpr Pipeline kUpdatePipeline = {"update", {1, 1, 0, 0, 1}, {kUpdateLanes, kUpdateLanes, 0, 0, 0}};

/// One trip: parameter = parameter - rate * gradient.
inline void update_lanes(float rate, const float (&gradient)[kUpdateLanes],
                         float (&parameter)[kUpdateLanes]) {
#pragma HLS INLINE
UPDATE_LANE:
  for (int lane = 0; lane < kUpdateLanes; ++lane) {
#pragma HLS UNROLL
    parameter[lane] = parameter[lane] - (rate * gradient[lane]);
  }
}

/// The unit's registers, and where in an instruction it is.
struct Update {
  Instruction job;
  bool busy;  ///< whether trips are left

  int values[kTokens];    // of the digit, in the order of the sentence's tokens by it
  bool differs[kTokens];  // whether that is another value than the one before, and so a batch of the table
  int cols, stream, batches;
  int batch, row, col, wait;

  void begin(const Instruction& next, const Sentence& sentence) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable = job.operand complete
#pragma HLS ARRAY_PARTITION variable = values complete
#pragma HLS ARRAY_PARTITION variable = differs complete
    job = next;
    const int digit = job.operand[kUpdateParameter].digit;
    cols = extent(job.cols, sentence);
    stream = extent(job.stream, sentence);
    batches = digit == kNone ? extent(job.batches, sentence) : sentence.length;
  UPDATE_VALUES:
    for (int t = 0; t < kTokens; ++t) {
#pragma HLS UNROLL
      const bool picks = digit != kNone && t < sentence.length;
      values[t] = picks ? sentence.digit[digit][sentence.order[digit][t]] : 0;
      differs[t] = picks && (t == 0 || values[t] != values[t - 1]);
    }
    batch = row = col = wait = 0;
    busy = batches > 0;
  }

  /// One cycle of a trip. One that takes several works in the first.
  void step(const Sentence& sentence) {
#pragma HLS INLINE
    if (wait == 0) subtract(sentence);
    if (++wait < job.interval) return;
    wait = 0;
    col += kUpdateLanes;
    if (col < cols) return;
    col = 0;
    if (++row < stream) return;
    row = 0;
    batch = next_batch();
    busy = batch < batches;
  }

  void subtract(const Sentence& sentence) {
#pragma HLS INLINE
    const Operand &parameter_at = job.operand[kUpdateParameter], &gradient_at = job.operand[kUpdateGradient];
    const int number = parameter_at.digit == kNone ? batch : values[batch];
    const int at = parameter_at.base + number * parameter_at.batch + row * parameter_at.row + col;
    const int gradient0 = gradient_at.base + number * gradient_at.batch + row * gradient_at.row + col;
    const int count = cols - col < kUpdateLanes ? cols - col : kUpdateLanes;
    float parameter[kUpdateLanes], gradient[kUpdateLanes];
    read(parameter_at.array, at, count, parameter);
    read(gradient_at.array, gradient0, count, gradient);
    update_lanes(sentence.rate, gradient, parameter);
    write(parameter_at.array, at, count, parameter);
  }

  /// The batch after this one; of a table, the next token in order that picks another.
  int next_batch() const {
#pragma HLS INLINE
    if (job.operand[kUpdateParameter].digit == kNone) return batch + 1;
    int next = batches;
  UPDATE_NEXT:
    for (int t = kTokens - 1; t > 0; --t) {
#pragma HLS UNROLL
      if (t > batch && differs[t]) next = t;
    }
    return next;
  }
};

}  // namespace ttfpga
