// The update unit: plain SGD on parameters in place, on kUpdateLanes lanes of one pipelined loop.
#pragma once

#include "meter.hpp"
#include "program.hpp"

namespace ttfpga {

/// Operands of kUpdate, as in Instruction::operand: batches of `stream` rows of cols elements.
///
/// If the parameter has a digit, its batches are those of a table, one for each value of the digit, and only
/// those that a token of the sentence picks are updated: job.batches is not looked at.
enum UpdateOperand { kUpdateParameter, kUpdateGradient };

// Path: read, product, difference. Units: a lane has one multiplication and one addition.
constexpr Pipeline kUpdatePipeline = {"update", 1, {1, 1, 0, 0, 1}, {kUpdateLanes, kUpdateLanes, 0, 0, 0}};

/// parameter = parameter - rate * gradient.
inline void update(const Instruction& job, const Sentence& sentence, Meter& meter) {
  const Operand &parameter_at = job.operand[kUpdateParameter], &gradient_at = job.operand[kUpdateGradient];
  const int digit = parameter_at.digit;
  const int cols = extent(job.cols, sentence), stream = extent(job.stream, sentence);

  // The digit's values in the sentence, each once.
  int values[kTokens];
#pragma HLS ARRAY_PARTITION variable = values complete
  int n_values = 0;
UPDATE_VALUES:
  for (int t = 0; t < kTokens; ++t) {
#pragma HLS UNROLL
    const int token = t < sentence.length && digit != kNone ? sentence.order[digit][t] : 0;
    const int value = digit != kNone ? sentence.digit[digit][token] : 0;
    if (digit != kNone && t < sentence.length && (t == 0 || value != values[n_values - 1])) {
      values[n_values++] = value;
    }
  }
  const int batches = digit == kNone ? extent(job.batches, sentence) : n_values;

  int batch = 0, row = 0, col = 0;
UPDATE:
  for (; batch < batches;) {
#pragma HLS LOOP_TRIPCOUNT max = 100000
#pragma HLS PIPELINE II = 1
  UPDATE_METER:
    for (int cycle = 0; cycle < job.interval; ++cycle) {
#pragma HLS LOOP_TRIPCOUNT max = 4
      meter.trip();
    }
    const int number = digit == kNone ? batch : values[batch];
    const int at = parameter_at.base + number * parameter_at.batch + row * parameter_at.row + col;
    const int gradient0 = gradient_at.base + number * gradient_at.batch + row * gradient_at.row + col;
    const int count = cols - col < kUpdateLanes ? cols - col : kUpdateLanes;
    float parameter[kUpdateLanes], gradient[kUpdateLanes];
    read(parameter_at.array, at, count, parameter);
    read(gradient_at.array, gradient0, count, gradient);
  UPDATE_LANE:
    for (int lane = 0; lane < kUpdateLanes; ++lane) {
#pragma HLS UNROLL
      parameter[lane] = parameter[lane] - (sentence.rate * gradient[lane]);
    }
    write(parameter_at.array, at, count, parameter);

    col += kUpdateLanes;
    if (col >= cols) {
      col = 0;
      if (++row == stream) {
        row = 0;
        ++batch;
      }
    }
  }
}

}  // namespace ttfpga
