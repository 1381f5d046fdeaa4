"""What a float32 operator of the fabric costs: cycles and DSP blocks by clock class, and LUTs.

Figures of the tool that would build the kernel, read in files that it generated for others; none is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fpga_bridge.kernel.pipelines import Operators
from fpga_bridge.program.accelerator import CLASSES, ClockClass


@dataclass(frozen=True)
class Operator:
    """One operator: cycles and DSP blocks in each clock class, LUTs in any."""

    cycles: Mapping[ClockClass, int]
    dsp: Mapping[ClockClass, int]
    lut: int


def _of(*values: int) -> dict[ClockClass, int]:
    return dict(zip(CLASSES, values, strict=True))


# Cycles and DSP: read in Vitis-generated files of public projects; relaxed, typical and fast clock. There an
# operator is named by its stages: fadd_32ns_32ns_32_5_full_dsp_1 has 5. Ranges seen: addition 4 to 6 typical
# and 8 to 10 fast, multiplication 4 to 7, division 25 to 29 and root 18 to 27 fast. Division and root are
# made of LUTs. Cycles of a memory's read are an assumption: one, and a register on either side of it.
#
# A multiplication is "full usage" (MULTIPLIER in fpga_bridge/kernel/interface.py, which the card's build asks
# for): 2 DSP blocks by the data sheet of the vendor's floating-point core (PG060; max usage: 3). Its stages
# are those of max usage in the two public files found that hold both, 2 in one and 3 in the other; at the
# fast clock, where nothing was read, the most seen of max usage is assumed.
#
# LUTs: an addition with 2 DSP takes 226 (and 177 registers) in a public report of Vitis HLS for an
# UltraScale+ card. The others are assumptions, of the size that tables of such operators usually give; a
# multiplication's leave room for what the third DSP block of max usage would do.
OPERATORS: dict[str, Operator] = {
    "add": Operator(_of(3, 5, 9), _of(2, 2, 2), 226),
    "mul": Operator(_of(2, 3, 7), _of(2, 2, 2), 130),
    "div": Operator(_of(9, 15, 27), _of(0, 0, 0), 800),
    "sqrt": Operator(_of(9, 15, 22), _of(0, 0, 0), 500),
    "memory": Operator(_of(1, 2, 3), _of(0, 0, 0), 0),
}


def depth(path: Operators, clock_class: ClockClass) -> int:
    """Cycles of operators one after another."""
    return sum(n * OPERATORS[name].cycles[clock_class] for name, n in path.items())


def dsp(units: Operators, clock_class: ClockClass) -> int:
    """DSP blocks of operators side by side. Integer arithmetic on addresses is not counted."""
    return sum(n * OPERATORS[name].dsp[clock_class] for name, n in units.items())


def luts(units: Operators) -> int:
    """LUTs of operators side by side, an estimate: without what selects their inputs and the memories."""
    return sum(n * OPERATORS[name].lut for name, n in units.items())
