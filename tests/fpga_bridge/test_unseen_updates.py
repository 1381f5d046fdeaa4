"""Updates too small for the criterion to see: named, so that agreement is not taken for more than it says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fpga_bridge.agreement.criterion import Comparison, Criterion
from fpga_bridge.agreement.lockstep import Mode, Report, cosimulate
from fpga_bridge.agreement.report import summary, to_json
from fpga_bridge.device import StepResult, Trace
from fpga_bridge.devices.csim import CsimDevice
from tests.fpga_bridge.samples import RATE, TINY, random_params, sentences
from ttjax import Batch, Params, flatten, unflatten

NAMES = list(flatten(random_params(TINY)))
# Zero in exact arithmetic: a number added to all of a query's scores changes no softmax.
WITHOUT_GRADIENT = {f"block{b}.k.bias" for b in range(TINY.n_blocks)}
TOO_SMALL = 1e-9


class Keeps(CsimDevice):
    """Leaves the parameters named as they were, in what it reports and in what it holds."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(TINY)
        self.names = names

    def _kept(self, before: Params) -> None:
        held = flatten(self.read()) | {name: flatten(before)[name] for name in self.names}
        self.load(unflatten(held))

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        before = self.read()
        result = super().step(batch, rate, trace=trace, overrides=overrides)
        self._kept(before)
        points = (result.trace or {}) | {f"new_{name}": flatten(before)[name] for name in self.names}
        return StepResult(result.loss, result.intent_loss, result.slot_loss, points)

    def steps(self, batch: Batch, rates: np.ndarray) -> np.ndarray:
        before = self.read()
        losses = super().steps(batch, rates)
        self._kept(before)
        return losses


def run(device: CsimDevice, rate: float, mode: Mode = "locked") -> Report:
    return cosimulate(
        device, random_params(TINY), sentences(TINY, 1), np.full(1, rate, np.float32), mode=mode
    )


@cache
def honest(rate: float, mode: Mode = "locked") -> Report:
    """Of a kernel that updates everything; looked at only."""
    return run(CsimDevice(TINY), rate, mode)


@pytest.mark.parametrize("mode", ["locked", "free"])
def test_at_a_usual_rate_only_what_has_no_gradient_is_unseen(mode: Mode) -> None:
    report = honest(RATE, mode)
    assert report.agree
    assert report.updates.keys() == set(NAMES)
    assert set(report.unseen_updates) == WITHOUT_GRADIENT
    assert to_json(report)["unseen_updates"] == report.unseen_updates


def test_a_rate_of_zero_shows_no_update() -> None:
    report = honest(0.0)
    assert report.agree and len(report.unseen_updates) == len(NAMES)


@pytest.mark.parametrize("rate", [RATE, TOO_SMALL])
def test_a_skipped_update_is_caught_or_among_the_unseen(rate: float) -> None:
    """Both sides of the claim: what is not listed would have been caught, what is listed would not."""
    listed = set(honest(rate).unseen_updates)
    report = run(Keeps(NAMES), rate)
    caught = {c.name.removeprefix("new_") for c in report.comparisons if not c.agree}
    assert caught | listed == set(NAMES) and not caught & listed
    assert (listed == WITHOUT_GRADIENT) is (rate == RATE)


def test_the_summary_names_the_first_of_the_unseen_and_nothing_if_all_is_seen() -> None:
    [line] = [line for line in summary(honest(0.0)) if "too small to be seen" in line]
    assert f"{len(NAMES)} of {len(NAMES)} parameters" in line
    assert line.count(",") == 5 and line.endswith(", ...)")
    seen = Report("locked", Criterion(), ms_per_step=1.0, updates={"slot_out.bias": 1.5})
    seen.comparisons.append(Comparison(0, "new_slot_out.bias", "updated", "slot_out", (3,), agree=True))
    assert not any("too small" in line for line in summary(seen))


def test_an_update_is_unseen_as_long_as_leaving_it_out_would_agree() -> None:
    excesses = {"within": 0.5, "at": 1.0, "beyond": 1.001}
    assert Report("locked", Criterion(), updates=excesses).unseen_updates == ["within", "at"]


def test_an_excess_is_the_error_over_what_is_allowed() -> None:
    for c in honest(RATE).comparisons:
        assert c.device_error is not None and c.allowed is not None and c.allowed > 0
        assert c.excess == pytest.approx(c.device_error / c.allowed)
