// What Debian's prebuilt objects of the runtime (its device factory for emulators) expect of a driver's library
// beyond the C functions of shim.cpp. No header declares these.

#include <xrt.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>

// The driver's functions that the runtime calls as C++.
int xclCloseExportHandle(xclBufferExportHandle) { return 0; }
int xclUpdateSchedulerStat(xclDeviceHandle) { return 0; }
int xclInternalResetDevice(xclDeviceHandle, xclResetKind) { return -ENOTSUP; }
int xclCmaEnable(xclDeviceHandle, bool, uint64_t) { return -ENOTSUP; }

namespace xrt_core {
namespace query {
enum class key_type;
}

/// The runtime's system of devices. Its emulators open a device by number alone; this definition, which the
/// linker prefers, takes what the factory gives out as a card's BDF too.
class system {
 public:
  unsigned get_device_id(const std::string& text) const;
};

unsigned system::get_device_id(const std::string& text) const {
  unsigned number = 0, domain = 0, bus = 0, function = 0;
  int end = 0;
  const auto whole = [&] { return end == static_cast<int>(text.size()); };
  const char* begin = text.c_str();
  if (std::sscanf(begin, "%u%n", &number, &end) == 1 && whole()) return number;
  const bool is_bdf =
      (std::sscanf(begin, "%4x:%2x:%2x.%1x%n", &domain, &bus, &number, &function, &end) == 4 && whole()) ||
      (domain = 0, std::sscanf(begin, "%2x:%2x.%1x%n", &bus, &number, &function, &end) == 3 && whole());
  if (is_bdf && domain == 0 && bus == 0 && function == 0 && number < xclProbe()) return number;
  throw std::system_error(EINVAL, std::generic_category(),
                          "no card " + text + " is simulated, they are 0000:00:00.0, 0000:00:01.0 and so on, " +
                              std::to_string(xclProbe()) + " by $TTFPGA_SIM_DEVICES");
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
