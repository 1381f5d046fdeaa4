"""What is told and kept of the first step that disagrees: arrays, inputs, and whose result it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.kept import INPUT, StepInput
from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.agreement.report import describe, summary, to_json
from fpga_bridge.device import Device, StepResult
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.liars import Spoils
from tests.fpga_bridge.samples import RATE, TINY, random_params, same_bits, sentences
from ttjax import flatten, unflatten

SIDES = ("device", "jax", "truth")


def run(device: Device, mode: str = "locked", n: int = 2, rate: float = RATE) -> Report:
    each = np.full(n, rate, np.float32)
    return cosimulate(device, random_params(TINY), sentences(TINY, n), each, mode=mode)  # type: ignore[arg-type]


def test_both_sides_arrays_are_kept_of_the_first_step_that_disagrees() -> None:
    report = run(Spoils("block1.gelu", "nan", at=1), n=3)
    assert report.failing.keys() == {*SIDES, INPUT}
    for side in SIDES:
        assert len(report.failing[side]) == len(make_manifest(TINY).points)
    assert np.isnan(report.failing["device"]["block1.gelu"][0, 0])
    second = [c for c in report.comparisons if c.step == 1 and c.name == "block0.q"]
    [c] = second
    assert c.worst is not None
    assert float(report.failing["device"]["block0.q"][c.worst]) == c.actual
    assert float(report.failing["jax"]["block0.q"][c.worst]) == c.expected


@pytest.mark.parametrize("mode", ["locked", "free"])
def test_a_failing_step_runs_again_from_what_is_kept_of_it(mode: str) -> None:
    failing = run(Spoils("block1.gelu", "nan", at=1), mode).failing
    again, given = CsimDevice(TINY), StepInput.of(failing[INPUT])
    again.load(given.params)
    trace = again.step(given.sentence, given.rate, trace=True).trace or {}
    differing = {name for name in trace if not same_bits(trace[name], failing["device"][name])}
    assert differing == {"block1.gelu"}


def test_the_first_divergence_is_told_with_whose_result_it_is() -> None:
    report = run(Spoils("d_block1.k", "shift"))
    assert report.made_by == ("TO_TILE of backward block1.attention",)
    assert summary(report)[-1] == "made by TO_TILE of backward block1.attention"
    assert to_json(report)["made_by"] == [*report.made_by]


def test_steps_that_diverge_are_not_laid_to_the_device() -> None:
    report = run(CsimDevice(TINY), n=1, rate=3e38)
    first = report.first_divergence
    assert first is not None and not report.agree and report.made_by == ()
    assert "the device has " in first.reason and "JAX has " in first.reason
    why = "the steps diverge, whatever the device does: lower --rate"
    assert summary(report)[-1] == f"NO VERDICT: {why}; {describe(first)}"
    assert (to_json(report)["verdict"], to_json(report)["agree"]) == ("NO VERDICT", False)


def test_a_device_that_makes_the_steps_diverge_unseen_disagrees() -> None:
    """The next step begins with its NaN on all sides."""

    class Breaks(JaxDevice):
        def step(self, *args: Any, **options: Any) -> StepResult:
            result = super().step(*args, **options)
            held = flatten(self.read())
            self.load(unflatten({**held, "slot_out.bias": np.full_like(held["slot_out.bias"], np.nan)}))
            return result

    report = run(Breaks(TINY))
    first = report.first_divergence
    assert first is not None and first.diverges and report.moved == {"slot_out.bias": 0}
    assert report.verdict == "DISAGREE" and summary(report)[-1].startswith("DISAGREE at ")


def test_a_device_that_runs_no_program_has_no_instructions() -> None:
    class Other(JaxDevice):
        def step(self, *args: Any, **options: Any) -> StepResult:
            result = super().step(*args, **options)
            if result.trace is None:
                return result
            return replace(result, trace={**result.trace, "loss": result.trace["loss"] + 1})

    report = run(Other(TINY), n=1)
    assert report.first_divergence is not None and report.made_by == ()
    assert "made by" not in "".join(summary(report))
