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

}  // namespace ttfpga
