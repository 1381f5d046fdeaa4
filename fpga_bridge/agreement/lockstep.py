"""Lockstep co-simulation: the same SGD steps on a device, on float32 JAX and on the float64 truth.

Modes: ``locked`` starts each step from the device's state; ``free`` lets all run on alone; ``isolated``
hands every stage the truth's inputs, so that a stage's error is its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

from fpga_bridge.agreement.compare import relative_distance
from fpga_bridge.agreement.criterion import Comparison, Criterion, compare_step, excess_of
from fpga_bridge.agreement.kept import INPUT, StepInput
from fpga_bridge.device import Device, Trace
from fpga_bridge.devices.host import KernelDevice, visible_points
from fpga_bridge.devices.reference import JaxDevice
from fpga_bridge.program.makers import makers
from fpga_bridge.program.manifest import make_manifest
from ttjax import Batch, ModelConfig, Params, UserError, flatten
from ttjax.params import layer_of

Mode = Literal["locked", "free", "isolated"]
Verdict = Literal["AGREE", "DISAGREE", "NO VERDICT"]
# Trace points of the losses that a step returns, in its order.
RETURNED = ("loss", "intent_loss", "slot_loss")


@dataclass
class Report:
    """What a co-simulation found.

    same_bits: whether the steps run again without trace, in one call, end in the same parameters to the
    bit; same_losses: whether they return the same losses. misstated: losses that the device returned in
    other bits than its trace shows, each with the first such step. None of these are looked at in isolated
    mode, where overrides steer the traced steps and take the losses' place.
    failing: both sides' arrays of the first step that disagrees, and its inputs: the device's parameters
    before it, ids and rate. made_by: the kernel's instructions whose results the first divergence shows.
    updates: by parameter, the largest excess that leaving it as it was before a step would have had; one
    whose updates stay at or below 1 would agree without them.
    moved: parameters that the device holds after a step in other bits than it should, each with the first
    such step: what is frozen as it was at the start, what is trained as the step's trace shows it.
    """

    mode: Mode
    criterion: Criterion
    comparisons: list[Comparison] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    ms_per_step: float | None = None
    same_bits: bool | None = None
    failing: dict[str, Trace] = field(default_factory=dict)
    made_by: tuple[str, ...] = ()
    updates: dict[str, float] = field(default_factory=dict)
    moved: dict[str, int] = field(default_factory=dict)
    misstated: dict[str, int] = field(default_factory=dict)
    same_losses: bool | None = None

    @property
    def steps(self) -> int:
        """Steps compared."""
        return len(self.losses)

    @property
    def unseen_updates(self) -> list[str]:
        """Parameters that could have been left as they were in every step, and all would agree."""
        return [name for name, excess in self.updates.items() if excess <= 1.0]

    @property
    def unjudged(self) -> list[Comparison]:
        """Points where zeros would agree too, without those of the parameters in ``unseen_updates``."""
        unseen = {f"{prefix}{name}" for name in self.unseen_updates for prefix in ("d_", "new_")}
        return [c for c in self.comparisons if c.unjudged and c.name not in unseen]

    @property
    def undecided(self) -> tuple[int, str] | None:
        """The first step, and kind of trace point, of whose points zeros would agree at half or more."""
        unjudged: dict[tuple[int, str], list[bool]] = {}
        for c in self.comparisons:
            unjudged.setdefault((c.step, c.kind), []).append(c.unjudged)
        return next((at for at, of_kind in unjudged.items() if 2 * sum(of_kind) >= len(of_kind)), None)

    @property
    def first_divergence(self) -> Comparison | None:
        """The first disagreement in order of execution."""
        return next((c for c in self.comparisons if not c.agree), None)

    @property
    def agree(self) -> bool:
        """Whether every point of every step agrees, there was one, and the rest is as the trace shows it."""
        return self.verdict == "AGREE"

    @property
    def verdict(self) -> Verdict:
        """What was found of the device: NO VERDICT where the steps diverge, or one is ``undecided``."""
        first = self.first_divergence
        repeated = self.same_bits is not False and self.same_losses is not False
        if not (self.comparisons and repeated) or self.moved or self.misstated:
            return "DISAGREE"
        if first is not None:
            return "NO VERDICT" if first.diverges else "DISAGREE"
        return "AGREE" if self.undecided is None else "NO VERDICT"


def cosimulate(
    device: Device,
    params: Params,
    batch: Batch,
    rates: Float32[np.ndarray, " n"],
    *,
    mode: Mode = "locked",
    criterion: Criterion | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Report:
    """Runs n steps (fields of ``batch`` with a leading axis n) and compares every trace point.

    All devices start from ``params``; ``rates`` are the steps' learning rates. ``progress`` is called after
    each step.

    Raises:
        UserError: an unknown mode, or no step to run.
    """
    if mode not in get_args(Mode):
        raise UserError(f"unknown mode {mode!r}: expected one of {', '.join(get_args(Mode))}")
    if not len(rates):
        raise UserError("nothing to compare: expected at least one step")
    criterion = criterion or Criterion()
    points = visible_points(device, make_manifest(device.config))
    truth, jax = JaxDevice(device.config, np.float64), JaxDevice(device.config)
    report = Report(mode, criterion)
    for one in (device, truth, jax):
        one.load(params)
    frozen = _of_frozen(params, device.config)
    state = device.read()
    returned = []
    for step, rate in enumerate(rates):
        sentence = Batch(*(np.asarray(field)[step] for field in batch))
        overrides = None
        if mode != "free":
            truth.load(state)
            jax.load(state)
            if mode == "isolated":
                overrides = _inputs_of_all_stages(truth.step(sentence, rate, trace=True).trace or {})
                truth.load(state)
        before = flatten(truth.read())
        results = [one.step(sentence, rate, trace=True, overrides=overrides) for one in (device, jax, truth)]
        actual, expected, exact = (result.trace or {} for result in results)
        if not device.taps:
            # Such a device shows less; what it must show is in ``points``, and all of it is compared.
            seen = {point.name for point in points}
            expected, exact = ({n: a for n, a in side.items() if n in seen} for side in (expected, exact))
        compared = compare_step(
            step,
            points,
            actual=actual,
            expected=expected,
            truth=exact,
            criterion=criterion,
            rate=float(rate),
        )
        report.comparisons.extend(compared)
        for name, excess in _of_skipped_updates(compared, exact, before):
            report.updates[name] = max(excess, report.updates.get(name, 0.0))
        report.losses.append((results[0].loss, results[1].loss))
        returned.append(results[0].losses)
        for name, loss in zip(RETURNED, returned[-1], strict=True):
            if overrides is None and name in actual and actual[name].tobytes() != loss.tobytes():
                report.misstated.setdefault(name, step)
        first = next((c for c in compared if not c.agree), None)
        if first is not None and not report.failing:
            given = StepInput(state, sentence, float(rate)).arrays()
            report.failing = {"device": actual, "jax": expected, "truth": exact, INPUT: given}
            if isinstance(device, KernelDevice) and not first.diverges:
                report.made_by = tuple(job.label for job in makers(device.manifest)[first.name])
        state = device.read()
        held = flatten(state)
        shown = {name: actual[f"new_{name}"] for name in held if f"new_{name}" in actual}
        for name in _changed(frozen | shown, held):
            report.moved.setdefault(name, step)
        progress()
    _run_untraced(device, params, batch, rates, np.array(returned), report)
    return report


def _inputs_of_all_stages(trace: Trace) -> Trace:
    """Every value and gradient of a step, rounded to float32; an updated parameter is no stage's input."""
    return {name: a.astype(np.float32) for name, a in trace.items() if not name.startswith("new_")}


