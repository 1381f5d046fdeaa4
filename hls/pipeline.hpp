// What a unit's trip is made of, stated beside the unit: the operators on its way, which make the depth of
// its pipeline, and all of them, which make its area.
#pragma once

#include "program.hpp"

namespace ttfpga {

/// Operators of each kind: along a trip's longest path, or side by side in it.
struct Operators {
  int mul, add, div, sqrt;
  int memory;  ///< reads of an on-chip memory
};

/// A unit's pipeline; `path`: the operators one after another in a trip; `units`: all operators of its body.
struct Pipeline {
  const char* name;
  Operators path;
  Operators units;
};

/// Cycles of each operator at the clock that the kernel is made for.
constexpr Operators kCycles = {kMulCycles, kAddCycles, kDivCycles, kSqrtCycles, kMemoryCycles};

/// Cycles between iterations of the one loop. Two additions to one sum lie kSumDistance iterations apart:
/// where an addition takes longer, all that the loop does waits for it.
constexpr int kInterval = (kCycles.add + kSumDistance - 1) / kSumDistance;

/// Iterations, at least, from one instruction of a unit to its next, which must be fetched meanwhile: one is
/// fetched an iteration, for one of the units.
constexpr int kLeastDepth = kUnits + 1;

/// Iterations from a unit's trip to the first that finds its results stored.
constexpr int depth_of(const Pipeline& pipeline) {
  const Operators& path = pipeline.path;
  const int cycles = path.mul * kCycles.mul + path.add * kCycles.add + path.div * kCycles.div +
                     path.sqrt * kCycles.sqrt + path.memory * kCycles.memory;
  const int depth = (cycles + kInterval - 1) / kInterval;
  return depth > kLeastDepth ? depth : kLeastDepth;
}

}  // namespace ttfpga
