"""Lockstep co-simulation: honest devices agree in every mode, and a device that lies is caught where it lies.

Liars wrap the compiled kernel and spoil one thing each.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.agreement import lockstep
from fpga_bridge.agreement.criterion import Comparison, Criterion, compare_step
from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.agreement.report import KINDS, describe, stage_table, summary, to_json
from fpga_bridge.device import Device, StepResult, Trace
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.program.manifest import LOSSES, TracePoint, make_manifest
from tests.fpga_bridge.liars import Spoils
from tests.fpga_bridge.samples import (
    RATE,
    TINY,
    Trio,
    is_padding,
    one_of,
    random_params,
    rates,
    same_bits,
    sentences,
)
from ttjax import Batch, Params, UserError
from ttjax.data import build_vocabulary, config_for, encode, load_corpus

N_POINTS = len(make_manifest(TINY).points)


def run(device: Device, mode: str = "locked", n: int = 2) -> Report:
    return cosimulate(
        device,
        random_params(device.config),
        sentences(device.config, n),
        rates(n),
        mode=mode,  # type: ignore[arg-type]
    )


def travel(n: int) -> tuple[CsimDevice, Batch]:
    """The device for travel's labels, and n of its training sentences."""
    corpus = load_corpus("travel", notify=lambda _: None)
    vocabulary = build_vocabulary(corpus, TINY.vocab_size)
    config = config_for(TINY, vocabulary)
    batch = encode(corpus.train[:n], vocabulary, config.seq_len).batch
    return CsimDevice(config), Batch(*(np.asarray(field) for field in batch))


def test_twenty_locked_steps_on_travel_agree_at_every_point() -> None:
    device, batch = travel(20)
    report = cosimulate(device, random_params(device.config), batch, rates(20))
    assert report.agree and report.first_divergence is None, report.first_divergence
    assert report.steps == 20
    assert len(report.comparisons) == 20 * len(device.manifest.points)
    assert [c.name for c in report.comparisons[: len(device.manifest.points)]] == [
        p.name for p in device.manifest.points
    ]
    assert report.same_bits is True
    assert report.ms_per_step is not None and report.ms_per_step > 0
    assert report.failing == {}


@pytest.mark.parametrize("mode", ["locked", "free", "isolated"])
def test_the_kernel_agrees_in_every_mode(mode: str) -> None:
    calls = []
    report = cosimulate(
        CsimDevice(TINY),
        random_params(TINY),
        sentences(TINY, 3),
        rates(3),
        mode=mode,  # type: ignore[arg-type]
        progress=lambda: calls.append(None),
    )
    assert report.agree, report.first_divergence
    assert report.mode == mode and len(calls) == report.steps == 3
    assert report.same_bits is report.same_losses is (None if mode == "isolated" else True)
    assert all(device == pytest.approx(jax, rel=1e-5) for device, jax in report.losses)


def test_training_goes_on_from_step_to_step() -> None:
    """Three steps on one sentence lower its loss: the state is kept, not set back."""
    one = sentences(TINY, 1)
    batch = Batch(*(np.repeat(np.asarray(field), 3, axis=0) for field in one))
    for mode in ("locked", "free", "isolated"):
        report = cosimulate(
            CsimDevice(TINY),
            random_params(TINY),
            batch,
            rates(3),
            mode=mode,  # type: ignore[arg-type]
        )
        losses = [device for device, _ in report.losses]
        assert losses[0] > losses[1] > losses[2], mode


class SkipsItsUpdate(CsimDevice):
    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        return super().step(batch, 0.0, trace=trace, overrides=overrides)


def test_a_device_that_skips_its_update_is_caught_at_the_first_updated_parameter() -> None:
    report = run(SkipsItsUpdate(TINY))
    first = report.first_divergence
    assert not report.agree and first is not None
    assert (first.step, first.kind) == (0, "updated")


def test_a_device_whose_untraced_steps_end_in_other_bits_is_caught() -> None:
    class SlowLearner(CsimDevice):
        def steps(self, batch: Batch, rates: np.ndarray) -> np.ndarray:
            return super().steps(batch, rates * np.float32(1.0001))

    report = run(SlowLearner(TINY))
    assert report.first_divergence is None
    assert report.same_bits is False and not report.agree
    assert "DISAGREE" in summary(report)


