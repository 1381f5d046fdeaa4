"""The same SGD steps on every device from one start, each held against the float64 evaluation.

A course is what one device made of them: its losses, how far its parameters drifted, its time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fpga_bridge.device import Device
from ttjax import Batch, ModelConfig, Params, flatten, sgd_step

# States of the truth that are kept for the drift: at most this many, evenly over the steps.
MARKS = 50
# One object for each rate: the step is compiled for each optimizer.
_sgd = lru_cache(maxsize=8)(optax.sgd)
# Root mean square below which a parameter of the truth is its own rounding error.
NOISE = 1e-12


@dataclass(frozen=True)
class Course:
    """What one device made of the steps. ``states`` holds parameters by name after each marked step.

    ms_per_step: None where nobody asked for it.
    """

    losses: np.ndarray
    states: dict[int, dict[str, np.ndarray]]
    ms_per_step: float | None = None


@dataclass(frozen=True)
class Finding:
    """One device against the truth, or why it is absent from this machine, or what it failed at.

    parameter_error: normwise over all parameters after the last step; worst: the parameter with the largest
    error of its own. loss_error: the largest relative error of a step's loss. drift: parameter error by step.
    """

    device: str
    absent: str | None = None
    failed: str | None = None
    parameter_error: float | None = None
    worst: str | None = None
    worst_error: float | None = None
    loss_error: float | None = None
    ms_per_step: float | None = None
    drift: dict[int, float] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether the device ran, and all that is said of its results is a number."""
        figures = (self.parameter_error, self.worst_error, self.loss_error, *self.drift.values())
        return all(figure is not None and math.isfinite(figure) for figure in figures)


def marked_steps(n: int) -> list[int]:
    """Numbers of the steps after which states are compared, the last among them; steps count from 1."""
    return sorted({round(step) for step in np.linspace(1, n, min(n, MARKS))})


def jax_course(
    config: ModelConfig,
    params: Params,
    batch: Batch,
    rate: float,
    on: Any,
    dtype: type[np.floating] = np.float32,
    *,
    timed: bool = True,
) -> Course:
    """The jitted step of ``ttjax`` on one of JAX's devices, matrix products at the highest precision.

    timed: whether to run the steps a second time, for their time alone.
    """
    optimizer = _sgd(float(np.float32(rate)))
    n = len(np.asarray(batch.length))
    marks = set(marked_steps(n))
    with (
        jax.enable_x64(dtype == np.float64),
        jax.default_matmul_precision("highest"),
        jax.default_device(on),
    ):
        start = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), params)
        examples = [Batch(*(jnp.asarray(np.asarray(f)[i], jnp.int32) for f in batch)) for i in range(n)]

        def run(keep: Callable[[int, Params], None]) -> list[Any]:
            held, state, losses = start, optimizer.init(start), []
            for i, example in enumerate(examples):
                held, state, value = sgd_step(held, state, example, optimizer, config)
                losses.append(value)
                keep(i + 1, held)
            jax.block_until_ready((held, losses))
            return losses

        states: dict[int, dict[str, np.ndarray]] = {}

        def keep_marked(step: int, held: Params) -> None:
            if step in marks:
                states[step] = {name: np.asarray(leaf) for name, leaf in flatten(held).items()}

        losses = np.array([float(loss) for loss in run(keep_marked)])
        if not timed:
            return Course(losses, states)
        # Compiled by now: the second run is the step's own time.
        began = time.perf_counter()
        run(lambda step, held: None)
        elapsed = time.perf_counter() - began
    return Course(losses, states, 1e3 * elapsed / n)


def kernel_course(device: Device, params: Params, batch: Batch, rate: float) -> Course:
    """The kernel on a device: once up to each mark, to see its parameters, then all steps in one call."""
    n = len(np.asarray(batch.length))
    device.load(params)
    losses, states, done = [], {}, 0
    for mark in marked_steps(n):
        part = Batch(*(np.asarray(f)[done:mark] for f in batch))
        losses.extend(device.steps(part, np.full(mark - done, rate, np.float32))[:, 0])
        states[mark] = {name: np.asarray(leaf) for name, leaf in flatten(device.read()).items()}
        done = mark
    device.load(params)
    began = time.perf_counter()
    device.steps(batch, np.full(n, rate, np.float32))
    return Course(np.array(losses, float), states, 1e3 * (time.perf_counter() - began) / n)


def judge(name: str, course: Course, truth: Course) -> Finding:
    """A course's errors against the truth's."""
    drift = {step: relative_distance(state, truth.states[step]) for step, state in course.states.items()}
    last = max(course.states)
    each = {
        parameter: relative_distance({parameter: course.states[last][parameter]}, {parameter: value})
        for parameter, value in truth.states[last].items()
        # A key's bias stays 0 in exact arithmetic: what rounding makes of it has no relative error.
        if np.sqrt(np.mean(np.square(value))) > NOISE
    }
    worst = max(each, key=lambda parameter: np.inf if np.isnan(each[parameter]) else each[parameter])
    relative = np.abs(course.losses - truth.losses) / np.abs(truth.losses)
    return Finding(
        device=name,
        parameter_error=drift[last],
        worst=worst,
        worst_error=each[worst],
        loss_error=float(relative.max()),
        ms_per_step=course.ms_per_step,
        drift=drift,
    )


def same_end(courses: list[Course]) -> bool:
    """Whether all end in the same parameters, to the bit."""
    return all(bits == _bits(courses[0]) for bits in map(_bits, courses))


def _bits(course: Course) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in course.states[max(course.states)].items()}


def relative_distance(state: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> float:
    """Of arrays by name: Euclidean distance over the truth's length, or over 1 where that is zero."""

    def length(arrays: Iterator[np.ndarray]) -> float:
        return float(np.sqrt(sum(float(np.sum(np.square(array, dtype=float))) for array in arrays)))

    distance = length(np.asarray(state[name], float) - value for name, value in truth.items())
    return distance / (length(iter(truth.values())) or 1.0)
