// Trace taps: record a named value, then replace it where the host asks for it. A hardware build
// (TTFPGA_TAPS 0) leaves them out.
#pragma once

#include "program.hpp"

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

inline bool traced(const Taps& taps) { return taps.trace != nullptr; }

/// kTap: records an array of `batches` x `rows` x `load` elements at `trace`, then overrides it. Of these the
/// array has `stream` rows of `cols` elements (a sentence's own length); the rest is recorded as zero.
inline void tap(const Instruction& job, const Sentence& sentence, const Taps& taps) {
  const Operand& at = job.operand[0];
  const int valid_rows = extent(job.stream, sentence), valid_cols = extent(job.cols, sentence);
  int offset = job.trace;
TAP:
  for (int i = 0; i < job.batches * job.rows; ++i) {
#pragma HLS LOOP_TRIPCOUNT max = kTraceWords
    const int row = i % job.rows, element = at.base + i / job.rows * at.batch + row * at.row;
  TAP_ROW:
    for (int col = 0; col < job.load; ++col, ++offset) {
#pragma HLS LOOP_TRIPCOUNT max = kTraceWords
      float value[1] = {0.0f};
      const bool valid = row < valid_rows && col < valid_cols;
      if (valid) read(at.array, element + col, 1, value);
      taps.trace[offset] = value[0];
      if (!valid || taps.overrides == nullptr || taps.overrides[offset] == kKeep) continue;
      value[0] = as_float(taps.overrides[offset]);
      write(at.array, element + col, 1, value);
    }
  }
}

/// kClear: zeros where the step itself writes only what a sentence's tokens have touched, for the trace.
inline void clear(const Instruction& job) {
  const float zero[1] = {0.0f};
CLEAR:
  for (int col = 0; col < job.cols; ++col) {
#pragma HLS LOOP_TRIPCOUNT max = kTraceWords
    write(job.operand[0].array, job.operand[0].base + col, 1, zero);
  }
}

#else

struct Taps {};

inline bool traced(const Taps&) {
#pragma HLS INLINE
  return false;
}

inline void tap(const Instruction&, const Sentence&, const Taps&) {
#pragma HLS INLINE
}

inline void clear(const Instruction&) {
#pragma HLS INLINE
}

#endif

}  // namespace ttfpga
