// For tests: stops the simulation where units meet in a memory. Compiled in with -DTTFPGA_CHECK_MEMORIES.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "ttfpga_config.hpp"

namespace ttfpga {

/// Which instruction uses which memory, and when.
///
/// An instruction has a memory that it touches from its beginning to its end, whenever in between it does so:
/// the two ports are one unit's, and a result is there only when the pipeline has run empty. Instructions
/// that touch the same memory do so in the program's order.
struct MemoryGuard {
  uint64_t iteration;
  uint64_t begun[kInstructions], ended[kInstructions];
  int working;             // the instruction whose trip it is, or -1
  int user[kMemoryCount];  // of each memory, the instruction that touched it last in this step, or -1

  void start() {
    working = -1;
    for (int& latest : user) latest = -1;
  }

  void begin(int instruction) {
    begun[instruction] = iteration;
    ended[instruction] = UINT64_MAX;
  }

  void end(int instruction) { ended[instruction] = iteration; }

  void touch(int array, int at, int count) {
    if (working < 0 || count <= 0) return;
    const int size = kMemorySize[array], last = (at + count - 1) / size;
    for (int slot = at / size; slot <= last; ++slot) {
      int& latest = user[kFirstMemory[array] + slot];
      if (latest >= 0 && latest != working) {
        if (ended[latest] >= begun[working]) stop("while", slot, array, latest);
        if (latest > working) stop("after", slot, array, latest);
      }
      latest = working;
    }
  }

  void stop(const char* when, int slot, int array, int other) const {
    std::fprintf(stderr, "memory %d of array %d: instruction %d uses it %s instruction %d does\n", slot,
                 array, working, when, other);
    std::abort();
  }
};

static MemoryGuard memory_guard;

}  // namespace ttfpga