def _of_skipped_updates(
    compared: list[Comparison], truth: Trace, before: Trace
) -> Iterator[tuple[str, float]]:
    """Of each parameter by name: the excess it would have if the step had left it as it was before."""
    for c in compared:
        if c.kind == "updated" and c.allowed is not None:
            name = c.name.removeprefix("new_")
            error = relative_distance({name: before[name]}, {name: truth[c.name]})
            yield name, excess_of(error, c.allowed)


def _of_frozen(params: Params, config: ModelConfig) -> Trace:
    """The parameters that aren't to change, by name: they have no trace point after a step."""
    leaves = flatten(params)
    return {name: np.asarray(a) for name, a in leaves.items() if not config.trains(layer_of(name))}


def _changed(before: Trace, after: Trace) -> list[str]:
    """Names of the arrays whose bits differ."""
    return [name for name, array in before.items() if array.tobytes() != after[name].tobytes()]


def _run_untraced(
    device: Device, params: Params, batch: Batch, rates: np.ndarray, returned: np.ndarray, report: Report
) -> None:
    """The same steps in one call without trace: their time, and whether tracing changes a bit."""
    traced = flatten(device.read())
    device.load(params)
    start = time.perf_counter()
    losses = device.steps(batch, rates)
    report.ms_per_step = 1e3 * (time.perf_counter() - start) / len(rates)
    if report.mode != "isolated":
        report.same_bits = not _changed(traced, flatten(device.read()))
        report.same_losses = losses.tobytes() == returned.tobytes()
