// The bodies of the units' pipelines, each as a function of words: fpga_bridge.rtl compiles them to dataflow
// graphs, as synthesis sees the sources, and to a library, as C simulation does.
#include "engine_lanes.hpp"
#include "nonlinear_lanes.hpp"
#include "norm_lanes.hpp"
#include "update.hpp"

#include "csim/flush_denormals.hpp"

#include <initializer_list>

namespace ttfpga {

/// Takes a body's operands, one after another: floats `x` and integers `n`.
struct Operands {
  const float* x;
  const int32_t* n;

  float number() { return *x++; }
  int32_t integer() { return *n++; }
  bool flag() { return integer() != 0; }
  Setting whole() { return static_cast<Setting>(integer()); }

  template <int kLanes>
  void take(float (&value)[kLanes]) {
    for (int lane = 0; lane < kLanes; ++lane) value[lane] = number();
  }
};

/// Writes a body's results, one after another.
struct Results {
  float* y;

  template <int kLanes>
  void give(const float (&value)[kLanes], int count = kLanes) {
    for (int lane = 0; lane < count; ++lane) *y++ = value[lane];
  }
};

/// A trip of kToWide or kToNarrow: what streams by, and the tile by rows. In kToNarrow a tile lies in the
/// registers by columns.
TTFPGA_FOR_MODE void sum_tile(int op, Operands& from, Results& to) {
  float narrow[kTileRows] = {}, wide[kTileLanes] = {}, tile[kRegisters] = {}, none[kTile] = {}, sum[kSums] = {};
  if (op == kToWide) from.take(narrow);
  if (op == kToNarrow) from.take(wide);
  for (int row = 0; row < kTileRows; ++row) {
    for (int lane = 0; lane < kTileLanes; ++lane) {
      tile[op == kToNarrow ? lane * kColumn + row : row * kTileLanes + lane] = from.number();
    }
  }
  multiply_add(op, narrow, wide, tile, false, none, sum);
  TileTree<kTileRows / 2, kTileLanes / 2>::add(op, sum);
  to.give(sum, op == kToWide ? kTileLanes : kTileRows);
}

}  // namespace ttfpga

using namespace ttfpga;

using Body = void(const float* x, const int32_t* n, float* y);

// The library shows these alone (it is compiled with hidden visibility).
#pragma GCC visibility push(default)

/// Begins a body: how many floats, integers and results it has. All operands are read before a result is
/// written.
#define BODY(name, floats, integers, results)                                   \
  static inline void of_##name(Operands from, Results to);                      \
  extern "C" const int32_t words_##name[] = {floats, integers, results};        \
  extern "C" void body_##name(const float* x, const int32_t* n, float* y) {     \
    of_##name({x, n}, {y});                                                     \
  }                                                                             \
  static inline void of_##name(Operands from, Results to)

BODY(engine_to_wide, kTileRows + kTile, 0, kTileLanes) { sum_tile(kToWide, from, to); }

BODY(engine_to_narrow, kTileLanes + kTile, 0, kTileRows) { sum_tile(kToNarrow, from, to); }

BODY(engine_to_tile, kTileRows + kTileLanes + kTile, 1, kTile) {
  float narrow[kTileRows], wide[kTileLanes], so_far[kTile], tile[kRegisters] = {}, sum[kSums] = {};
  from.take(narrow);
  from.take(wide);
  from.take(so_far);
  multiply_add(kToTile, narrow, wide, tile, from.flag(), so_far, sum);
  to.give(so_far);
}

BODY(norm_lanes, 3 + 6 * kNormLanes, 6, 5 * kNormLanes) {
  NormMode mode;
  mode.backward = from.flag();
  mode.kept = from.flag();
  mode.sums = from.flag();
  mode.moments = from.flag();
  mode.dx = from.flag();
  NormValues given;
  given.minus_mean = from.number();
  given.factor = from.number();
  given.inverse = from.number();
  given.count = from.integer();
  NormIn in;
  for (auto* value : {&in.in, &in.kept, &in.scale, &in.shift, &in.scale_sum, &in.shift_sum}) from.take(*value);
  NormOut out;
  norm_lanes(mode, given, in, out);
  for (auto* value : {&out.unit, &out.moved, &out.out, &out.to_sum, &out.to_slope}) to.give(*value);
}

BODY(norm_add, kNormLanes + 1, 1, 1) {
  float value[kNormLanes], partial[kSumDistance] = {};
  from.take(value);
  partial[0] = from.number();
  norm_add(value, 0, from.flag(), partial);
  to.give(partial, 1);
}

BODY(norm_join, kSumDistance, 1, 1) {
  float partial[kSumDistance];
  from.take(partial);
  to.give({norm_join(partial, from.integer())});
}

BODY(norm_inverse, 2, 0, 1) { to.give({norm_inverse(from.x[0], from.x[1])}); }

BODY(nonlinear_lanes, 5 + 2 * kNonlinearLanes, 13, 2 * kNonlinearLanes) {
  LaneMode mode;
  for (Setting* setting :
       {&mode.gelu, &mode.gelu_backward, &mode.tanh, &mode.tanh_backward, &mode.times_dy, &mode.one_plus,
        &mode.pairs, &mode.from_highest, &mode.divides, &mode.of_exponential, &mode.centers}) {
    *setting = from.whole();
  }
  LaneValues given;
  for (float* value : {&given.highest, &given.numerator, &given.denominator, &given.mean, &given.weight}) {
    *value = from.number();
  }
  given.count = from.integer();
  given.hot = from.integer();
  float x[kNonlinearLanes], dy[kNonlinearLanes], summed[kNonlinearLanes], out[kNonlinearLanes];
  from.take(x);
  from.take(dy);
  nonlinear_lanes(mode, given, x, dy, summed, out);
  to.give(summed);
  to.give(out);
}

BODY(nonlinear_sum, kNonlinearLanes, 0, 1) {
  float summed[kNonlinearLanes];
  from.take(summed);
  to.give({AdderTree<kNonlinearLanes>::sum(summed)});
}

BODY(nonlinear_highest, kNonlinearLanes + 1, 1, 1) {
  float x[kNonlinearLanes];
  from.take(x);
  to.give({highest_of_lanes(x, from.integer(), from.number())});
}

BODY(nonlinear_tanh, 1, 0, 1) { to.give({tanh_near_zero(from.number())}); }

BODY(nonlinear_log, 1, 0, 1) { to.give({log_f32(from.number())}); }

BODY(update_lanes, 1 + 2 * kUpdateLanes, 0, kUpdateLanes) {
  float gradient[kUpdateLanes], parameter[kUpdateLanes];
  const float rate = from.number();
  from.take(gradient);
  from.take(parameter);
  update_lanes(rate, gradient, parameter);
  to.give(parameter);
}

/// A body on many operands, in the hardware's arithmetic mode: x (count, floats), n (count, integers), y
/// (count, results). `words`: as it states them.
extern "C" void run_body(Body* body, const int32_t* words, int64_t count, const float* x, const int32_t* n,
                         float* y) {
  const FlushDenormals flush;
  for (int64_t i = 0; i < count; ++i) body(x + i * words[0], n + i * words[1], y + i * words[2]);
}

#pragma GCC visibility pop
