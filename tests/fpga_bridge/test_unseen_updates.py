"""What the criterion can't see, told so that agreement is not taken for more than it says.

Updates too small, points where zeros would agree too, and steps of which no verdict is given.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.criterion import Comparison, Criterion
from fpga_bridge.agreement.lockstep import Mode, Report, cosimulate
from fpga_bridge.agreement.report import summary, to_json
from fpga_bridge.device import Device, StepResult, Trace
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.program.manifest import LOSSES
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


class ShowsZeros(JaxDevice):
    """Steps as JAX does, and shows zeros at every point."""

    def step(self, *args: Any, **options: Any) -> StepResult:
        result = super().step(*args, **options)
        shown = {name: np.zeros_like(array) for name, array in (result.trace or {}).items()}
        return StepResult(result.loss, result.intent_loss, result.slot_loss, shown or None)


def sure_of_itself(device: Device) -> Report:
    """One step of a model that has no doubt of the labels: float32 loses what is left of the gradients."""
    params = random_params(TINY)
    for head in ("intent_out", "slot_out"):
        params[head]["bias"][0] = 25  # Of e^-25 float64 still sees what it takes from 1.
    sentence = sentences(TINY, 1)
    labels = {"intent": np.zeros_like(sentence.intent), "slots": np.zeros_like(sentence.slots)}
    return cosimulate(device, params, sentence._replace(**labels), np.full(1, RATE, np.float32))


def test_zeros_agree_just_where_a_point_is_said_to_be_unjudged() -> None:
    compared = sure_of_itself(ShowsZeros(TINY)).comparisons
    assert all(c.agree is c.unjudged for c in compared if c.device_error == 1.0)
    assert {c.agree for c in compared if c.kind == "value_gradient"} == {True}
    assert [c.name for c in compared if c.kind == "value" and c.agree] == [*LOSSES]


def test_a_step_whose_gradients_float32_loses_gets_no_verdict() -> None:
    """JAX itself agrees at every point there, as zeros would."""
    report = sure_of_itself(JaxDevice(TINY))
    assert report.first_divergence is None and report.undecided == (0, "value_gradient")
    assert (report.verdict, report.agree) == ("NO VERDICT", False)


def points(step: int, kind: str, *allowed: float) -> list[Comparison]:
    """Of one kind, agreeing, with these errors allowed."""
    return [Comparison(step, f"{kind} {i}", kind, "s", (), True, allowed=a) for i, a in enumerate(allowed)]


@pytest.mark.parametrize("kind", ["value", "value_gradient", "parameter_gradient", "updated"])
def test_half_the_points_of_one_kind_in_one_step_decide(kind: str) -> None:
    others = [*points(0, "a", 0.5, 0.5, 0.5), *points(1, "a", 0.5, 2.0, 0.5), *points(0, kind, 0.9, 0.9)]
    few = Report("locked", Criterion(), [*others, *points(1, kind, 0.5, 1.0, 0.999)], ms_per_step=1.0)
    assert few.undecided is None and few.agree and summary(few)[-1] == "AGREE"
    half = Report("locked", Criterion(), [*others, *points(1, kind, 0.5, 1.0, 7.0, 0.999)], ms_per_step=1.0)
    assert half.undecided == (1, kind) and half.verdict == "NO VERDICT" and not half.agree
    heading = {"value": "forward", "value_gradient": "backward", "parameter_gradient": "gradients"}
    assert summary(half)[-1] == (
        f"NO VERDICT: half or more of step 2's points under {heading.get(kind, kind)} can't be judged: lower"
        " --rate or --multiple, or run fewer --steps"
    )
    assert to_json(half)["undecided"] == {"step": 1, "kind": kind}
    wrong = Report("locked", Criterion(), [*half.comparisons, *points(1, "value", 0.5)], moved={"p": 0})
    assert wrong.verdict == "DISAGREE"


def test_points_that_can_not_be_judged_are_counted_but_those_of_updates_named_as_unseen() -> None:
    few = Report("locked", Criterion(), points(2, "value", 0.5, 1.0, 0.5, 0.5, 2.0), ms_per_step=1.0)
    few.updates["b.k.bias"] = 0.5
    few.comparisons += [
        Comparison(0, f"{prefix}b.k.bias", "updated", "b.k", (3,), agree=True, allowed=9.0)
        for prefix in ("d_", "new_")
    ]
    few.comparisons += points(0, "updated", 0.1, 0.1, 0.1)
    line = "points that can't be judged, 2 of 10: zeros would agree too; the first: value 1, in step 3"
    assert line in summary(few) and summary(few)[-1] == "AGREE"
    assert to_json(few)["unjudged"] == 2
    assert not any("can't be judged" in line for line in summary(honest(RATE)))
