// The program that the sequencer runs: instructions as data. What each operation means stands beside the
// unit that executes it; the program itself is generated (fpga_bridge.program.instructions).
#pragma once

#include "arrays.hpp"

namespace ttfpga {

/// Operations, by the unit that executes them; numbered as fpga_bridge.program.instructions.Op.
enum Op {
  kToWide,    ///< engine: wide = narrow tile
  kToNarrow,  ///< engine: narrow = wide tile^T
  kToTile,    ///< engine: tile = narrow^T wide
  kNormForward,
  kNormAgain,
  kNormBackward,
  kGelu,
  kGeluBackward,
  kTanh,
  kTanhBackward,
  kSoftmax,
  kSoftmaxBackward,
  kCrossEntropy,
  kJointLoss,
  kUpdate,
  kTap,
  kClear,
  kOps
};

/// Units, each of which runs its own instructions in the program's order.
enum Unit { kEngine, kNorm, kNonlinear, kUpdating, kUnits };

/// An extent of an instruction that is the sentence's length, known when it runs.
constexpr int kLength = -1;
/// Number of the array of an operand that is absent.
constexpr int kNone = -1;

/// Where the elements of an operand lie: element (batch, row, col) at base + batch * `batch` + row * `row` +
/// col of an array.
struct Operand {
  int array;  ///< number of the array, or kNone
  int base;   ///< first element
  int row;    ///< distance of rows
  int batch;  ///< distance of batches
  int digit;  ///< if not kNone: `batch` counts by this digit of the batch's token, not by its number
};

/// One instruction. Extents may be kLength. `Where`: an Operand or, in memory, its numbers (see sequencer.hpp).
template <class Where>
struct InstructionOf {
  int op;
  int rows, cols, stream, batches;  ///< extents; see the unit
  int interval;                     ///< cycles of a trip that its memories' ports need
  int load, load_interval;          ///< engine: parts that a tile moves in, and cycles of each
  int flags;
  int order;    ///< a digit: batches are the sentence's tokens in order of that digit, and what tokens of one
                ///< digit result in is one sum; or kNone: every batch has a result of its own
  int trace;    ///< taps: offset in the trace buffer
  float scale;
  int wait[kUnits];  ///< of each other unit, the instruction that must finish before this one begins, or
                     ///< kNone; of its own, the one that comes next, or kInstructions
  Where operand[kOperands];
};
using Instruction = InstructionOf<Operand>;

/// One sentence as the units see it.
struct Sentence {
  int length;  ///< [CLS] and words
  int intent;
  float rate;  ///< learning rate of the step
  int slots[kTokens];
  int digit[kEmbedCores][kTokens];  ///< mixed-radix digits of each token
  int order[kEmbedCores][kTokens];  ///< the tokens in order of each of their digits
};

/// The token, or the number, that a batch of an instruction stands for.
inline int batch_number(const Instruction& job, int batch, const Sentence& sentence) {
#pragma HLS INLINE
  return job.order == kNone ? batch : sentence.order[job.order][batch];
}

/// The digit that a batch is ordered by.
inline int ordered_digit(const Instruction& job, int batch, const Sentence& sentence) {
#pragma HLS INLINE
  return sentence.digit[job.order][sentence.order[job.order][batch]];
}

/// Whether a batch is the first, or the last, of those that result in one sum.
inline bool begins_sum(const Instruction& job, int batch, const Sentence& sentence) {
#pragma HLS INLINE
  return job.order == kNone || batch == 0 ||
         ordered_digit(job, batch, sentence) != ordered_digit(job, batch - 1, sentence);
}
inline bool ends_sum(const Instruction& job, int batch, const Sentence& sentence) {
#pragma HLS INLINE
  return job.order == kNone || batch == sentence.length - 1 ||
         ordered_digit(job, batch, sentence) != ordered_digit(job, batch + 1, sentence);
}

/// The value of an extent for a sentence.
inline int extent(int of_instruction, const Sentence& sentence) {
#pragma HLS INLINE
  return of_instruction == kLength ? sentence.length : of_instruction;
}

/// First element of batch `number` of an operand.
inline int batch_base(const Operand& operand, int number, const Sentence& sentence) {
#pragma HLS INLINE
  const int at = operand.digit == kNone ? number : sentence.digit[operand.digit][number];
  return operand.base + at * operand.batch;
}

}  // namespace ttfpga
