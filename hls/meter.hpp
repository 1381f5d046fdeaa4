// What the cycle model needs to know of a pipelined loop, stated beside its pragma, and the count of its
// trips in simulation.
#pragma once

#include <cstdint>

#include "ttfpga_config.hpp"

namespace ttfpga {

/// Operators of each kind: along the longest path of a loop's body, or side by side in it.
struct Operators {
  int mul, add, div, sqrt;
  int memory;  ///< reads of an on-chip memory
};

/// A pipelined loop: `interval` cycles between trips; `path`: the operators one after another in a trip,
/// which make its depth; `units`: all operators of its body, which make its area.
struct Pipeline {
  const char* name;
  int interval;
  Operators path;
  Operators units;
};

/// Counts the trips of one instruction's loop; a hardware build counts nothing.
struct Meter {
#ifndef __SYNTHESIS__
  uint32_t trips;
#endif
  void trip() {
#pragma HLS INLINE
#ifndef __SYNTHESIS__
    ++trips;
#endif
  }
};

}  // namespace ttfpga
