// In simulation: the on-chip arrays as a table by number, and the end of a command that leaves one of them, with
// the instruction that did so.
#pragma once

#include <cstdio>
#include <exception>

#include "ttfpga_config.hpp"

namespace ttfpga {

struct NumberedArray {
  float* first;
  int size;
  const char* name;
};
#define TTFPGA_NUMBERED(array) {array, static_cast<int>(sizeof(array) / sizeof(float)), #array},
static const NumberedArray kArrays[] = {TTFPGA_ARRAYS(TTFPGA_NUMBERED)};
constexpr int kArrayCount = sizeof(kArrays) / sizeof(kArrays[0]);

/// The instruction that the sequencer is at.
static int at_work = -1;

/// An access that hardware would make somewhere, silently; here it ends the command.
class OutsideArray : public std::exception {
 public:
  OutsideArray(const char* does, int array, int at, int count) {
    if (array < 0 || array >= kArrayCount) {
      std::snprintf(text_, sizeof(text_), "instruction %d %s array %d; there are %d", at_work, does, array,
                    kArrayCount);
    } else {
      std::snprintf(text_, sizeof(text_), "instruction %d %s %d elements from index %d on in array %s of %d",
                    at_work, does, count, at, kArrays[array].name, kArrays[array].size);
    }
  }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[160];
};

/// Throws OutsideArray unless all `count` elements from `at` on are the array's.
inline void check_inside(const char* does, int array, int at, int count) {
  if (count <= 0) return;
  if (array < 0 || array >= kArrayCount || at < 0 || at > kArrays[array].size - count)
    throw OutsideArray(does, array, at, count);
}

}  // namespace ttfpga
