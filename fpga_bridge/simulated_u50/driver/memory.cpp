// Device memory: see memory.hpp.
#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace u50 {

void DeviceMemory::clear() {
  for (Bank& bank : banks_)
    if (bank.bytes) munmap(bank.bytes, bank.shape.bytes);
  banks_.clear();
}

void DeviceMemory::shape(std::vector<BankShape> shapes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  clear();
  for (const BankShape& shape : shapes) {
    banks_.emplace_back();
    banks_.back().shape = shape;
  }
}

int64_t DeviceMemory::allocate(unsigned index, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (index >= banks_.size() || !banks_[index].shape.used || bytes == 0) return -EINVAL;
  Bank& bank = banks_[index];
  if (bytes > bank.shape.bytes) return -ENOMEM;
  const size_t length = (bytes + kPage - 1) / kPage * kPage;
  // First fit: the buffers of a session are few. Address 0 is left out, as the kernel takes it for "none".
  uint64_t at = bank.shape.base == 0 ? kPage : 0;
  for (const auto& range : bank.taken) {
    if (at + length <= range.first) break;
    at = range.first + range.second;
  }
  if (at + length > bank.shape.bytes) return -ENOMEM;
  if (!bank.bytes) {
    void* mapped = mmap(nullptr, bank.shape.bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return -ENOMEM;
    bank.bytes = static_cast<uint8_t*>(mapped);
  }
  // What a card holds in fresh memory is arbitrary; zeros would hide a missing sync.
  std::memset(bank.bytes + at, 0xCD, length);
  bank.taken[at] = length;
  return static_cast<int64_t>(bank.shape.base + at);
}

void DeviceMemory::release(uint64_t address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Bank& bank : banks_)
    if (address >= bank.shape.base && address < bank.shape.base + bank.shape.bytes)
      bank.taken.erase(address - bank.shape.base);
}

uint8_t* DeviceMemory::find(uint64_t address, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Bank& bank : banks_) {
    if (address < bank.shape.base || address >= bank.shape.base + bank.shape.bytes) continue;
    const uint64_t offset = address - bank.shape.base;
    auto after = bank.taken.upper_bound(offset);
    if (after == bank.taken.begin()) return nullptr;
    const auto& range = *std::prev(after);
    const uint64_t end = range.first + range.second;
    return offset <= end && bytes <= end - offset ? bank.bytes + offset : nullptr;
  }
  return nullptr;
}

int DeviceMemory::bank_of(uint64_t address) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < banks_.size(); ++i) {
    const BankShape& shape = banks_[i].shape;
    if (shape.used && address >= shape.base && address - shape.base < shape.bytes) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace u50
