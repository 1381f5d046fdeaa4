// Measures hls/elementary.hpp, and gelu and tanh as the lanes of the nonlinear unit compute them, against the
// double-precision C library, under flush-to-zero and denormals-are-zero.
//
//   elementary_accuracy CASE STRIDE   every STRIDE-th normal float of the case's range; prints the errors and
//                                     a checksum of the result bits as one JSON object
//   elementary_accuracy CASE at HEX.. the result bits for the operand bits given; prints a JSON list
#include <xmmintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "nonlinear.hpp"

namespace {

constexpr int kBlock = 1024;
constexpr double kSmallestNormal = 1.1754943508222875e-38;
constexpr float kLargest = 3.40282347e+38f;

double exact_gelu_argument(double x) { return 2.0 * std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x); }

// The first lane's result of an element-wise operation; dy, where there is one, is 1.
float first_lane(int op, float x) {
  using namespace ttfpga;
  float lanes[kNonlinearLanes], dy[kNonlinearLanes], summed[kNonlinearLanes], out[kNonlinearLanes];
  for (int lane = 0; lane < kNonlinearLanes; ++lane) {
    lanes[lane] = x;
    dy[lane] = 1.0f;
  }
  LaneValues given = {};
  given.numerator = op == kTanh ? 2.0f : 1.0f;
  given.denominator = given.weight = 1.0f;
  given.count = kNonlinearLanes;
  given.hot = kNone;
  nonlinear_lanes(lane_mode(NonlinearPass::kApply, op), given, lanes, dy, summed, out);
  return op == kTanh && absolute_f32(x) < 0.5625f ? tanh_near_zero(x) : out[0];
}

struct Exp {
  static float value(float x) { return ttfpga::exp_f32(x); }
  static double exact(double x) { return std::exp(x); }
};
struct Tanh {
  static float value(float x) { return first_lane(ttfpga::kTanh, x); }
  static double exact(double x) { return std::tanh(x); }
};
struct Log {
  static float value(float x) { return ttfpga::log_f32(x); }
  static double exact(double x) { return std::log(x); }
};
struct Gelu {
  static float value(float x) { return first_lane(ttfpga::kGelu, x); }
  static double exact(double x) { return x / (1.0 + std::exp(-exact_gelu_argument(x))); }
};
struct GeluDerivative {
  static float value(float x) { return first_lane(ttfpga::kGeluBackward, x); }
  static double exact(double x) {
    const double e = std::exp(-std::fabs(exact_gelu_argument(x)));
    const double positive = 1.0 / (1.0 + e);
    const double s = x < 0.0 ? e * positive : positive;
    const double slope = 2.0 * std::sqrt(2.0 / M_PI) * (1.0 + 3.0 * 0.044715 * x * x);
    return s + x * slope * e * positive * positive;
  }
};

// Finite floats in increasing order as consecutive integers, both zeros at 0.
std::int64_t order(float x) {
  const std::int64_t magnitude = ttfpga::as_bits(x) & 0x7fffffffu;
  return (ttfpga::as_bits(x) >> 31) != 0 ? -magnitude : magnitude;
}
float from_order(std::int64_t place) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(place < 0 ? -place : place);
  return ttfpga::as_float(place < 0 ? magnitude | 0x80000000u : magnitude);
}

// The error in spacings of float32 at the exact result. A result too small for a normal float has to be
// flushed to zero, or be the smallest normal: either is right.
double error_in_ulps(float actual, double exact) {
  const double magnitude = std::fabs(exact);
  if (magnitude < kSmallestNormal && std::fabs(static_cast<double>(actual)) <= kSmallestNormal) return 0.0;
  int exponent = 0;
  std::frexp(magnitude < kSmallestNormal ? kSmallestNormal : magnitude, &exponent);
  return std::fabs(static_cast<double>(actual) - exact) / std::ldexp(1.0, exponent - 24);
}

struct Report {
  std::uint64_t count = 0;
  std::uint64_t not_finite = 0;
  double max_ulp = -1.0;
  float worst_x = 0.0f;
  double sum_ulp = 0.0;
  double max_absolute = 0.0;
  double largest = 0.0;  // of the exact results
  std::uint64_t falls = 0;  // steps at which the result fell while the operand rose
  std::uint64_t checksum = 14695981039346656037u;
  float last = -INFINITY;

