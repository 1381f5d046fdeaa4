// The norm unit: LayerNorm over rows, forward, again from the kept normalised values, and backward with the
// gradients of scale and shift. The same kNormLanes lanes serve all passes of all operations.
#pragma once

#include "norm_lanes.hpp"

namespace ttfpga {

// Extents of all operations: `stream` rows (at most kTokens) of `cols` elements (at most kNormWidth). Element
// (row, col) of an operand is at base + row * `row` + col; scale, shift and their gradients are one row, the
// inverse standard deviations one element a row, at base + row.
//
//   kNormForward   unit = (x - mean) * inverse with inverse = 1 / sqrt(variance + kNormEps);
//                  y = unit * scale + shift. The residual, if there is one, is added to x first.
//                  x, y and unit may be the same place as far as they don't overwrite each other's results.
//   kNormAgain     y = unit * scale + shift, from the kept unit.
//   kNormBackward  dx = (g - mean(g) - unit * mean(g * unit)) * inverse with g = dy * scale. dx and dy may be
//                  the same place. With the flag kNormTrains, the sums over the rows of dy * unit and of dy
//                  replace what the gradients held.

/// Operands of the norm's operations; those that an operation doesn't name are not looked at.
enum NormOperand {
  kNormIn = 0,       ///< x (kNormForward) or dy (kNormBackward)
  kNormUnit = 1,     ///< normalised values: written by kNormForward, read by the others
  kNormOut = 2,      ///< y (kNormForward, kNormAgain) or dx (kNormBackward)
  kNormScale = 3,    ///< read by all
  kNormInverse = 4,  ///< inverse standard deviations: written by kNormForward, read by kNormBackward
  kNormShift = 5,    ///< read by kNormForward and kNormAgain
  kNormCopy = 5,     ///< kNormBackward: dx once more, unless kNone
  kNormResidual = 6,  ///< kNormForward: added to x, unless kNone
  kNormDScale = 6,   ///< kNormBackward with kNormTrains
  kNormDShift = 7,   ///< kNormBackward with kNormTrains
};

/// Flag of kNormBackward: the gradients of scale and shift are wanted.
constexpr int kNormTrains = 1;

/// Passes over all rows. kNormForward: shift, moments, apply; kNormAgain: apply; kNormBackward: sums, apply.
///
/// The shift of a row is the mean of its first chunk, all that the first pass reads. The second sums x - shift
/// and its square at once: mean = shift + m1, variance = m2 - m1^2. Little cancels there: k of n elements have
/// a mean within sqrt(n/k - 1) standard deviations of all n's, so that m2 is at most n/k times the variance,
/// the number of chunks, and for most rows hardly more than it. Where the mean is large, x - shift is as exact
/// as x - mean. A variance that rounding makes negative, of a row of equal elements, counts as 0.
enum NormPass { kShiftPass, kMomentsPass, kSumsPass, kApplyPass };

constexpr int kNormChunks = (kNormWidth + kNormLanes - 1) / kNormLanes;

// A lane has 3 multipliers and 3 adders (one for the residual), and a place in two adder trees. Each row sum
// adds its tree's result to one of kSumDistance partial sums and joins them: 1 + (kSumDistance - 1) adders.
// Once a row: mean, slope or m2, slope * inverse or m1^2 (3 multiplications); -mean, m2 + kNormEps, minus m1^2
// (3 additions), the root of that, 1 / root. The second divider, 1 / cols, works once an instruction. Path:
// residual, g, g - mean, product, scaled, tree, partial sum, join, m2, m2 + kNormEps, minus m1^2, root, inverse.
constexpr Pipeline kNormPipeline = {
    "norm",
    {4, 5 + levels_of(kNormLanes) + levels_of(kSumDistance), 1, 1, 1},
    {3 * kNormLanes + 3, 3 * kNormLanes + 2 * (kNormLanes - 1) + 2 * kSumDistance + 3, 2, 1, 0},
};

/// Trips from the last of a row in one pass to its first in the next, which uses the sums of the one before:
/// time enough for the whole path, where no operator takes longer than an adder but root and division, which
/// take up to five times as long. Only `inverse` comes after those. The shift's successor doesn't use it; the
/// other passes store it, and one pipeline has one place for that. Where the other rows' trips don't fill the
/// time, the pass ends in idle trips.
constexpr int kNormSettle = kSumDistance * (kNormPipeline.path.mul + kNormPipeline.path.add);
constexpr int kNormSettleInverse =
    kNormSettle + kSumDistance * 5 * (kNormPipeline.path.div + kNormPipeline.path.sqrt);
static_assert(kNormSettleInverse >= depth_of(kNormPipeline), "inverse is stored when the next pass reads it");

inline int norm_settle(int pass) {
#pragma HLS INLINE
  return pass == kShiftPass ? kNormSettle : kNormSettleInverse;
}

/// Trips of a row in a pass: its chunks, of which the shift takes one. An accumulator of kNormTrains belongs
/// to a chunk and returns with the next row's: a row of few chunks is padded to kSumDistance trips.
inline int norm_row_trips(int pass, int chunks, bool trains) {
#pragma HLS INLINE
  if (pass == kShiftPass) return 1;
  return pass == kSumsPass && trains && chunks < kSumDistance ? kSumDistance : chunks;
}

/// Trips of a pass: its rows' and, unless it is the last, those that let its sums settle. In the next pass a
/// row takes `chunks` trips: where it takes more in this one, every row comes that much sooner than the one
/// before, and the last has the least time.
inline int norm_pass_trips(int pass, int rows, int chunks, int row_trips) {
#pragma HLS INLINE
  const int last = (row_trips < chunks ? row_trips : chunks) - 1;  // of a row's trips, that its sums end with
  const int sooner = row_trips > chunks ? (rows - 1) * (row_trips - chunks) : 0;
  const int least = pass == kApplyPass ? 0 : last + sooner + norm_settle(pass);
  return rows * row_trips < least ? least : rows * row_trips;
}

/// The unit's registers, and where in an operation it is.
struct Norm {
  Instruction job;
  bool busy;  ///< whether trips are left