@pytest.mark.parametrize("mode", ["locked", "free"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_returned_otherwise_than_the_trace_shows_it_is_caught(name: str, mode: str) -> None:
    class Misstates(JaxDevice):
        def step(self, *args: Any, **options: Any) -> StepResult:
            result = super().step(*args, **options)
            below = np.nextafter(np.float32(getattr(result, name)), np.float32(0))
            return replace(result, **{name: float(below)})

    report = run(Misstates(TINY), mode)
    assert report.first_divergence is None and not report.agree
    assert report.misstated == {name: 0} and to_json(report)["misstated"] == {name: 0}
    line = f"losses that the device returned otherwise than it showed them, 1; the first: {name}, in step 1"
    assert line in summary(report) and summary(report)[-1] == "DISAGREE"


def test_a_device_whose_untraced_steps_return_other_losses_is_caught() -> None:
    class LastFirst(JaxDevice):
        def steps(self, batch: Batch, rates: np.ndarray) -> np.ndarray:
            return super().steps(batch, rates)[::-1]

    report = run(LastFirst(TINY))
    assert report.first_divergence is None and report.misstated == {} and report.same_bits is True
    assert report.same_losses is False and not report.agree
    assert to_json(report)["same_losses_untraced"] is False
    line = "the same steps in one call without trace end in the same bits, with OTHER LOSSES"
    assert line in summary(report) and summary(report)[-1] == "DISAGREE"


@pytest.mark.parametrize("mode", ["locked", "free", "isolated"])
@pytest.mark.parametrize("what", ["drop", "nan", "shift"])
@pytest.mark.parametrize("point", ["block0.probs", "d_block1.v.core2", "new_slot_out.bias", "loss"])
def test_a_device_that_lies_about_one_point_is_caught_there(point: str, what: str, mode: str) -> None:
    report = run(Spoils(point, what, at=1), mode)
    wrong = [(c.step, c.name) for c in report.comparisons if not c.agree]
    assert wrong == [(1, point)]
    assert not report.agree
    first = report.first_divergence
    assert first is not None and first.name == point
    assert describe(first).startswith(f"step 2, stage {first.stage} ({KINDS[first.kind]}), {point}")


class LeavesStale(CsimDevice):
    """A kernel that leaves ``number`` in its trace buffer at the ``places`` set, whatever it computed."""

    places = np.array([], int)
    number = 0.0

    def _run(self, command: int, *, trace: np.ndarray | None = None, **buffers: Any) -> None:
        super()._run(command, trace=trace, **buffers)
        if trace is not None:
            trace[self.places] = self.number


@pytest.fixture(scope="module")
def stale() -> Trio:
    return Trio(TINY, LeavesStale(TINY))


OVER_POSITIONS = [p for p in make_manifest(TINY).points if p.token_axes]


@given(st.data(), st.integers(2, TINY.seq_len - 1))
@settings(max_examples=8)
def test_numbers_at_padding_change_no_verdict_and_far_ones_elsewhere_do(
    stale: Trio, data: st.DataObject, length: int
) -> None:
    device, sentence = stale.device, one_of(sentences(TINY, 1, length, [length]))
    assert isinstance(device, LeavesStale)

    def compared(places: np.ndarray, number: float) -> dict[str, Comparison]:
        device.places, device.number = places, number
        return stale.compare(random_params(TINY), sentence)

    def places(point: TracePoint, where: np.ndarray) -> np.ndarray:
        return point.offset + np.flatnonzero(where)

    clean = compared(np.array([], int), 0.0)
    assert [name for name, c in clean.items() if not c.agree] == []

    padding = np.concatenate([places(p, is_padding(p, length)) for p in OVER_POSITIONS])
    assert compared(padding, data.draw(st.floats(width=32))) == clean

    point = data.draw(st.sampled_from(OVER_POSITIONS))
    one = data.draw(st.sampled_from(places(point, ~is_padding(point, length)).tolist()))
    far = compared(np.array([one]), data.draw(st.sampled_from([1e6, -1e6, np.nan, np.inf])))
    assert [name for name, c in far.items() if not c.agree] == [point.name]


def test_both_sides_show_zeros_at_padding() -> None:
    """In what is kept of a failing step too."""
    length = 4
    report = cosimulate(
        Spoils("loss", "shift"), random_params(TINY), sentences(TINY, 1, lengths=[length]), rates(1)
    )
    for side in ("device", "jax", "truth"):
        trace = report.failing[side]
        for point in OVER_POSITIONS:
            assert not np.any(trace[point.name][is_padding(point, length)]), (side, point.name)
            assert np.any(trace[point.name]), (side, point.name)


def test_the_summary_says_that_padding_is_left_out() -> None:
    assert "padding left out" in summary(run(CsimDevice(TINY), n=1))[0]


def test_values_handed_in_at_padding_count_as_zero() -> None:
    """Else a gradient handed in there would reach the parameters. (JAX does the same: test_stages.py.)"""
    length, device = 4, CsimDevice(TINY)
    sentence = one_of(sentences(TINY, 1, lengths=[length]))
    array = np.random.default_rng(0).standard_normal((TINY.seq_len, TINY.d_model)).astype(np.float32)
    zeroed = np.where(np.arange(TINY.seq_len)[:, None] < length, array, np.float32(0))
    traces = []
    for handed_in in (array, zeroed):
        device.load(random_params(TINY))
        traces.append(device.step(sentence, RATE, overrides={"d_slot_pre": handed_in}).trace or {})
    assert [n for n in traces[0] if not same_bits(traces[0][n], traces[1][n])] == []


def test_a_report_of_nans_is_still_json_and_a_table() -> None:
    """Parameters of NaN have NaN losses too."""
    params = random_params(TINY)
    params["embed"]["core0"][...] = np.nan
    report = cosimulate(CsimDevice(TINY), params, sentences(TINY, 1), rates(1))
    assert not report.agree
    text = json.dumps(to_json(report), allow_nan=False)
    assert json.loads(text)["agree"] is False
    assert stage_table(report).row_count > 0
    assert summary(report)[-1].startswith("NO VERDICT: the steps diverge")


def test_zero_steps_are_refused() -> None:
    with pytest.raises(UserError, match="expected at least one step"):
        cosimulate(CsimDevice(TINY), random_params(TINY), sentences(TINY, 0, lengths=[]), rates(0))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match="unknown mode 'loose': expected one of locked, free, isolated"):
        run(CsimDevice(TINY), "loose")


def test_a_report_without_comparisons_never_agrees() -> None:
    assert not Report("locked", Criterion()).agree
    assert not Report("locked", Criterion(), same_bits=True).agree


def test_the_table_has_every_stage_and_the_json_every_point() -> None:
    report = run(CsimDevice(TINY))
    stages = {p.stage for p in make_manifest(TINY).points}
    assert stage_table(report).row_count == len(stages)
    content = to_json(report)
    assert content["agree"] is True and content["first_divergence"] is None and content["steps"] == 2
    assert len(content["points"]) == 2 * N_POINTS
    assert json.loads(json.dumps(content, allow_nan=False))["points"][0]["name"] == "embed"


def test_jax_in_float32_is_a_device_that_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is judged by its own learning rate; what the first has shown, the second can't hide."""
    judged: list[float] = []

    def noted(*args: Any, rate: float, **sides: Any) -> list[Comparison]:
        judged.append(rate)
        return compare_step(*args, rate=rate, **sides)

    monkeypatch.setattr(lockstep, "compare_step", noted)
    each = np.array([RATE, 0.0], np.float32)
    report = cosimulate(JaxDevice(TINY), random_params(TINY), sentences(TINY, 2), each)
    assert report.agree and judged == each.tolist()
    assert set(report.unseen_updates) == {f"block{b}.k.bias" for b in range(TINY.n_blocks)}
    assert all(c.relative == 0.0 and c.ulp == (0, 0, 0) for c in report.comparisons)


def test_the_reference_refuses_to_step_before_it_has_parameters() -> None:
    with pytest.raises(RuntimeError, match="call load first"):
        JaxDevice(TINY).read()


def test_the_reference_gives_back_the_parameters_it_was_given() -> None:
    params: Params = random_params(TINY)
    for dtype in (np.float32, np.float64):
        device = JaxDevice(TINY, dtype)
        device.load(params)
        assert same_bits(device.read()["slot_out"]["weight"], params["slot_out"]["weight"])
