// Trace taps: record a named value, then replace it where the host asks for it. A hardware build
// (TTFPGA_TAPS 0) leaves them out.
#pragma once

#include "elementary.hpp"
#include "ttfpga_config.hpp"

#ifndef TTFPGA_TAPS
#define TTFPGA_TAPS 0
#endif

namespace ttfpga {

#if TTFPGA_TAPS

/// An element of the override buffer with these bits (a NaN no arithmetic makes) leaves the value alone.
constexpr uint32_t kKeep = 0xFFFFFFFFu;

/// Where taps write and read; null pointers where the host wants no trace or no override.
struct Taps {
  float* trace;
  const uint32_t* overrides;
};

/// Records `size` elements of `buffer` from `start` at `offset` of the trace, then overrides them.
template <int kSize>
void tap(const Taps& taps, int offset, float (&buffer)[kSize], int start, int size) {
  if (taps.trace == nullptr) return;
TAP:
  for (int i = 0; i < size; ++i) {
    taps.trace[offset + i] = buffer[start + i];
    if (taps.overrides != nullptr && taps.overrides[offset + i] != kKeep) {
      buffer[start + i] = as_float(taps.overrides[offset + i]);
    }
  }
}

#else

struct Taps {};

template <int kSize>
void tap(const Taps&, int, float (&)[kSize], int, int) {
#pragma HLS INLINE
}

#endif

/// The whole of an array.
template <int kSize>
void tap(const Taps& taps, int offset, float (&buffer)[kSize]) {
#pragma HLS INLINE
  tap(taps, offset, buffer, 0, kSize);
}

}  // namespace ttfpga