  // Of each row, from one pass to the next: the mean, or at first the shift; slope is mean(g * unit) *
  // inverse. Kept with the sign they're added with.
  float minus_mean[kTokens], minus_slope[kTokens], inverse[kTokens];
  float partial[kSumDistance], slope_partial[kSumDistance];
  float d_scale[kNormChunks][kNormLanes], d_shift[kNormChunks][kNormLanes];
  float cols_inverse, shift_inverse;

  bool again, backward, trains;
  int rows, cols, chunks;
  // Rows one after another, chunks innermost.
  int pass, row_trips;
  int idle_until;  // the trip that is the next pass's first
  int trip, row, chunk, turn, wait;

  void begin(const Instruction& next, const Sentence& sentence) {
#pragma HLS INLINE
#pragma HLS ARRAY_PARTITION variable = job.operand complete
#pragma HLS BIND_STORAGE variable = minus_mean type = ram_s2p impl = LUTRAM
#pragma HLS BIND_STORAGE variable = minus_slope type = ram_s2p impl = LUTRAM
#pragma HLS BIND_STORAGE variable = inverse type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = partial complete
#pragma HLS ARRAY_PARTITION variable = slope_partial complete
#pragma HLS ARRAY_PARTITION variable = d_scale complete dim = 2
#pragma HLS BIND_STORAGE variable = d_scale type = ram_s2p impl = LUTRAM
#pragma HLS ARRAY_PARTITION variable = d_shift complete dim = 2
#pragma HLS BIND_STORAGE variable = d_shift type = ram_s2p impl = LUTRAM
    job = next;
    again = job.op == kNormAgain;
    backward = job.op == kNormBackward;
    trains = backward && (job.flags & kNormTrains) != 0;
    rows = extent(job.stream, sentence);
    cols = extent(job.cols, sentence);
    chunks = (cols + kNormLanes - 1) / kNormLanes;
    cols_inverse = 1.0f / static_cast<float>(cols);
    shift_inverse = chunks == 1 ? cols_inverse : 1.0f / kNormLanes;
    begin_pass(again ? kApplyPass : backward ? kSumsPass : kShiftPass);
    wait = 0;
    busy = rows > 0;
  }

  void begin_pass(int next) {
#pragma HLS INLINE
    pass = next;
    row_trips = norm_row_trips(pass, chunks, trains);
    idle_until = norm_pass_trips(pass, rows, chunks, row_trips);
    trip = row = chunk = turn = 0;
  }

  /// One cycle of a trip. One that takes several works in the first.
  void step(const Sentence&) {
#pragma HLS INLINE
    if (wait == 0 && row < rows && chunk < chunks) work();
    if (++wait < job.interval) return;
    wait = 0;
    ++chunk;
    turn = turn == kSumDistance - 1 ? 0 : turn + 1;
    if (chunk == row_trips) {
      chunk = turn = 0;
      ++row;
    }
    if (++trip < idle_until) return;
    busy = pass != kApplyPass;
    begin_pass(pass == kShiftPass ? kMomentsPass : kApplyPass);
  }

