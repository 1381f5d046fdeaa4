#pragma once
// What an xclbin holds: the kernel, compiled for this machine, its registers and the banks that they may name.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "memory.hpp"

struct axlf;

namespace u50 {

/// One argument of the kernel: the offset of its register, and the bank of a buffer (-1: a scalar).
struct Argument {
  uint32_t offset;
  int bank;
};

/// A loaded xclbin. The kernel's on-chip memory lives as long as it does.
class Program {
 public:
  /// Null if it can't be loaded; `why` then says so.
  static std::unique_ptr<Program> load(const axlf* top, std::string& why);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const std::vector<BankShape>& banks() const { return banks_; }

  /// Runs the kernel on a register map. Empty, or why the hardware would have stopped.
  std::string run(const std::vector<uint32_t>& registers, DeviceMemory& memory) const;

 private:
  using Entry = void (*)(uint32_t, uint32_t, const uint32_t*, uint32_t*, float*, float*, const uint32_t*);
  using Error = const char* (*)();
  using ResultWords = uint32_t (*)(uint32_t command);

  Program() = default;

  std::vector<BankShape> banks_;
  std::vector<Argument> arguments_;
  void* library_ = nullptr;
  Entry entry_ = nullptr;
  Error error_ = nullptr;  // of the last run
  uint32_t image_words_ = 0;
  uint32_t trace_words_ = 0;
  uint32_t example_words_ = 0;
  ResultWords result_words_ = nullptr;  // of one example, by command
};

}  // namespace u50
