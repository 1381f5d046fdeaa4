#pragma once
// The device's memory: banks apart from the host and from each other, handed out in pages.

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

namespace u50 {

constexpr size_t kPage = 4096;

/// One bank as the xclbin's memory topology describes it.
struct BankShape {
  uint64_t base;
  uint64_t bytes;
  bool used;
};

/// Memory of the device, by device address.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory() { clear(); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Drops everything and takes on the banks of another topology.
  void shape(std::vector<BankShape> banks);

  /// Address of a new range in a bank, or a negative errno: EINVAL (no such bank, or an unused one), ENOMEM.
  int64_t allocate(unsigned bank, size_t bytes);
  void release(uint64_t address);

  /// Where the bytes lie if all are in one allocated range; else null.
  uint8_t* find(uint64_t address, size_t bytes);

  /// The bank that an address lies in, or -1.
  int bank_of(uint64_t address) const;

 private:
  struct Bank {
    BankShape shape;
    uint8_t* bytes = nullptr;          // mapped at the first allocation
    std::map<uint64_t, size_t> taken;  // offset to length
  };

  void clear();

  mutable std::mutex mutex_;
  std::vector<Bank> banks_;
};

}  // namespace u50
