"""Times trainings in turn, so that all see the machine's same moods, and measures the machine beside them.

A training goes on from slice to slice: its parameters are carried, and its losses are kept to be checked.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from ttjax.provenance import code_version, processor, versions

PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "torch", "tensorly", "tensorly-torch", "opt_einsum")
MATMUL_SIZES = (256, 512, 1024)


class NotRun(Exception):
    """Why a training can't be timed here, in one line."""


@dataclass(frozen=True)
class Training:
    """A model in training on a pool of examples, over and over.

    advance: goes once through the pool, carrying the parameters on, waits for the result, and returns the
    losses, each before its step. multiplications: in the matrix products of one step. same_as: trainings
    with the same word start from the same parameters on the same pool: their losses must agree.
    """

    advance: Callable[[], np.ndarray]
    multiplications: int
    same_as: str


@dataclass
class Row:
    """What was found of one training: times of a step in ms, one a slice; or why it was not run."""

    name: str
    case: str
    multiplications: int | None = None
    not_run: str | None = None
    ms: list[float] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name and case, for a message."""
        return f"{self.name} ({self.case})"

    @property
    def median(self) -> float:
        """Median time of a step, in ms."""
        return float(np.median(self.ms))

    def summary(self) -> dict[str, Any]:
        """Everything of the row for JSON; quartiles and extremes say how far the slices spread."""
        if self.not_run is not None:
            return {"case": self.case, "name": self.name, "not_run": self.not_run}
        low, high = np.percentile(self.ms, (25, 75))
        return {
            "case": self.case,
            "name": self.name,
            "ms": self.median,
            "ms_quartiles": [float(low), float(high)],
            "ms_extremes": [min(self.ms), max(self.ms)],
            "ms_slices": self.ms,
            "multiplications": self.multiplications,
            "gflops": self.gflops,
        }

    @property
    def gflops(self) -> float:
        """Achieved GFLOP/s in the matrix products, a multiplication and its addition counted as two."""
        return 2e-6 * (self.multiplications or 0) / self.median


def warm_up(timed: Sequence[tuple[Row, Training]], on_each: Callable[[], None]) -> None:
    """Two passes of each: compiles, and checks that all that should be the same training are.

    Raises:
        RuntimeError: losses that aren't finite, that stay as they are from pass to pass, or that differ from
            those of the first training with the same ``same_as``.
    """
    first: dict[str, tuple[str, np.ndarray]] = {}
    for row, training in timed:
        passes = np.concatenate([training.advance(), training.advance()])
        on_each()
        before, after = np.split(passes, 2)
        if not np.isfinite(passes).all() or not (before != after).all():
            raise RuntimeError(f"{row.label}: its parameters aren't carried on, or it diverges: {passes}")
        name, expected = first.setdefault(training.same_as, (row.label, passes))
        if not np.allclose(passes, expected, rtol=2e-3):
            worst = int(np.argmax(np.abs(passes - expected)))
            raise RuntimeError(
                f"{row.label} is not the same training as {name}: at step {worst} the loss is"
                f" {passes[worst]}, expected {expected[worst]}"
            )


def time_in_turn(
    timed: Sequence[tuple[Row, Training]], rounds: int, seconds: float, on_round: Callable[[], None]
) -> None:
    """Adds to each row the ms of a step, one number a round: round-robin over the trainings.

    A slice is whole passes through the pool, at least one and at least ``seconds`` long. Each round takes
    the trainings in another order, so that none always follows the same one.

    Raises:
        RuntimeError: a loss isn't finite.
    """
    rng = np.random.default_rng(0)
    for _ in range(rounds):
        for i in rng.permutation(len(timed)):
            row, training = timed[i]
            steps, elapsed, finite, began = 0, 0.0, True, time.perf_counter()
            while not steps or elapsed < seconds:
                losses = training.advance()
                elapsed = time.perf_counter() - began
                steps += len(losses)
                finite &= bool(np.isfinite(losses).all())
            if not finite:
                raise RuntimeError(f"{row.label} diverged while it was timed")
            row.ms.append(1e3 * elapsed / steps)
        on_round()


def matmul_peak(seconds: float = 0.2) -> dict[str, float]:
    """Best GFLOP/s of float32 matrix products of MATMUL_SIZES by library, on the cores this process has."""
    multiply: dict[str, Callable[[Any, Any], Any]] = {
        "numpy": np.matmul,
        "jax": jax.jit(lambda a, b: a @ b),
    }
    convert: dict[str, Callable[[np.ndarray], Any]] = {"numpy": np.asarray, "jax": jax.numpy.asarray}
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        multiply["torch"], convert["torch"] = torch.matmul, torch.tensor
    best = {name: 0.0 for name in multiply}
    for size in MATMUL_SIZES:
        square = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
        for name, product in multiply.items():
            a = convert[name](square)
            jax.block_until_ready(product(a, a))
            end = time.perf_counter() + seconds / len(MATMUL_SIZES)
            while (began := time.perf_counter()) < end:
                jax.block_until_ready(product(a, a))
                best[name] = max(best[name], 2e-9 * size**3 / (time.perf_counter() - began))
    return best


def machine() -> dict[str, Any]:
    """Processor, cores in use, versions and the commit: what a time depends on.

    To be asked for before the work: then the load is that of others, and the commit the one that is timed.
    """
    return {
        "cpu": processor(),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": list(os.getloadavg()),
        "system": platform.platform(),
        "versions": versions(PACKAGES),
        "commit": code_version(),
    }
