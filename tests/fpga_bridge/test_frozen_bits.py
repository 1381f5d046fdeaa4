"""What a device changes and doesn't show: a frozen parameter, or another after its update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.agreement.report import summary, to_json
from fpga_bridge.device import Device, StepResult, Trace
from fpga_bridge.devices.host import LOAD, STORE, KernelDevice, visible_points
from fpga_bridge.devices.reference import JaxDevice
from tests.fpga_bridge.samples import RATE, TINY, random_params, sentences
from ttjax import Batch, flatten, unflatten

CONFIG = TINY.replace(n_blocks=1, frozen=("block0.q",))
CORE = "block0.q.core0"


class Moves(JaxDevice):
    """Changes one parameter at the end of every step but the first, and shows nothing of it."""

    def __init__(self, name: str) -> None:
        super().__init__(CONFIG)
        self.name, self.stepped = name, 0

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        result = super().step(batch, rate, trace=trace, overrides=overrides)
        self.stepped += 1
        if self.stepped > 1:
            held = flatten(self.read())
            self.load(unflatten({**held, self.name: np.nextafter(held[self.name], np.float32(9))}))
        return result


class Memory(KernelDevice):
    """A kernel without taps that holds an image and computes nothing."""

    taps = False

    def _run(self, command: int, *, image: np.ndarray | None = None, **buffers: Any) -> None:
        if command == LOAD and image is not None:
            self.image = image.copy()
        if command == STORE and image is not None:
            image[:] = self.image
        if buffers.get("results") is not None:
            buffers["results"][:] = 0


def run(device: Device) -> Report:
    batch, rates = sentences(CONFIG, 3), np.full(3, RATE, np.float32)
    return cosimulate(device, random_params(CONFIG), batch, rates)


@pytest.mark.parametrize("name", [CORE, "slot_out.bias"], ids=["frozen", "updated"])
def test_a_parameter_that_moves_by_a_bit_unseen_is_named_with_its_step(name: str) -> None:
    report = run(Moves(name))
    assert report.moved == {name: 1} and not report.agree
    line = f"parameters that the device changed and didn't show, 1; the first: {name}, in step 2"
    assert line in summary(report) and summary(report)[-1] == "DISAGREE"
    assert to_json(report)["moved"] == {name: 1}


def test_a_device_that_changes_only_what_it_shows_agrees() -> None:
    report = run(JaxDevice(CONFIG))
    assert report.agree and report.moved == {} and summary(report)[-1] == "AGREE"


def test_a_kernel_without_taps_shows_just_what_is_compared() -> None:
    device = Memory(CONFIG)
    device.load(random_params(CONFIG))
    sentence = Batch(*(np.asarray(field)[0] for field in sentences(CONFIG, 1)))
    shown = device.step(sentence, RATE, trace=True).trace or {}
    assert shown.keys() == {point.name for point in visible_points(device, device.manifest)}
    assert f"new_{CORE}" not in shown
