// Access to the on-chip arrays by number: a unit's port reads or writes a few consecutive elements a cycle of
// whichever array the instruction names. The list of the arrays is generated with them.
#pragma once

#include "elementary.hpp"
#include "ttfpga_config.hpp"
#ifndef __SYNTHESIS__
#include "csim/numbered_arrays.hpp"
#endif

// Tests of the whole kernel watch who uses which memory.
#ifdef TTFPGA_CHECK_MEMORIES
#include "csim/memory_guard.hpp"
#define TTFPGA_GUARD(what) ttfpga::memory_guard.what
#else
#define TTFPGA_GUARD(what) static_cast<void>(0)
#endif

namespace ttfpga {

// Says of an array, in a loop, that no iteration reads what a recent one has written (see sequencer.hpp).
#define TTFPGA_PRAGMA(text) _Pragma(#text)
#define TTFPGA_INDEPENDENT(array) TTFPGA_PRAGMA(HLS DEPENDENCE variable = array inter false)

/// `count` elements of `from` from element `at` on; zero in the lanes beyond.
template <int kLanes, class Array>
void copy_in(const Array& from, int at, int count, float (&to)[kLanes]) {
#pragma HLS INLINE
COPY_IN:
  for (int lane = 0; lane < kLanes; ++lane) {
#pragma HLS UNROLL
    to[lane] = lane < count ? from[at + lane] : 0.0f;
  }
}

/// The first `count` lanes into `to` from element `at` on.
template <int kLanes, class Array>
void copy_out(const float (&from)[kLanes], int at, int count, Array& to) {
#pragma HLS INLINE
COPY_OUT:
  for (int lane = 0; lane < kLanes; ++lane) {
#pragma HLS UNROLL
    if (lane < count) to[at + lane] = from[lane];
  }
}

#ifdef __SYNTHESIS__
// In hardware a multiplexer over the arrays.
#define TTFPGA_READ(array) \
  case k_##array:          \
    return copy_in(array, at, count, to);
#define TTFPGA_WRITE(array) \
  case k_##array:           \
    return copy_out(from, at, count, array);

template <int kLanes>
void read(int array, int at, int count, float (&to)[kLanes]) {
#pragma HLS INLINE
  switch (array) { TTFPGA_ARRAYS(TTFPGA_READ) }
}

template <int kLanes>
void write(int array, int at, int count, const float (&from)[kLanes]) {
#pragma HLS INLINE
  switch (array) { TTFPGA_ARRAYS(TTFPGA_WRITE) }
}
#else
// In simulation a table of them: the same accesses, several times faster.

/// `count` elements of the array of that number from element `at` on; zero in the lanes beyond.
template <int kLanes>
void read(int array, int at, int count, float (&to)[kLanes]) {
  check_inside("reads", array, at, count);
  TTFPGA_GUARD(touch(array, at, count));
  // All lanes at once is a case of its own, with constant bounds: g++ moves it as a vector.
  const float* const from = kArrays[array].first + at;
  if (count == kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = from[lane];
  } else {
    copy_in(from, 0, count, to);
  }
}

/// The first `count` lanes into the array of that number from element `at` on.
template <int kLanes>
void write(int array, int at, int count, const float (&from)[kLanes]) {
  check_inside("writes", array, at, count);
  TTFPGA_GUARD(touch(array, at, count));
  float* const to = kArrays[array].first + at;
  if (count == kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = from[lane];
  } else {
    copy_out(from, 0, count, to);
  }
}
#endif

}  // namespace ttfpga
