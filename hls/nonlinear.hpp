// The nonlinear unit: everything with an exponential (GELU, tanh, softmax, cross-entropy), forward and
// backward, on kNonlinearLanes lanes.
#pragma once

#include "adder_tree.hpp"
#include "nonlinear_lanes.hpp"
#include "pipeline.hpp"

namespace ttfpga {

/// Operands, as in Instruction::operand. An operation in place names the same place twice.
///
///   operation         rows                   kNonlinearX  kNonlinearDy  kNonlinearOut
///   kGelu             activations            x                          gelu(x)
///   kGeluBackward     activations            x            dy            dy gelu'(x)
///   kTanh             activations            x                          tanh(x)
///   kTanhBackward     activations            tanh(x)      dy            dy (1 - tanh(x)^2)
///   kSoftmax          a query's keys         scores s                   e^s / sum of e^s
///   kSoftmaxBackward  a query's keys         weights P    dP            P (dP - sum of dP P)
///   kCrossEntropy     logits of a position   logits                     their gradient
///   kJointLoss        one, of two losses     intent's and slots' loss   joint loss
///
/// Rows: batches times stream, of cols elements. Those of kCrossEntropy are one batch, its logits stay as
/// they are (out lies elsewhere), and its loss goes to the element where kNonlinearLoss begins.
enum NonlinearOperand { kNonlinearX, kNonlinearDy, kNonlinearOut, kNonlinearLoss };

/// Flag of kCrossEntropy: rows are the sentence's positions, their labels its slots, the loss is the mean
/// over the words, and [CLS], position 0, has none. Without the flag the one row's label is the intent.
constexpr int kSlotLabels = 1;

// Passes go by turns: a turn is one chunk of columns of every row. So the rows lie between a row's additions
// to its sum, at least kSumDistance trips; where there are fewer rows, idle trips fill up.
//
// A pass that needs a result of the one before must find it finished, though a trip uses it at an earlier
// stage of the pipeline than another made it at:
// - kDrain, from a row's last trip to the next pass: its sum is the adder tree and an addition later than the
//   exponential, its use as a divisor is one addition later than that.
// - kLogDrain, from the sums to their logarithm, which starts with the trip: 10 multiplications and 11
//   additions up to the exponential's end, the tree and the sum. None takes longer than an addition.
// - kTotalDrain, from the last row's loss to the mean: the loss is 5 additions later than the dividend.
constexpr int kDrain = (levels_of(kNonlinearLanes) + 1) * kSumDistance;
constexpr int kLogDrain = (22 + levels_of(kNonlinearLanes)) * kSumDistance;
constexpr int kTotalDrain = 5 * kSumDistance;

static_assert(kNonlinearLanes >= 2, "the joint loss is the sum of two lanes");

// Exponential: 9 multiplications, 10 additions, of which 7 and 10 on its path; logarithm: 14 and 13.
// Path: gelu's derivative: read; square, cubic, slope, argument; exponential; 1 + e, quotient; e q, e q q,
// term; sum and product. Units: a lane has 9 more multiplications (square, cubic, argument, gentle and its
// product, e q, e q q, term, result) and 5 more additions (slope, below, 1 + e, gentle, result); then the
// tree and the sum, tanh near zero (7 and 5), the logarithm and the losses (3 additions).
constexpr Pipeline kNonlinearPipeline = {
    "nonlinear",
    {14, 13, 1, 0, 1},
    {18 * kNonlinearLanes + 7 + 14, 16 * kNonlinearLanes + 5 + 13 + 3, kNonlinearLanes, 0, 0},
};

enum class NonlinearPass {
  kApply,        ///< element by element, with the row's sum if there is one
  kHighest,      ///< the highest element of each row; the weight of the gradients
  kExponential,  ///< the sum of e^(x - highest) of each row
  kDivide,       ///< those exponentials again, by their sum; the result
  kDot,          ///< the sum of x dy of each row
  kRowLoss,      ///< one row a turn: its loss into the total
  kMean,         ///< the loss from the total
  kJoin,         ///< the joint loss from the two
  kFinished
};

inline NonlinearPass first_pass(int op) {
#pragma HLS INLINE
  if (op == kSoftmax || op == kCrossEntropy) return NonlinearPass::kHighest;
  if (op == kSoftmaxBackward) return NonlinearPass::kDot;
  return op == kJointLoss ? NonlinearPass::kJoin : NonlinearPass::kApply;
}

inline NonlinearPass next_pass(NonlinearPass pass, int op) {
#pragma HLS INLINE
  switch (pass) {
    case NonlinearPass::kHighest: return NonlinearPass::kExponential;
    case NonlinearPass::kExponential: return NonlinearPass::kDivide;
    case NonlinearPass::kDivide:
      return op == kCrossEntropy ? NonlinearPass::kRowLoss : NonlinearPass::kFinished;
    case NonlinearPass::kDot: return NonlinearPass::kApply;
    case NonlinearPass::kRowLoss: return NonlinearPass::kMean;
    default: return NonlinearPass::kFinished;
  }
}

/// The trips of a pass: `turns` times `rows` filled up to `padded`, then `idle` ones.
struct NonlinearWalk {
  int turns, rows, padded, idle;
};

inline NonlinearWalk walk_of(NonlinearPass pass, int op, int rows, int chunks) {
#pragma HLS INLINE
  const bool sums =
      pass == NonlinearPass::kHighest || pass == NonlinearPass::kExponential || pass == NonlinearPass::kDot;
  const int filled = rows > kSumDistance ? rows : kSumDistance;
  NonlinearWalk walk = {chunks, rows, rows, 0};
  if (sums) walk = {chunks, rows, filled, filled < kDrain ? kDrain - filled : 0};
  if (pass == NonlinearPass::kRowLoss) walk = {rows, 1, kSumDistance, kTotalDrain - kSumDistance};
  if (pass == NonlinearPass::kMean || pass == NonlinearPass::kJoin) walk = {1, 1, 1, 0};
  if (pass == NonlinearPass::kDivide && op == kCrossEntropy) {
    walk.idle = chunks * rows < kLogDrain ? kLogDrain - chunks * rows : 0;
  }
  return walk;
}

/// What the lanes do in a pass.
inline LaneMode lane_mode(NonlinearPass pass, int op) {
#pragma HLS INLINE
  const bool divides = pass == NonlinearPass::kDivide;
  LaneMode mode;
  mode.gelu = setting(op == kGelu || op == kGeluBackward);
  mode.gelu_backward = setting(op == kGeluBackward);
  mode.tanh = setting(op == kTanh);
  mode.tanh_backward = setting(op == kTanhBackward);
  mode.times_dy = mode.gelu_backward | mode.tanh_backward;
  mode.one_plus = mode.gelu | mode.tanh;
  mode.pairs = setting(pass == NonlinearPass::kDot || pass == NonlinearPass::kJoin);
  mode.from_highest = setting(pass == NonlinearPass::kExponential || divides);
  mode.divides = setting(divides || pass == NonlinearPass::kHighest || pass == NonlinearPass::kMean);
  mode.of_exponential = setting(divides);
  mode.centers = setting(pass == NonlinearPass::kApply && op == kSoftmaxBackward);
  return mode;
}

/// The unit's registers, and where in an operation it is.
struct Nonlinear {
  Instruction job;
  bool busy;  ///< whether trips are left

