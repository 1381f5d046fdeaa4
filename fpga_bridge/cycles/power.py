"""Energy of a training step from a power model: an estimate from assumptions, not a measurement.

The card's own meter is read in fpga_bridge.devices.xrt_sensors where there is a card.
"""

from __future__ import annotations

from collections.abc import Mapping

from fpga_bridge.memory.blocks import BlockCount

# Assumptions. Watts that the card takes with nothing running: an Alveo U55C, a larger card of the U50's
# family, idles at 15 W in a computing centre's published readings. Microwatts for each MHz that a resource
# draws while it works: of the usual size for UltraScale+ at a toggle rate of one eighth.
STATIC_W = 15.0
DSP_UW = 10.0
LUT_UW = 0.1  # with its register and wires
BRAM36_UW = 25.0
URAM_UW = 40.0


def watts(
    dsp: Mapping[str, int],
    luts: Mapping[str, int],
    blocks: BlockCount,
    busy: Mapping[str, float],
    clock_mhz: float,
) -> float:
    """Mean power of a step.

    busy: the part of the time that each unit works; idle it draws nothing beside the static power. Memory
    blocks draw theirs all the time.
    """
    units = sum((DSP_UW * dsp[unit] + LUT_UW * luts[unit]) * part for unit, part in busy.items())
    memories = BRAM36_UW * blocks.bram36 + URAM_UW * blocks.uram
    return STATIC_W + 1e-6 * clock_mhz * (units + memories)
