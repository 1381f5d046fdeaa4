// The functions that the XRT runtime calls in a device driver's library (declared in xrt.h), for simulated cards.

#include <xrt.h>

#include <experimental/xrt-next.h>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include <xclbin.h>

#include "board.hpp"
#include "faults.hpp"
#include "sensors.hpp"

namespace {

using u50::Board;
using u50::Client;
using u50::Fault;
using u50::kPage;

// Bytes of all banks.
constexpr uint64_t kMemory = uint64_t{TTFPGA_HBM_BANKS} * TTFPGA_HBM_BANK_BYTES;

}  // namespace

namespace xrt_core {
/// The runtime's own object for an opened card; of it only this is called, by its symbol.
class device {
 public:
  void register_axlf(const axlf* top);
};
namespace hwemu {
// In the prebuilt objects.
std::shared_ptr<device> get_userpf_device(void* handle, unsigned index);
}  // namespace hwemu
}  // namespace xrt_core

namespace {

/// The host's side of a buffer, and where it lies on the device (0: nowhere, a command packet).
struct Buffer {
  std::shared_ptr<uint8_t> host;
  size_t size;
  unsigned flags;
  uint64_t address;
};

/// An opened card with its buffers.
struct Handle {
  explicit Handle(Board* board) : client(board) { board->attach(); }
  ~Handle() {
    client.board->detach(&client);
    for (const auto& buffer : buffers) release(buffer.second);
  }

  void release(const Buffer& buffer) {
    if (buffer.address) client.board->memory().release(buffer.address);
  }

  Client client;
  // The runtime finds it by the handle, and leaves it to the driver to keep.
  std::shared_ptr<xrt_core::device> seen_by_runtime;
  std::mutex mutex;
  std::unordered_map<unsigned, Buffer> buffers;
};

// The runtime lets a program free a buffer after its card was closed. Numbers are never used twice, and a free
// on a handle that is gone, or whose address is another's now, finds nothing.
std::mutex open_handles_mutex;
std::unordered_set<Handle*> open_handles;
std::atomic<unsigned> next_buffer{1};

Handle* of(xclDeviceHandle handle) { return static_cast<Handle*>(handle); }

/// A copy of the record, so that no lock is held while bytes move; its host pointer is null if there is none.
Buffer buffer_of(xclDeviceHandle handle, unsigned number) {
  const std::lock_guard<std::mutex> lock(of(handle)->mutex);
  const auto found = of(handle)->buffers.find(number);
  return found == of(handle)->buffers.end() ? Buffer{} : found->second;
}

std::shared_ptr<uint8_t> host_pages(size_t size) {
  const size_t length = (size + kPage - 1) / kPage * kPage;
  void* pages = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  return {static_cast<uint8_t*>(pages), [length](uint8_t* p) { munmap(p, length); }};
}

xclBufferHandle failed(int error) {
  errno = error;
  return static_cast<xclBufferHandle>(-1);
}

xclBufferHandle allocate(xclDeviceHandle handle, std::shared_ptr<uint8_t> host, size_t size, unsigned flags) {
  if (!host) return failed(ENOMEM);
  uint64_t address = 0;
  if (!(flags & XCL_BO_FLAGS_EXECBUF)) {
    const int64_t at = of(handle)->client.board->memory().allocate(flags & XRT_BO_FLAGS_MEMIDX_MASK, size);
    if (at < 0) return failed(static_cast<int>(-at));
    address = static_cast<uint64_t>(at);
  }
  const std::lock_guard<std::mutex> lock(of(handle)->mutex);
  const unsigned number = next_buffer++;
  of(handle)->buffers[number] = {std::move(host), size, flags, address};
  return number;
}

/// Copies the bytes, after the checks that the driver makes, unless a planted fault loses them.
int transfer(Board* board, const Buffer& buffer, xclBOSyncDirection direction, size_t size, size_t offset) {
  if (!buffer.host || offset > buffer.size || size > buffer.size - offset) return -EINVAL;
  if (size == 0) return 0;
  uint8_t* device = board->memory().find(buffer.address + offset, size);
  if (!device) return -EINVAL;
  if (direction == XCL_BO_SYNC_BO_TO_DEVICE) {
    if (u50::suffers(Fault::kLostSync)) return 0;
    std::memcpy(device, buffer.host.get() + offset, size);
    if (u50::suffers(Fault::kBitFlip)) device[size / 2] ^= 0x10;
  } else if (direction == XCL_BO_SYNC_BO_FROM_DEVICE) {
    if (u50::suffers(Fault::kLostReadback)) return 0;
    std::memcpy(buffer.host.get() + offset, device, size);
  } else {
    return -EINVAL;
  }
  return 0;
}

}  // namespace

