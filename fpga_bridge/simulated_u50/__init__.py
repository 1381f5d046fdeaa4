"""A U50 without a card: a driver layer under the real XRT runtime that runs our kernel as compiled here.

The runtime and the host's code are those of the card; only the library that would talk to the card is ours.
"""

from fpga_bridge.simulated_u50.build import import_pyxrt, simulated_xclbin, simulated_xrt

__all__ = ["import_pyxrt", "simulated_xclbin", "simulated_xrt"]
