"""A kernel that lies about one trace point, for tests of what is said of it."""

from __future__ import annotations

import numpy as np

from fpga_bridge.device import StepResult, Trace
from fpga_bridge.devices.csim import CsimDevice
from tests.fpga_bridge.samples import TINY
from ttjax import Batch


class Spoils(CsimDevice):
    """Changes what it reports of one trace point, from step ``at`` on."""

    def __init__(self, point: str, what: str, at: int = 0) -> None:
        super().__init__(TINY)
        self.point, self.what, self.remaining = point, what, at

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        result = super().step(batch, rate, trace=trace, overrides=overrides)
        self.remaining -= 1
        if result.trace is None or self.remaining >= 0:
            return result
        points = dict(result.trace)
        if self.what == "drop":
            del points[self.point]
        else:
            array = points[self.point].copy()
            array.reshape(-1)[0] = np.nan if self.what == "nan" else array.reshape(-1)[0] * 1.01 + 1e-3
            points[self.point] = array
        return StepResult(result.loss, result.intent_loss, result.slot_loss, points)
