// Elementary functions of the kernel in float32, written out in +, -, *, / and comparisons: the card and
// the simulation give the same bits, whatever maths library is at hand.
#pragma once

#include <cstdint>

// Each of +, -, *, / rounds once, in the order that parentheses and statements give: compile without
// contraction to fused multiply-add (-ffp-contract=off). Denormals are zero, as operands and as results.
//
// The polynomials are fitted for this file: a Remez exchange in 40-digit arithmetic that levels the relative
// error of the whole function, then coefficients rounded to float32. "Fit error" is the relative error of
// the rounded polynomial evaluated exactly; half an ulp is 2^-25 to 2^-24.
//
// "Measured" is the largest error over every normal float32 of the range named, against the C library's
// double: tests/hls/elementary_accuracy.cpp with stride 1. An ulp is float32's spacing at the exact result.
namespace ttfpga {

inline std::uint32_t as_bits(float value) {
#pragma HLS INLINE
  union {
    float number;
    std::uint32_t bits;
  } cast;
  cast.number = value;
  return cast.bits;
}

inline float as_float(std::uint32_t bits) {
#pragma HLS INLINE
  union {
    std::uint32_t bits;
    float number;
  } cast;
  cast.bits = bits;
  return cast.number;
}

constexpr std::uint32_t kSignBit = 0x80000000u;
constexpr std::uint32_t kSmallestNormalBits = 0x00800000u;
constexpr std::uint32_t kInfinityBits = 0x7f800000u;
constexpr std::uint32_t kNanBits = 0x7fc00000u;

// ln 2 in two parts (Cody and Waite): the high part, 355/512, has 9 significant bits, so that its product
// with an exponent of up to 8 bits is exact.
constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -2.12194440e-4f;

// 2 u(x) = x (kGeluLinear + kGeluCubic x^2), where u is the argument of tanh in gelu.
constexpr float kGeluLinear = 1.59576912f;  // 2 sqrt(2/pi)
constexpr float kGeluCubic = 0.0713548163f;  // 2 sqrt(2/pi) 0.044715
constexpr float kGeluCubicSlope = 0.214064449f;  // 3 times that: (2 u)' = kGeluLinear + kGeluCubicSlope x^2

// A multiplexer. Spelled with a mask because from ?: g++ may make a branch around the arithmetic of one
// side, and a loop with a branch does not vectorise. Special cases are selects after one straight path.
inline float select_f32(bool condition, float yes, float no) {
#pragma HLS INLINE
  const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
  return as_float((as_bits(yes) & mask) | (as_bits(no) & ~mask));
}

inline float absolute_f32(float x) {
#pragma HLS INLINE
  return as_float(as_bits(x) & ~kSignBit);
}

// e^x. Used for softmax and gelu (x <= 0) and for tanh (x >= 0).
// Below -87.33 exactly 0 (just before results would be denormal), above 88.72283 infinity, NaN stays NaN.
//
// x = n ln 2 + r with |r| <= ln 2 / 2, then e^r = 1 + (r + r^2 q(r)) with q of degree 4, fit error 2^-27.7
// on |r| <= 0.3469, then n added to the exponent field.
// Measured on [-87.33, 88.72283]: 0.99 ulp at x = -27.378984; it never falls as x rises.
inline float exp_f32(float x) {
#pragma HLS INLINE
  // Adding 1.5 * 2^23 rounds to the nearest integer, and leaves that integer in the low bits.
  const float kRounder = 12582912.0f;
  const float shifted = (x * 1.44269504f) + kRounder;
  const float n = shifted - kRounder;
  const float r = (x - (n * kLn2High)) - (n * kLn2Low);

  float q = 1.38144870e-3f;
  q = (q * r) + 8.36877618e-3f;
  q = (q * r) + 4.16683927e-2f;
  q = (q * r) + 1.66665196e-1f;
  q = (q * r) + 4.99999940e-1f;
  const float power = 1.0f + (r + ((r * r) * q));

  // The shift drops the rounder's own bits. Inside the range the sum stays a normal float; outside it is
  // not used.
  float y = as_float(as_bits(power) + (as_bits(shifted) << 23));
  y = select_f32(x < -87.33f, 0.0f, y);
  y = select_f32(x > 88.72283f, as_float(kInfinityBits), y);
  return select_f32(x == x, y, x);
}

// tanh x, for all x: odd, exactly +-1 at large |x|, x itself at tiny |x|; NaN stays NaN.
//
// Below 0.5625 an odd polynomial, x + x z p(z) with z = x^2 and p of degree 4, fit error 2^-28.6: nothing
// cancels, so the error stays relative to x. Above, 1 - 2 / (e^2x + 1), where the quotient is below 1/2.
// Measured on all finite x: 1.42 ulp at |x| = 0.56269330; it never falls as x rises.
inline float tanh_f32(float x) {
#pragma HLS INLINE
  const float a = absolute_f32(x);

  const float z = a * a;
  float p = -6.17981423e-3f;
  p = (p * z) + 2.10074633e-2f;
  p = (p * z) - 5.38374297e-2f;
  p = (p * z) + 1.33324519e-1f;
  p = (p * z) - 3.33333135e-1f;
  const float near_zero = a + (a * (z * p));

  // An infinite exponential gives 1 without a special case.
  const float elsewhere = 1.0f - (2.0f / (exp_f32(2.0f * a) + 1.0f));

  const float y = select_f32(a < 0.5625f, near_zero, elsewhere);
  return as_float(as_bits(y) | (as_bits(x) & kSignBit));
}

// ln x, for all x. Used on softmax sums, x >= 1. ln 1 is exactly 0; zero gives -infinity, a negative x NaN,
// +infinity and NaN stay (a NaN may lose its sign and payload).
//
// x = 2^k m with m in [sqrt(1/2), sqrt(2)), f = m - 1 exactly, then ln m = f - f^2/2 + f^3 p(f) with p of
// degree 8, fit error 2^-28.2. The large terms, k ln 2 and f, are added last.
// Measured on all normal x > 0: 0.85 ulp at x = 0.70318633; it never falls as x rises.
inline float log_f32(float x) {
#pragma HLS INLINE
  // Shifted so that the exponent field steps at sqrt(1/2) (bits 0x3f3504f3) instead of at 1.
  const std::uint32_t shifted = as_bits(x) + (0x3f800000u - 0x3f3504f3u);
  const float k = static_cast<float>(static_cast<std::int32_t>(shifted >> 23) - 127);
  const float f = as_float((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f;

  const float square = f * f;
  float p = 6.74664676e-2f;
  p = (p * f) - 1.16756544e-1f;
  p = (p * f) + 1.18881606e-1f;
  p = (p * f) - 1.24055885e-1f;
  p = (p * f) + 1.42195523e-1f;
  p = (p * f) - 1.66679963e-1f;
  p = (p * f) + 2.00021192e-1f;
  p = (p * f) - 2.50000089e-1f;
  p = (p * f) + 3.33333135e-1f;
  const float rest = ((square * f) * p) - (0.5f * square);

  float y = (k * kLn2High) + (f + (rest + (k * kLn2Low)));
  // The special cases are told apart by the bits: as unsigned integers, negative operands are the largest.
  const std::uint32_t bits = as_bits(x);
  y = select_f32(bits >= kInfinityBits, x, y);
  y = select_f32(bits >= kSignBit, as_float(kNanBits), y);
  return select_f32((bits & ~kSignBit) < kSmallestNormalBits, as_float(kSignBit | kInfinityBits), y);
}

// e^(-2 u(|x|)), which both gelu and its derivative start from; in [0, 1].
inline float gelu_exponential_f32(float x) {
#pragma HLS INLINE
  const float a = absolute_f32(x);
  const float slope = kGeluLinear + (kGeluCubic * (a * a));
  return exp_f32(-(a * slope));
}

// gelu in its tanh form, x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), for activations.
//
// Computed as x s with s = 1 / (1 + e^(-2u)), the same without the cancellation in 1 + tanh u.
// With e = e^(-2|u|), s is 1 / (1 + e) for x >= 0 and e / (1 + e) for x < 0, so that nothing overflows.
// -infinity gives NaN (infinity times 0), NaN stays NaN.
//
// Measured on [-1, 10]: 3.62 ulp at x = -0.99928629. On [-10, -1]: 210.6 ulp at x = -9.9817886, and 5.5e-8
// absolute. The tail's ulps are the conditioning of e^(-2u): there one ulp in x moves the exact result by
// hundreds of ulps. Below about -10.001 the result is zero, the exact one smaller than 1.2e-37.
inline float gelu_f32(float x) {
#pragma HLS INLINE
  const float e = gelu_exponential_f32(x);
  const float positive = 1.0f / (1.0f + e);
  const float s = select_f32(x < 0.0f, e * positive, positive);
  return x * s;
}

// The derivative of gelu_f32's exact function, s + x s (1 - s) (2u)', for the backward pass.
//
// s as above, and s (1 - s) = e / (1 + e)^2 from the same e, without cancellation. |x| is bounded at 16,
// where e is already 0 and the result exactly 0 or 1, so that x^2 cannot overflow. NaN stays NaN.
//
// Measured on [-10, 10], where it lies in [-0.13, 1.13]: 2.2e-7 absolute, 2.0e-7 of the largest value.
// Its zero at x = -0.7525 and its negative tail leave no useful bound in ulps, and none is claimed.
inline float gelu_derivative_f32(float x) {
#pragma HLS INLINE
  const float a = absolute_f32(x);
  const float bounded = select_f32(a > 16.0f, 16.0f, a);
  const float e = gelu_exponential_f32(bounded);
  const float positive = 1.0f / (1.0f + e);
  const float slope = kGeluLinear + (kGeluCubicSlope * (bounded * bounded));
  const float term = (bounded * slope) * (e * (positive * positive));
  return select_f32(x < 0.0f, (e * positive) - term, positive + term);
}

}  // namespace ttfpga
