// Which events suffer a planted fault: see faults.hpp.
#include "faults.hpp"

#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace u50 {
namespace {

const std::map<std::string, Fault> kNames = {
    {"busy", Fault::kBusy},        {"hang", Fault::kHang},          {"error", Fault::kError},
    {"bitflip", Fault::kBitFlip},  {"lost_sync", Fault::kLostSync}, {"lost_readback", Fault::kLostReadback},
};

std::string setting() {
  const char* value = std::getenv("TTFPGA_SIM_FAULT");
  return value ? value : "";
}

std::string name_of(const std::string& text) { return text.substr(0, text.find(':')); }

}  // namespace

bool suffers(Fault fault) {
  const std::string text = setting();
  if (text.empty()) return false;
  const auto found = kNames.find(name_of(text));
  if (found == kNames.end() || found->second != fault) return false;
  const auto colon = text.find(':');
  if (colon == std::string::npos) return true;
  static std::mutex mutex;
  static std::string counted;
  static long events = 0;
  const std::lock_guard<std::mutex> lock(mutex);
  if (counted != text) {
    counted = text;
    events = 0;
  }
  return ++events == std::atol(text.c_str() + colon + 1);
}

bool fault_is_known() {
  const std::string text = setting();
  if (text.empty()) return true;
  if (kNames.count(name_of(text)) == 0) return false;
  const auto colon = text.find(':');
  return colon == std::string::npos || std::atol(text.c_str() + colon + 1) > 0;
}

}  // namespace u50
