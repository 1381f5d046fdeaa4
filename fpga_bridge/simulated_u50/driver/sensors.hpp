#pragma once
// What a simulated card says of its temperature and power. The numbers are made up: nothing is measured.

#include <cstdint>

namespace xrt_core {
class device;
}

namespace u50 {

/// What the sensors read, in °C and µW: a card at rest, and one with a run on its compute unit.
constexpr uint64_t kTemperature = 40;
constexpr uint64_t kPowerAtRest = 15'000'000;
constexpr uint64_t kPowerAtWork = 25'000'000;

/// Whether a run is on the compute unit of the card behind the runtime's object; the driver's functions know.
bool works(const xrt_core::device* seen_by_runtime);

/// Teaches the runtime's device factory the sensors. Once, before a card is opened.
void add_sensors();

}  // namespace u50