  void work() {
#pragma HLS INLINE
    const Operand &in_at = job.operand[kNormIn], &unit_at = job.operand[kNormUnit];
    const Operand &out_at = job.operand[kNormOut], &scale_at = job.operand[kNormScale];
    const Operand &shift_at = job.operand[kNormShift], &inverse_at = job.operand[kNormInverse];
    const Operand &copy_at = job.operand[kNormCopy], &residual_at = job.operand[kNormResidual];
    const Operand &d_scale_at = job.operand[kNormDScale], &d_shift_at = job.operand[kNormDShift];
    const bool sums = pass == kSumsPass, apply = pass == kApplyPass;
    const bool finds_shift = pass == kShiftPass, moments = pass == kMomentsPass;
    const bool last_chunk = chunk == chunks - 1;
    const int col = chunk * kNormLanes;
    const int count = last_chunk ? cols - col : kNormLanes;
    const float row_minus_mean = minus_mean[row], row_inverse = inverse[row];
    const float row_factor = again ? 1.0f : backward ? minus_slope[row] : row_inverse;

    // What a pass doesn't read of these it doesn't use.
    NormIn from = {};
    if (!again) read(in_at.array, in_at.base + row * in_at.row + col, count, from.in);
    if (!again && !backward && residual_at.array != kNone) {
      float residual[kNormLanes];
      read(residual_at.array, residual_at.base + row * residual_at.row + col, count, residual);
    NORM_RESIDUAL:
      for (int lane = 0; lane < kNormLanes; ++lane) {
#pragma HLS UNROLL
        from.in[lane] += residual[lane];
      }
    }
    if (again || backward) read(unit_at.array, unit_at.base + row * unit_at.row + col, count, from.kept);
    if (sums || apply) read(scale_at.array, scale_at.base + col, count, from.scale);
    if (apply && !backward) read(shift_at.array, shift_at.base + col, count, from.shift);
    if (sums) {
    NORM_GRADIENT_READ:
      for (int lane = 0; lane < kNormLanes; ++lane) {
#pragma HLS UNROLL
        from.scale_sum[lane] = row == 0 ? 0.0f : d_scale[chunk][lane];
        from.shift_sum[lane] = row == 0 ? 0.0f : d_shift[chunk][lane];
      }
    }
    NormOut made;
    norm_lanes({backward, again || backward, sums, moments, apply && backward},
               {row_minus_mean, row_factor, row_inverse, count}, from, made);

    if (!apply) {
      const bool first = chunk < kSumDistance;
      norm_add(made.to_sum, turn, first, partial);
      norm_add(made.to_slope, turn, first, slope_partial);
      if (finds_shift || last_chunk) {
        const int used = finds_shift ? 1 : first ? chunks : kSumDistance;
        const float mean = norm_join(partial, used) * (finds_shift ? shift_inverse : cols_inverse);
        const float slope = norm_join(slope_partial, used) * cols_inverse;
        float found_inverse[1] = {};
        if (sums) read(inverse_at.array, inverse_at.base + row, 1, found_inverse);
        // slope * inverse, or the square of m1.
        const float product = select_f32(moments, mean, slope) * select_f32(moments, mean, found_inverse[0]);
        if (moments) {
          found_inverse[0] = norm_inverse(slope, product);
          write(inverse_at.array, inverse_at.base + row, 1, found_inverse);
        }
        minus_mean[row] = select_f32(moments, row_minus_mean, 0.0f) - mean;
        minus_slope[row] = -product;
        inverse[row] = found_inverse[0];
      }
    }
    if (sums && trains) {
    NORM_GRADIENT_KEEP:
      for (int lane = 0; lane < kNormLanes; ++lane) {
#pragma HLS UNROLL
        d_scale[chunk][lane] = made.out[lane];
        d_shift[chunk][lane] = made.moved[lane];
      }
      if (row == rows - 1) {
        write(d_scale_at.array, d_scale_at.base + col, count, made.out);
        write(d_shift_at.array, d_shift_at.base + col, count, made.moved);
      }
    }
    if (apply) {
      if (!again && !backward) write(unit_at.array, unit_at.base + row * unit_at.row + col, count, made.unit);
      write(out_at.array, out_at.base + row * out_at.row + col, count, made.out);
      if (backward && copy_at.array != kNone) {
        write(copy_at.array, copy_at.base + row * copy_at.row + col, count, made.out);
      }
    }
  }
};

}  // namespace ttfpga