bool u50::works(const xrt_core::device* seen_by_runtime) {
  const std::lock_guard<std::mutex> lock(open_handles_mutex);
  return std::any_of(open_handles.begin(), open_handles.end(), [&](Handle* handle) {
    return handle->seen_by_runtime.get() == seen_by_runtime && handle->client.board->works();
  });
}

unsigned xclProbe() { return Board::count(); }

xclDeviceHandle xclOpen(unsigned index, const char*, xclVerbosityLevel) {
  if (!u50::fault_is_known()) {
    std::fprintf(stderr, "simulated U50: $TTFPGA_SIM_FAULT names no fault (busy, hang, error, bitflip, lost_sync,"
                         " lost_readback; name:n for the n-th event alone)\n");
    errno = EINVAL;
    return nullptr;
  }
  Board* board = Board::at(index);
  if (!board) {
    errno = ENODEV;
    return nullptr;
  }
  static const bool added = (u50::add_sensors(), true);
  static_cast<void>(added);
  auto handle = std::make_unique<Handle>(board);
  handle->seen_by_runtime = xrt_core::hwemu::get_userpf_device(handle.get(), index);
  const std::lock_guard<std::mutex> lock(open_handles_mutex);
  open_handles.insert(handle.get());
  return handle.release();
}

void xclClose(xclDeviceHandle handle) {
  {
    const std::lock_guard<std::mutex> lock(open_handles_mutex);
    open_handles.erase(of(handle));
  }
  delete of(handle);
}

int xclGetDeviceInfo2(xclDeviceHandle, xclDeviceInfo2* info) {
  *info = {};
  info->mMagic = 0x586C0C6C;
  std::strncpy(info->mName, TTFPGA_SHELL, sizeof info->mName - 1);
  info->mVendorId = 0x10ee;
  info->mDDRSize = kMemory;
  info->mDDRBankCount = TTFPGA_HBM_BANKS;
  info->mDataAlignment = kPage;
  info->mMinTransferSize = 32;
  info->mOCLFrequency[0] = TTFPGA_CLOCK_MHZ;
  info->mNumClocks = 1;
  info->mMigCalib = true;
  return 0;
}

int xclLoadXclBin(xclDeviceHandle handle, const axlf* top) {
  const int result = of(handle)->client.board->load(top);
  // The runtime leaves it to the driver to tell it what is loaded now.
  if (result == 0) of(handle)->seen_by_runtime->register_axlf(top);
  return result;
}

int xclOpenContext(xclDeviceHandle handle, const xuid_t id, unsigned ip, bool shared) {
  // The runtime's lock on the xclbin alone, no compute unit.
  if (ip == static_cast<unsigned>(-1)) return 0;
  return ip == 0 ? of(handle)->client.board->open_context(&of(handle)->client, id, shared) : -EINVAL;
}

int xclCloseContext(xclDeviceHandle handle, const xuid_t, unsigned ip) {
  if (ip == static_cast<unsigned>(-1)) return 0;
  return ip == 0 ? of(handle)->client.board->close_context(&of(handle)->client) : -EINVAL;
}

xclBufferHandle xclAllocBO(xclDeviceHandle handle, size_t size, int, unsigned flags) {
  // Checked before the host's pages are taken: a request may be absurd.
  if (size > kMemory) return failed(ENOMEM);
  return allocate(handle, host_pages(size), size, flags);
}

