"""Agreement of one trace point: the device against JAX, both measured against the float64 truth.

No tolerance is tuned by layer: a point agrees when the device's error is within a stated multiple of what
float32 itself costs (JAX's error), plus a stated floor.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from jaxtyping import Float, Int64

from fpga_bridge.device import Trace
from fpga_bridge.program.manifest import TracePoint
from ttjax import UserError
from ttjax.output import json_number

EPSILON = float(np.finfo(np.float32).eps)
# Excess of an error where none at all is allowed.
FAR = 1e9


@dataclass(frozen=True)
class Criterion:
    """|device - truth| <= multiple * yardstick * |truth| + floor * epsilon * scale, with epsilon = 2^-23.

    yardstick: JAX's relative error at the point, or the median of JAX's errors over the step's points of the
    same kind where that is larger: JAX can be all but exact at one point by luck (a scalar, a short vector),
    not at half of them. The multiple covers another order of summation.

    scale: |truth| or, where that is larger, for a parameter's gradient the norm of the gradient that enters
    its layer, for an updated parameter that times |learning rate|. A sum can cancel (the gradient of a
    key's bias is zero in exact arithmetic); its rounding is that of its terms.

    Raises:
        UserError: a multiple or floor that is not a finite number from 0 up.
    """

    multiple: float = 32.0
    floor: float = 4.0

    def __post_init__(self) -> None:
        for name in ("multiple", "floor"):
            number = getattr(self, name)
            if not 0 <= number < float("inf"):
                raise UserError(f"{name}: expected a finite number from 0 up, found {number}")


@dataclass(frozen=True)
class Comparison:
    """One trace point of one step.

    device_error, jax_error, relative: normwise, |device - truth|, |jax - truth| and |device - jax| over
    |truth| (over 1 where the truth is zero), Euclidean norms over the whole array. allowed: the device error
    that the criterion allows; excess: how often it is that; above 1 disagrees. max_abs and ulp (median, 99 %,
    largest) compare device and JAX element by element. worst: index where they differ most, with what JAX has
    (expected) and the device (actual) there.
    Figures are None where they could not be computed; ``reason`` then says why. diverges: whether JAX or the
    float64 evaluation has a NaN or an infinity, so that the point says nothing of the device.
    """

    step: int
    name: str
    kind: str
    stage: str
    shape: tuple[int, ...]
    agree: bool
    reason: str = ""
    device_error: float | None = None
    jax_error: float | None = None
    relative: float | None = None
    allowed: float | None = None
    excess: float | None = None
    max_abs: float | None = None
    ulp: tuple[int, int, int] | None = None
    worst: tuple[int, ...] | None = None
    expected: float | str | None = None
    actual: float | str | None = None
    diverges: bool = False

    @property
    def unjudged(self) -> bool:
        """Whether an array of zeros would agree too: the error allowed is as large as the value."""
        return self.allowed is not None and self.allowed >= 1.0


def compare_step(
    step: int,
    points: Iterable[TracePoint],
    *,
    actual: Trace,
    expected: Trace,
    truth: Trace,
    criterion: Criterion,
    rate: float = 0.0,
) -> list[Comparison]:
    """Compares all points of a step, in order of execution; a point any side lacks disagrees.

    actual: the device's float32 arrays; expected: float32 JAX's; truth: the float64 evaluation's. rate: the
    step's learning rate.
    """
    measured = []
    known = set()
    for point in points:
        known.add(point.name)
        sides = {"the device": actual, "JAX": expected, "the float64 evaluation": truth}
        lacking = [side for side, trace in sides.items() if point.name not in trace]
        if lacking:
            measured.append(_failed(step, point, f"missing from {' and '.join(lacking)}"))
            continue
        measured.append(
            measure(
                step,
                point,
                actual=actual[point.name],
                expected=expected[point.name],
                truth=truth[point.name],
            )
        )
    for name in sorted((actual.keys() | expected.keys() | truth.keys()) - known):
        stranger = TracePoint(name, "value", "unknown", (), 0)
        measured.append(_failed(step, stranger, "not in the manifest"))
    norms = {name: _norm(array) for name, array in truth.items()}
    return _judge(measured, norms, rate, criterion)


def measure(
    step: int,
    point: TracePoint,
    *,
    actual: Float[np.ndarray, "..."],
    expected: Float[np.ndarray, "..."],
    truth: Float[np.ndarray, "..."],
) -> Comparison:
    """The figures of one point, not judged yet (``agree`` is False).

    Where a side has the wrong shape or dtype, a NaN or an infinity, there are no figures but a reason.
    """
    sides = (
        ("the device", actual, np.float32),
        ("JAX", expected, np.float32),
        ("the float64 evaluation", truth, np.float64),
    )
    for side, array, dtype in sides:
        if array.shape != point.shape or array.dtype != dtype:
            found = f"{array.dtype} {array.shape}"
            return _failed(step, point, f"{side} has {found}, the manifest {np.dtype(dtype)} {point.shape}")
    broken = {
        side: _index(np.isfinite(array).argmin(), array)
        for side, array, _ in sides
        if not np.isfinite(array).all()
    }
    if broken:
        found = [f"{side} has {array[broken[side]]}" for side, array, _ in sides if side in broken]
        at = next(iter(broken.values()))
        return replace(
            _failed(step, point, ", ".join(found)),
            worst=at,
            expected=json_number(expected[at]),
            actual=json_number(actual[at]),
            diverges=broken.keys() != {"the device"},
        )
    size = _norm(truth) or 1.0
    difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    worst = _index(difference.argmax(), difference)
    median_ulp, high_ulp, largest_ulp = np.percentile(
        ulp_distance(actual, expected), (50, 99, 100), method="nearest"
    )
    return replace(
        _failed(step, point, ""),
        device_error=_norm(actual - truth) / size,
        jax_error=_norm(expected - truth) / size,
        relative=_norm(difference) / size,
        max_abs=float(difference[worst]),
        ulp=(int(median_ulp), int(high_ulp), int(largest_ulp)),
        worst=worst,
        expected=json_number(expected[worst]),
        actual=json_number(actual[worst]),
    )


def _judge(
    measured: list[Comparison], norms: dict[str, float], rate: float, criterion: Criterion
) -> list[Comparison]:
    """Holds each measured point against the criterion; a point without figures keeps its reason."""
    errors: dict[str, list[float]] = {}
    entering: dict[str, float] = {}
    for c in measured:
        if c.jax_error is not None:
            errors.setdefault(c.kind, []).append(c.jax_error)
        if c.kind == "value_gradient" and c.name in norms:
            entering[c.stage] = max(norms[c.name], entering.get(c.stage, 0.0))
    typical = {kind: median(of_kind) for kind, of_kind in errors.items()}
    share = {"parameter_gradient": 1.0, "updated": abs(rate)}
    judged = []
    for c in measured:
        if c.device_error is not None and c.jax_error is not None:
            size = norms[c.name] or 1.0
            scale = max(size, share.get(c.kind, 0.0) * entering.get(c.stage, 0.0))
            yardstick = max(c.jax_error, typical[c.kind])
            allowed = criterion.multiple * yardstick + criterion.floor * EPSILON * scale / size
            excess = excess_of(c.device_error, allowed)
            agree = excess <= 1.0
            c = replace(
                c, allowed=allowed, excess=excess, agree=agree, reason="" if agree else "beyond tolerance"
            )
        judged.append(c)
    return judged


def excess_of(error: float, allowed: float) -> float:
    """How often an error is what is allowed; ``FAR`` for any at all where none is."""
    return error / allowed if allowed else float(error > 0) * FAR


def ulp_distance(a: Float[np.ndarray, "..."], b: Float[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """How many float32 numbers lie between two finite arrays, element by element; 0 and -0 are one."""
    return np.abs(_ordinal(a) - _ordinal(b))


def _ordinal(x: np.ndarray) -> np.ndarray:
    """Float32 numbers as integers in their own order."""
    bits = np.ascontiguousarray(x).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x.astype(np.float64).reshape(-1)))


def _index(flat: np.integer, array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(flat), array.shape))


def _failed(step: int, point: TracePoint, reason: str) -> Comparison:
    return Comparison(
        step=step,
        name=point.name,
        kind=point.kind,
        stage=point.stage,
        shape=point.shape,
        agree=False,
        reason=reason,
    )
