// What Debian's prebuilt objects of the runtime (its device factory for emulators) expect of a driver's library
// beyond the C functions of shim.cpp. No header declares these.

#include <xrt.h>

#include <cerrno>

// The driver's functions that the runtime calls as C++.
int xclCloseExportHandle(xclBufferExportHandle) { return 0; }
int xclUpdateSchedulerStat(xclDeviceHandle) { return 0; }
int xclInternalResetDevice(xclDeviceHandle, xclResetKind) { return -ENOTSUP; }
int xclCmaEnable(xclDeviceHandle, bool, uint64_t) { return -ENOTSUP; }

namespace xrt_core {
namespace query {
enum class key_type;
}
}  // namespace xrt_core

namespace xclhwemhal2 {

/// The runtime asks this class of its emulator two things: no data mover between banks, and a DMA is there.
class HwEmShim {
 public:
  static HwEmShim* handleCheck(void* handle);
  int deviceQuery(xrt_core::query::key_type key);
};

HwEmShim* HwEmShim::handleCheck(void* handle) { return static_cast<HwEmShim*>(handle); }

int HwEmShim::deviceQuery(xrt_core::query::key_type) { return 0; }

}  // namespace xclhwemhal2
