#pragma once
// Faults planted on purpose, named by the environment, so that the bridge can be shown to catch them.

namespace u50 {

enum class Fault {
  kBusy,          // another program holds the compute unit
  kHang,          // a run never ends
  kError,         // a run ends in an error
  kBitFlip,       // device memory loses a bit after it was written
  kLostSync,      // a transfer to the device does not happen
  kLostReadback,  // a transfer from the device does not happen
};

/// Whether this event suffers the fault. $TTFPGA_SIM_FAULT is its name, or name:n for the n-th such event alone
/// (counted since the variable got that value).
bool suffers(Fault fault);

/// Whether $TTFPGA_SIM_FAULT is empty or names a fault: a misspelt one must not look like a test that passed.
bool fault_is_known();

}  // namespace u50