  float highest[kMaxRows], sums[kMaxRows];
  float total[1], weight[1];

  int op, cols, stream, rows, lanes, chunks;
  bool slots, has_dy;
  float words;
  NonlinearPass pass;
  NonlinearWalk walk;
  LaneMode mode;
  int turn, line;        // trips of the pass
  int row, batch, wait;  // where row number `line` lies; cycles of the trip

  void begin(const Instruction& next, const Sentence& sentence) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable = job.operand complete
#pragma HLS BIND_STORAGE variable = highest type = ram_s2p impl = LUTRAM
#pragma HLS BIND_STORAGE variable = sums type = ram_s2p impl = LUTRAM
    job = next;
    op = job.op;
    cols = extent(job.cols, sentence);
    stream = extent(job.stream, sentence);
    rows = extent(job.batches, sentence) * stream;
    // tanh near zero has one lane.
    lanes = op == kTanh ? 1 : kNonlinearLanes;
    chunks = op == kTanh ? cols : (cols + kNonlinearLanes - 1) / kNonlinearLanes;
    slots = op == kCrossEntropy && (job.flags & kSlotLabels) != 0;
    words = slots ? static_cast<float>(sentence.length - 1) : 1.0f;
    has_dy = op == kGeluBackward || op == kTanhBackward || op == kSoftmaxBackward;
    total[0] = 0.0f;
    weight[0] = 1.0f;
    begin_pass(first_pass(op));
    turn = line = row = batch = wait = 0;
    busy = true;
  }