  void add(float x, float actual, double exact) {
    ++count;
    checksum = (checksum ^ ttfpga::as_bits(actual)) * 1099511628211u;
    if (!std::isfinite(actual)) {
      ++not_finite;
      return;
    }
    const double ulps = error_in_ulps(actual, exact);
    if (ulps > max_ulp) {
      max_ulp = ulps;
      worst_x = x;
    }
    sum_ulp += ulps;
    const double absolute = std::fabs(static_cast<double>(actual) - exact);
    if (absolute > max_absolute) max_absolute = absolute;
    if (std::fabs(exact) > largest) largest = std::fabs(exact);
    if (actual < last) ++falls;
    last = actual;
  }
};

template <typename Function>
void measure(const char* name, float low, float high, std::int64_t stride) {
  Report report;
  float operands[kBlock];
  float results[kBlock];
  std::int64_t place = order(low);
  const std::int64_t end = order(high);
  while (place <= end) {
    int filled = 0;
    for (; filled < kBlock && place <= end; place += stride) {
      const std::int64_t magnitude = place < 0 ? -place : place;
      if (magnitude != 0 && magnitude < 0x00800000) continue;
      operands[filled++] = from_order(place);
    }
    for (int i = 0; i < filled; ++i) results[i] = Function::value(operands[i]);
    for (int i = 0; i < filled; ++i) report.add(operands[i], results[i], Function::exact(operands[i]));
  }
  std::printf("{\"function\": \"%s\", \"count\": %llu, \"not_finite\": %llu, \"max_ulp\": %.4f, "
              "\"worst_x\": %.9g, \"mean_ulp\": %.4f, \"max_absolute\": %.4g, \"max_normwise\": %.4g, "
              "\"falls\": %llu, \"checksum\": \"%016llx\"}\n",
              name, static_cast<unsigned long long>(report.count),
              static_cast<unsigned long long>(report.not_finite), report.max_ulp,
              static_cast<double>(report.worst_x), report.sum_ulp / static_cast<double>(report.count),
              report.max_absolute, report.max_absolute / report.largest,
              static_cast<unsigned long long>(report.falls),
              static_cast<unsigned long long>(report.checksum));
}

template <typename Function>
void evaluate(int count, char** operands) {
  std::printf("[");
  for (int i = 0; i < count; ++i) {
    const float x = ttfpga::as_float(static_cast<std::uint32_t>(std::strtoul(operands[i], nullptr, 16)));
    std::printf("%s\"%08x\"", i == 0 ? "" : ", ", static_cast<unsigned>(ttfpga::as_bits(Function::value(x))));
  }
  std::printf("]\n");
}

template <typename Function>
int run(const char* name, float low, float high, int count, char** arguments) {
  if (std::strcmp(arguments[0], "at") == 0) {
    evaluate<Function>(count - 1, arguments + 1);
    return 0;
  }
  const long stride = std::strtol(arguments[0], nullptr, 10);
  if (stride < 1) {
    std::fprintf(stderr, "stride must be a positive integer, got %s\n", arguments[0]);
    return 2;
  }
  measure<Function>(name, low, high, stride);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s CASE STRIDE | CASE at HEX...\n", argv[0]);
    return 2;
  }
  _mm_setcsr(_mm_getcsr() | 0x8040u);  // flush-to-zero, denormals-are-zero
  const char* name = argv[1];
  const int count = argc - 2;
  char** rest = argv + 2;
  if (std::strcmp(name, "exp") == 0) return run<Exp>(name, -87.33f, 88.72283f, count, rest);
  if (std::strcmp(name, "tanh") == 0) return run<Tanh>(name, -kLargest, kLargest, count, rest);
  if (std::strcmp(name, "log") == 0) return run<Log>(name, 1.17549435e-38f, kLargest, count, rest);
  if (std::strcmp(name, "gelu") == 0) return run<Gelu>(name, -1.0f, 10.0f, count, rest);
  if (std::strcmp(name, "gelu_tail") == 0) return run<Gelu>(name, -10.0f, -1.0f, count, rest);
  if (std::strcmp(name, "gelu_derivative") == 0) {
    return run<GeluDerivative>(name, -10.0f, 10.0f, count, rest);
  }
  std::fprintf(stderr, "unknown case %s\n", name);
  return 2;
}
