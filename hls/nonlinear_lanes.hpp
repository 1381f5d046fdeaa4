// What the lanes of the nonlinear unit compute in one trip: GELU, tanh, softmax and their derivatives from
// one exponential and one division a lane. Each operator of the hardware stands here once.
#pragma once

#include "program.hpp"

namespace ttfpga {

// 2 u(x) = x (kGeluLinear + kGeluCubic x^2), where u is the argument of tanh in gelu.
constexpr float kGeluLinear = 1.59576912f;  // 2 sqrt(2/pi)
constexpr float kGeluCubic = 0.0713548163f;  // 2 sqrt(2/pi) 0.044715
constexpr float kGeluCubicSlope = 0.214064449f;  // 3 times that: (2 u)' = kGeluLinear + kGeluCubicSlope x^2

/// The setting of a multiplexer that stays for a pass: all bits or none. Made once, so that simulated lanes
/// need not make a mask of it in every trip.
using Setting = std::uint32_t;

inline Setting setting(bool yes) {
#pragma HLS INLINE
  return 0u - static_cast<Setting>(yes);
}

/// select_f32 by a setting.
inline float choose(Setting setting, float yes, float no) {
#pragma HLS INLINE
  return as_float((as_bits(yes) & setting) | (as_bits(no) & ~setting));
}

/// What all lanes do in a pass: where each operator's inputs come from.
struct LaneMode {
  Setting gelu;            ///< s of gelu, and in the backward pass its derivative
  Setting gelu_backward;
  Setting tanh;
  Setting tanh_backward;
  Setting times_dy;        ///< the result is a product with dy, else with x
  Setting one_plus;        ///< the divisor is 1 + the exponential, else `denominator`
  Setting pairs;           ///< the sum is over products of x and dy, else over exponentials
  Setting from_highest;    ///< the exponential is that of x - highest, else of -|x| times a slope
  Setting divides;         ///< the result is (a quotient - hot) * weight
  Setting of_exponential;  ///< that quotient is of the exponential, else of `numerator`
  Setting centers;         ///< the result is x (dy - mean)
};

/// What all lanes are given in a trip.
struct LaneValues {
  float highest, numerator, denominator, mean, weight;
  int count;  ///< lanes that hold elements
  int hot;    ///< lane of the label's class, or any other number
};

/// One trip of a pass. `out`: results; `summed`: what is summed over the row.
///
/// gelu in its tanh form, x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3): with e = e^(-2|u|) and
/// q = 1 / (1 + e) it is x s, where s is q for x >= 0 and e q for x < 0, the same without the cancellation in
/// 1 + tanh u. Its derivative is s + x s (1 - s) (2u)', where s (1 - s) = e q q. |x| is bounded at 16, where both
/// are exactly what they are beyond. tanh is 1 - 2 / (e^2|x| + 1), below 0.5625 tanh_near_zero. NaN stays.
///
/// Measured by tests/hls/elementary_accuracy.cpp, with stride 1: gelu on [-1, 10]: 3.61 ulp at
/// x = -0.99928629; on [-10, -1]: 210.6 ulp at x = -9.9817886, where one ulp in x moves the exact result by
/// hundreds, and 5.5e-8 absolute. Derivative on [-10, 10]: 2.2e-7 absolute; its zero at x = -0.7525 leaves no
/// bound in ulps. tanh with stride 101 on all finite x: 1.41 ulp at x = 0.56851488; it never falls as x rises.
inline void nonlinear_lanes(const LaneMode& mode, const LaneValues& given,
                            const float (&x)[kNonlinearLanes], const float (&dy)[kNonlinearLanes],
                            float (&summed)[kNonlinearLanes], float (&out)[kNonlinearLanes]) {
#pragma HLS INLINE
NONLINEAR_LANE:
  for (int lane = 0; lane < kNonlinearLanes; ++lane) {
#pragma HLS UNROLL
    const float a = absolute_f32(x[lane]);
    const float bounded = select_f32(a > 16.0f, 16.0f, a);
    const float square = choose(mode.pairs, x[lane], bounded) * choose(mode.pairs, dy[lane], bounded);

    // The exponential.
    const float slope = choose(mode.tanh, -2.0f, kGeluLinear + (kGeluCubic * square));
    const float below = x[lane] - given.highest;
    const float e = exp_f32(choose(mode.from_highest, below, -(bounded * slope)));
    summed[lane] = choose(mode.pairs, square, select_f32(lane < given.count, e, 0.0f));

    // The division.
    const float numerator = choose(mode.of_exponential, e, given.numerator);
    const float denominator = choose(mode.one_plus, 1.0f + e, given.denominator);
    const float quotient = numerator / denominator;

    // gelu: the other of s and 1 - s, and the derivative's second term.
    const bool negative = x[lane] < 0.0f;
    const float other = e * quotient;
    const float s = select_f32(negative, other, quotient);
    const float gentle = kGeluLinear + (kGeluCubicSlope * square);
    const float term = (bounded * gentle) * (other * quotient);

    // The result is a product of a sum.
    float base = 1.0f;
    base = choose(mode.gelu, s, base);
    base = choose(mode.divides, quotient, base);
    base = choose(mode.centers, dy[lane], base);
    float addend = 0.0f;
    addend = choose(mode.gelu_backward, select_f32(negative, -term, term), addend);
    addend = choose(mode.tanh, -quotient, addend);
    addend = choose(mode.tanh_backward, -square, addend);
    addend = select_f32(lane == given.hot, -1.0f, addend);
    addend = choose(mode.centers, -given.mean, addend);
    float factor = x[lane];
    factor = choose(mode.times_dy, dy[lane], factor);
    factor = choose(mode.tanh, select_f32(negative, -1.0f, 1.0f), factor);
    factor = choose(mode.divides, given.weight, factor);
    out[lane] = factor * (base + addend);
  }
}

/// tanh x for |x| < 0.5625, where 1 - 2 / (e^2|x| + 1) loses digits: an odd polynomial, x + x z p(z) with
/// z = x^2 and p of degree 4, fit error 2^-28.6. Nothing cancels, so the error stays relative to x.
inline float tanh_near_zero(float x) {
#pragma HLS INLINE
  const float z = x * x;
  float p = -6.17981423e-3f;
  p = (p * z) + 2.10074633e-2f;
  p = (p * z) - 5.38374297e-2f;
  p = (p * z) + 1.33324519e-1f;
  p = (p * z) - 3.33333135e-1f;
  return x + (x * (z * p));
}

/// The highest of the first `count` lanes and of `highest`, as a balanced tree. `highest`, for which a row's
/// next chunk waits, comes last: one comparison.
inline float highest_of_lanes(const float (&value)[kNonlinearLanes], int count, float highest) {
#pragma HLS INLINE
  const float lowest = as_float(0xff800000u);  // -infinity, which lanes beyond count as, and NaN
  float top[kNonlinearLanes];
HIGHEST_START:
  for (int lane = 0; lane < kNonlinearLanes; ++lane) {
#pragma HLS UNROLL
    top[lane] = lane < count && value[lane] > lowest ? value[lane] : lowest;
  }
HIGHEST_LEVEL:
  for (int n = kNonlinearLanes; n > 1; n = (n + 1) / 2) {
#pragma HLS UNROLL
    const int half = (n + 1) / 2;
  HIGHEST_LANE:
    for (int lane = 0; lane < n / 2; ++lane) {
#pragma HLS UNROLL
      top[lane] = top[half + lane] > top[lane] ? top[half + lane] : top[lane];
    }
  }
  return top[0] > highest ? top[0] : highest;
}

}  // namespace ttfpga