  void begin_pass(NonlinearPass next) {
#pragma HLS INLINE
    pass = next;
    walk = walk_of(pass, op, rows, chunks);
    mode = lane_mode(pass, op);
  }

  /// One cycle of a trip. One that takes several works in the first.
  void step(const Sentence& sentence) {
#pragma HLS INLINE
    if (wait == 0) work(sentence);
    if (++wait < job.interval) return;
    wait = 0;
    ++line;
    if (++row == stream) {
      row = 0;
      ++batch;
    }
    if (line < (turn < walk.turns ? walk.padded : walk.idle)) return;
    line = row = batch = 0;
    if (++turn < walk.turns + (walk.idle > 0 ? 1 : 0)) return;
    turn = 0;
    begin_pass(next_pass(pass, op));
    busy = pass != NonlinearPass::kFinished;
  }

  void work(const Sentence& sentence) {
#pragma HLS INLINE
    const Operand &x_at = job.operand[kNonlinearX], &dy_at = job.operand[kNonlinearDy];
    const bool active = turn < walk.turns && line < walk.rows;
    const bool of_loss = pass == NonlinearPass::kRowLoss, of_mean = pass == NonlinearPass::kMean;
    const bool joins = pass == NonlinearPass::kJoin, divides = pass == NonlinearPass::kDivide;
    const bool finds = pass == NonlinearPass::kHighest, applies = pass == NonlinearPass::kApply;
    const bool sums_up = pass == NonlinearPass::kExponential || pass == NonlinearPass::kDot;
    const int number = !active ? 0 : of_loss ? turn : line;
    const bool has_label = op == kCrossEntropy && (!slots || number > 0);
    const int label = slots ? sentence.slots[number] : sentence.intent;

    const int col = of_loss ? label : turn * lanes;
    const int left = of_loss ? (has_label ? 1 : 0) : cols - col;
    const int count = !active ? 0 : left < lanes ? left : lanes;
    const int row_at = of_loss ? turn : row;
    float x[kNonlinearLanes], dy[kNonlinearLanes];
  NONLINEAR_WEIGHTS:  // of the two losses, where no dy is read
    for (int lane = 0; lane < kNonlinearLanes; ++lane) {
#pragma HLS UNROLL
      dy[lane] = lane == 1 ? kSlotLossWeight : 1.0f;
    }
    read(x_at.array, batch_base(x_at, batch, sentence) + row_at * x_at.row + col, count, x);
    if (has_dy) read(dy_at.array, batch_base(dy_at, batch, sentence) + row_at * dy_at.row + col, count, dy);

    const float sum = sums[number];
    LaneValues given;
    given.highest = highest[number];
    given.numerator = op == kTanh ? 2.0f : of_mean ? total[0] : slots ? kSlotLossWeight : 1.0f;
    given.denominator = divides ? sum : words;
    given.mean = sum;
    given.weight = !divides ? 1.0f : slots && !has_label ? 0.0f : weight[0];
    given.count = count;
    given.hot = divides && has_label ? label - col : kNone;
    float summed[kNonlinearLanes], out[kNonlinearLanes];
    nonlinear_lanes(mode, given, x, dy, summed, out);

    if (op == kTanh && absolute_f32(x[0]) < 0.5625f) out[0] = tanh_near_zero(x[0]);
    const float sum_so_far = (turn > 0 ? sum : 0.0f) + AdderTree<kNonlinearLanes>::sum(summed);
    if (joins) out[0] = sum_so_far;
    if (active && sums_up) sums[number] = sum_so_far;
    if (active && finds) {
      highest[number] = highest_of_lanes(x, count, turn > 0 ? given.highest : x[0]);
      weight[0] = out[0];
    }
    if (active && of_loss && has_label) {
      total[0] = total[0] + ((log_f32(sum) + given.highest) - x[0]);
    }
    if (applies || divides || of_mean || joins) {
      const Operand& to = job.operand[of_mean ? kNonlinearLoss : kNonlinearOut];
      const int written = of_mean || joins ? 1 : count;
      write(to.array, batch_base(to, batch, sentence) + row_at * to.row + col, active ? written : 0, out);
    }
  }
};

}  // namespace ttfpga
