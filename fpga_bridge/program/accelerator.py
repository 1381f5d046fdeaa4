"""The accelerator's own dimensions, beside the model's: size of the engine's tile, lanes of the other units.

They change what a cycle does and in which order sums are made, not what is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fpga_bridge.memory.banks import PORTS
from fpga_bridge.memory.layout import MAX_LANES
from ttjax import UserError

ClockClass = Literal["relaxed", "typical", "fast"]
CLASSES: tuple[ClockClass, ...] = get_args(ClockClass)


@dataclass(frozen=True)
class Accelerator:
    """Lanes are float32 elements a cycle.

    tile_rows, tile_lanes: multiply-accumulators of the engine, narrow × wide. sum_distance: trips between two
    additions to one sum, at least the adder's latency in cycles. norm_lanes, nonlinear_lanes, update_lanes:
    of LayerNorm; of GELU, softmax and cross-entropy; of SGD. clock_class: the clock that operators' latencies
    (fpga_bridge.kernel.operators) are those of: how long a unit waits for another's last results.

    Raises:
        UserError: an odd or too large number of rows, or lanes beyond what a memory's ports give or too few
            for the kernel.
    """

    tile_rows: int = 12
    tile_lanes: int = 32
    sum_distance: int = 6
    norm_lanes: int = 32
    nonlinear_lanes: int = 16
    update_lanes: int = 16
    clock_class: ClockClass = "typical"

    def __post_init__(self) -> None:
        for name, most in (
            ("tile_lanes", PORTS * MAX_LANES),
            ("norm_lanes", PORTS * MAX_LANES),
            ("nonlinear_lanes", MAX_LANES),
            ("update_lanes", MAX_LANES),
        ):
            lanes = getattr(self, name)
            if lanes < 1 or most % lanes:
                raise UserError(f"{name}: expected a divisor of {most}, what a memory gives, found {lanes}")
        if self.tile_lanes < 2:
            raise UserError("tile_lanes: expected at least 2, as many as the fewest tile_rows, found 1")
        if self.nonlinear_lanes < 2:
            raise UserError(
                "nonlinear_lanes: expected at least 2, one for each of the two losses that are added, found 1"
            )
        if self.tile_rows < 2 or self.tile_rows % 2 or self.tile_rows > min(self.tile_lanes, MAX_LANES):
            most = min(self.tile_lanes, MAX_LANES)
            raise UserError(f"tile_rows: expected an even number from 2 to {most}, found {self.tile_rows}")
        if self.clock_class not in CLASSES:
            raise UserError(f"clock_class: expected one of {', '.join(CLASSES)}, found {self.clock_class}")
        if self.sum_distance < 1:
            raise UserError(f"sum_distance: expected at least 1, found {self.sum_distance}")

    @property
    def macs(self) -> int:
        """Multiply-accumulators of the engine."""
        return self.tile_rows * self.tile_lanes


DEFAULT = Accelerator()