xclBufferHandle xclAllocUserPtrBO(xclDeviceHandle handle, void* pointer, size_t size, unsigned flags) {
  if (!pointer || reinterpret_cast<uintptr_t>(pointer) % kPage) return failed(EINVAL);
  return allocate(handle, {static_cast<uint8_t*>(pointer), [](uint8_t*) {}}, size, flags);
}

void xclFreeBO(xclDeviceHandle handle, xclBufferHandle number) {
  Buffer freed{};
  const std::lock_guard<std::mutex> open(open_handles_mutex);
  if (open_handles.count(of(handle)) == 0) return;
  {
    const std::lock_guard<std::mutex> lock(of(handle)->mutex);
    const auto found = of(handle)->buffers.find(number);
    if (found == of(handle)->buffers.end()) return;
    freed = std::move(found->second);
    of(handle)->buffers.erase(found);
  }
  of(handle)->release(freed);
}

void* xclMapBO(xclDeviceHandle handle, xclBufferHandle number, bool) { return buffer_of(handle, number).host.get(); }

int xclUnmapBO(xclDeviceHandle, xclBufferHandle, void*) { return 0; }

int xclSyncBO(xclDeviceHandle handle, xclBufferHandle number, xclBOSyncDirection direction, size_t size,
              size_t offset) {
  return transfer(of(handle)->client.board, buffer_of(handle, number), direction, size, offset);
}

int xclCopyBO(xclDeviceHandle handle, xclBufferHandle to, xclBufferHandle from, size_t size, size_t to_offset,
              size_t from_offset) {
  const Buffer target = buffer_of(handle, to), source = buffer_of(handle, from);
  if (!target.host || !source.host) return -EINVAL;
  auto& memory = of(handle)->client.board->memory();
  uint8_t* written = memory.find(target.address + to_offset, size);
  const uint8_t* read = memory.find(source.address + from_offset, size);
  if (!written || !read) return -EINVAL;
  std::memmove(written, read, size);
  return 0;
}

int xclGetBOProperties(xclDeviceHandle handle, xclBufferHandle number, xclBOProperties* properties) {
  const Buffer buffer = buffer_of(handle, number);
  if (!buffer.host) return -EINVAL;
  *properties = {number, buffer.flags, buffer.size, buffer.address, 0};
  return 0;
}

int xclExecBuf(xclDeviceHandle handle, xclBufferHandle number) {
  const Buffer packet = buffer_of(handle, number);
  if (!packet.host || !(packet.flags & XCL_BO_FLAGS_EXECBUF)) return -EINVAL;
  return of(handle)->client.board->submit(&of(handle)->client, packet.host);
}

int xclExecWait(xclDeviceHandle handle, int milliseconds) { return of(handle)->client.wait(milliseconds); }

// Not offered by this card: the runtime reports what it asked for in vain.
xclBufferExportHandle xclExportBO(xclDeviceHandle, xclBufferHandle) { return XRT_NULL_BO_EXPORT; }
xclBufferHandle xclImportBO(xclDeviceHandle, xclBufferExportHandle, unsigned) { return failed(ENOTSUP); }
int xclRegRead(xclDeviceHandle, uint32_t, uint32_t, uint32_t*) { return -ENOTSUP; }
int xclRegWrite(xclDeviceHandle, uint32_t, uint32_t, uint32_t) { return -ENOTSUP; }
size_t xclRead(xclDeviceHandle, xclAddressSpace, uint64_t, void*, size_t) { return static_cast<size_t>(-1); }
size_t xclWrite(xclDeviceHandle, xclAddressSpace, uint64_t, const void*, size_t) { return static_cast<size_t>(-1); }
ssize_t xclUnmgdPread(xclDeviceHandle, unsigned, void*, size_t, uint64_t) { return -ENOTSUP; }
ssize_t xclUnmgdPwrite(xclDeviceHandle, unsigned, const void*, size_t, uint64_t) { return -ENOTSUP; }
int xclReClock2(xclDeviceHandle, unsigned short, const unsigned short*) { return -ENOTSUP; }
int xclP2pEnable(xclDeviceHandle, bool, bool) { return -ENOTSUP; }
