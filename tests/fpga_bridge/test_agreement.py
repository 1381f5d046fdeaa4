"""The criterion of agreement: what must never agree, what must, and figures against numpy's own.

A small made-up step stands in for the kernel's: three points, and truth, JAX and device drawn around them.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.agreement.criterion import (
    EPSILON,
    Comparison,
    Criterion,
    compare_step,
    measure,
    ulp_distance,
)
from fpga_bridge.device import Trace
from fpga_bridge.program.manifest import TracePoint

POINTS = tuple(
    TracePoint(name, "value", f"stage_{name}", shape, 0)
    for name, shape in (("first", (4, 5)), ("scalar", ()), ("last", (3, 2, 6)))
)
CRITERION = Criterion(multiple=16.0, floor=4.0)
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from([point.name for point in POINTS])
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def step(seed: int = 0, jax_error: float = 3e-7) -> dict[str, Trace]:
    """A step that agrees: actual and expected are the truth with errors of that relative size."""
    rng = np.random.default_rng(seed)
    truth = {p.name: 1.0 + rng.random(p.shape) for p in POINTS}

    def near(size: float) -> Trace:
        return {
            n: np.asarray(a * (1 + size * rng.choice([-1, 1], a.shape)), np.float32) for n, a in truth.items()
        }

    return {
        "actual": near(2 * jax_error),
        "expected": near(jax_error),
        "truth": {name: np.asarray(array) for name, array in truth.items()},
    }


def judged(sides: dict[str, Trace], criterion: Criterion = CRITERION) -> dict[str, Comparison]:
    compared = compare_step(7, POINTS, **sides, criterion=criterion)  # type: ignore[arg-type]
    return {c.name: c for c in compared}


def norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.square(np.asarray(x, np.float64)))))


@given(seeds)
def test_a_device_as_good_as_float32_agrees_everywhere(seed: int) -> None:
    assert all(c.agree and c.reason == "" for c in judged(step(seed)).values())


@given(seeds)
def test_equal_arrays_agree_with_no_distance_between_them(seed: int) -> None:
    sides = step(seed)
    for c in judged({**sides, "actual": sides["expected"]}).values():
        assert c.agree
        assert c.relative == 0.0 and c.max_abs == 0.0 and c.ulp == (0, 0, 0)


@given(
    seeds, names, st.sampled_from(["actual", "expected", "truth"]), st.sampled_from([np.nan, np.inf, -np.inf])
)
def test_a_nan_or_an_infinity_on_any_side_never_agrees(seed: int, name: str, side: str, value: float) -> None:
    sides = step(seed)
    array = np.array(sides[side][name])
    at = tuple(int(np.random.default_rng(seed).integers(n)) for n in array.shape)
    array[at] = value
    sides[side] = {**sides[side], name: array}
    verdict = judged(sides)[name]
    assert not verdict.agree
    assert verdict.worst == at
    assert str(value) in verdict.reason
    others = [c for n, c in judged(sides).items() if n != name]
    assert all(c.agree for c in others)


SIDES = {"actual": "the device", "expected": "JAX", "truth": "the float64 evaluation"}


@pytest.mark.parametrize("broken", [n for k in (1, 2, 3) for n in combinations(SIDES, k)], ids="-".join)
def test_every_side_that_is_not_finite_is_named(broken: tuple[str, ...]) -> None:
    """And what isn't finite on JAX or in float64 is not laid to the device: the steps diverge."""
    sides = step()
    for side in broken:
        sides[side]["first"] = np.full_like(sides[side]["first"], np.nan)
    verdict = judged(sides)["first"]
    assert verdict.reason == ", ".join(f"{SIDES[side]} has nan" for side in broken)
    assert not verdict.agree and verdict.diverges is (broken != ("actual",))


def test_a_nan_can_be_written_as_json() -> None:
    sides = step()
    sides["actual"]["scalar"] = np.array(np.nan, np.float32)
    verdict = judged(sides)["scalar"]
    assert verdict.actual == "nan" and isinstance(verdict.expected, float)


@pytest.mark.parametrize("side", ["actual", "expected", "truth"])
def test_a_wrong_shape_or_dtype_never_agrees(side: str) -> None:
    right = step()
    array = right[side]["last"]
    for wrong in (array.reshape(3, 12), array[:2], array.astype(np.float16), array.astype(np.int32)):
        verdict = judged({**right, side: {**right[side], "last": wrong}})["last"]
        assert not verdict.agree
        assert "the manifest" in verdict.reason
        assert verdict.device_error is None


def test_a_float64_device_is_not_a_float32_device() -> None:
    sides = step()
    sides["actual"]["first"] = sides["truth"]["first"].copy()
    assert not judged(sides)["first"].agree


@pytest.mark.parametrize("side", ["actual", "expected", "truth"])
def test_a_missing_or_an_extra_point_never_agrees(side: str) -> None:
    sides = step()
    del sides[side]["scalar"]
    verdict = judged(sides)
    assert [*verdict] == ["first", "scalar", "last"]
    assert not verdict["scalar"].agree and "missing from" in verdict["scalar"].reason
    sides = step()
    sides[side]["stranger"] = np.zeros(3, np.float32)
    verdict = judged(sides)
    assert not verdict["stranger"].agree and verdict["stranger"].reason == "not in the manifest"


def test_an_empty_trace_agrees_nowhere() -> None:
    verdict = judged({"actual": {}, "expected": {}, "truth": {}})
    assert len(verdict) == 3
    assert not any(c.agree for c in verdict.values())


@given(seeds, names, st.floats(0.05, 0.9), st.sampled_from([1e-7, 1e-5, 1e-3]))
def test_an_error_below_the_limit_agrees_and_one_above_does_not(
    seed: int, name: str, part: float, jax_error: float
) -> None:
    """The limit, written down once more: 16 times JAX's error (or the points' median) + 4 epsilon."""
    sides = step(seed, jax_error)
    truth = sides["truth"][name]
    errors = {n: norm(sides["expected"][n] - t) / norm(t) for n, t in sides["truth"].items()}
    limit = 16.0 * max(errors[name], float(np.median([*errors.values()]))) + 4.0 * 2.0**-23
    for share, agrees in ((part, True), (1.0 + part, False)):
        # Along the truth itself the normwise error is the factor, up to float32's rounding.
        sides["actual"][name] = np.asarray(truth * (1.0 + share * limit)).astype(np.float32)
        verdict = judged(sides)[name]
        assert verdict.agree is agrees
        assert verdict.device_error == pytest.approx(share * limit, abs=2.0**-24)
        assert verdict.excess == pytest.approx(share, abs=0.15)
        assert (verdict.reason == "") is agrees


def test_what_is_allowed_where_nothing_is_said() -> None:
    """What README and every report state."""
    assert Criterion() == Criterion(multiple=32.0, floor=4.0)


@pytest.mark.parametrize("epsilons", [4, 5])
def test_an_error_at_the_limit_agrees(epsilons: int) -> None:
    """A power of two, which nothing rounds: JAX is exact, the floor allows 4 epsilon."""
    point, one = POINTS[1], np.array(1.0)
    sides = {"actual": one * (1 + epsilons * EPSILON), "expected": one, "truth": one}
    traces = {
        side: {point.name: np.asarray(a, float if side == "truth" else np.float32)}
        for side, a in sides.items()
    }
    (found,) = compare_step(0, [point], **traces, criterion=CRITERION)  # type: ignore[arg-type]
    assert found.excess == epsilons / 4 and found.agree is (epsilons == 4)


def test_where_nothing_is_allowed_only_the_truth_itself_agrees() -> None:
    sides = step()
    sides["expected"] = {n: a.astype(np.float32) for n, a in sides["truth"].items()}
    sides["truth"] = {n: a.astype(np.float64) for n, a in sides["expected"].items()}
    nothing = Criterion(multiple=0.0, floor=0.0)
    assert all(c.agree for c in judged({**sides, "actual": sides["expected"]}, nothing).values())
    assert not any(c.agree for c in judged(sides, nothing).values())


@given(seeds)
def test_a_larger_multiple_allows_more(seed: int) -> None:
    sides = step(seed)
    sides["actual"] = {n: np.asarray(a * (1 + 5e-5), np.float32) for n, a in sides["truth"].items()}
    assert not any(c.agree for c in judged(sides).values())
    assert all(c.agree for c in judged(sides, Criterion(multiple=1000.0)).values())


def test_jax_being_exact_at_one_point_by_luck_does_not_fail_the_device_there() -> None:
    sides = step(jax_error=1e-5)
    sides["truth"]["scalar"] = np.array(1.5)
    sides["expected"]["scalar"] = np.array(1.5, np.float32)
    sides["actual"]["scalar"] = np.array(1.5 * (1 + 1e-5), np.float32)
    verdict = judged(sides)
    assert verdict["scalar"].jax_error == 0.0
    assert verdict["scalar"].agree
    alone = compare_step(
        0,
        POINTS[1:2],
        actual={"scalar": sides["actual"]["scalar"]},
        expected={"scalar": sides["expected"]["scalar"]},
        truth={"scalar": sides["truth"]["scalar"]},
        criterion=CRITERION,
    )
    assert not alone[0].agree


def test_a_poor_jax_at_one_point_does_not_excuse_the_device_at_the_others() -> None:
    sides = step(jax_error=1e-7)
    sides["expected"]["first"] = np.asarray(sides["expected"]["first"] * np.float32(1.01))
    sides["actual"] = {n: np.asarray(a * np.float32(1.001)) for n, a in sides["actual"].items()}
    assert [n for n, c in judged(sides).items() if not c.agree] == ["scalar", "last"]


@given(seeds, names)
def test_figures_are_those_of_numpy(seed: int, name: str) -> None:
    sides = step(seed, 1e-4)
    c = judged(sides)[name]
    actual, expected, truth = (np.asarray(sides[s][name]) for s in ("actual", "expected", "truth"))
    difference = np.abs(actual.astype(float) - expected.astype(float))
    assert c.step == 7 and c.stage == f"stage_{name}" and c.shape == truth.shape
    assert c.device_error == pytest.approx(norm(actual - truth) / norm(truth), rel=1e-9)
    assert c.jax_error == pytest.approx(norm(expected - truth) / norm(truth), rel=1e-9)
    assert c.relative == pytest.approx(norm(difference) / norm(truth), rel=1e-9)
    assert c.max_abs == difference.max()
    assert c.worst is not None and difference[c.worst] == difference.max()
    assert (c.expected, c.actual) == (float(expected[c.worst]), float(actual[c.worst]))
    assert c.ulp is not None and c.ulp[0] <= c.ulp[1] <= c.ulp[2] == ulp_distance(actual, expected).max()


def test_ulp_distances_are_told_by_their_median_their_99th_percentile_and_their_largest() -> None:
    ones, steps = np.ones(201, np.float32), np.random.default_rng(0).permutation(201).astype(np.int32)
    actual = (ones.view(np.int32) + steps).view(np.float32)
    point = TracePoint("p", "value", "stage", ones.shape, 0)
    c = measure(0, point, actual=actual, expected=ones, truth=ones.astype(np.float64))
    assert c.ulp == (100, 198, 200)


@given(seeds, names)
def test_the_worst_index_is_where_the_device_was_changed(seed: int, name: str) -> None:
    sides = step(seed)
    at = tuple(int(np.random.default_rng(seed).integers(n)) for n in sides["truth"][name].shape)
    array = np.array(sides["actual"][name])
    array[at] = -3.0
    sides["actual"][name] = array
    verdict = judged(sides)[name]
    assert verdict.worst == at and verdict.actual == -3.0 and not verdict.agree


def test_where_the_truth_is_zero_errors_are_absolute() -> None:
    sides = step()
    sides["truth"]["last"] = np.zeros((3, 2, 6))
    sides["expected"]["last"] = np.zeros((3, 2, 6), np.float32)
    for size, agrees in ((0.0, True), (1e-8, True), (1e-3, False)):
        sides["actual"]["last"] = np.full((3, 2, 6), size, np.float32)
        verdict = judged(sides)["last"]
        assert verdict.device_error == pytest.approx(6 * size)
        assert verdict.agree is agrees


@given(floats, st.integers(0, 300))
def test_ulp_distance_counts_steps_of_nextafter(x: float, steps: int) -> None:
    a = b = np.float32(x)
    for _ in range(steps):
        b = np.nextafter(b, np.float32(np.inf), dtype=np.float32)
    if np.isfinite(b):
        assert ulp_distance(np.array([a]), np.array([b])) == steps
        assert ulp_distance(np.array([b]), np.array([a])) == steps


@given(st.floats(2.0**-100, 2.0**100, width=32), st.integers(1, 1000))
def test_ulp_distance_is_the_difference_over_the_spacing_within_a_binade(x: float, steps: int) -> None:
    low = np.float32(2.0 ** np.floor(np.log2(x)))
    high = np.float32(low + steps * np.spacing(low))
    assert ulp_distance(np.array([high]), np.array([low])) == steps
    assert ulp_distance(np.array([-high]), np.array([-low])) == steps


def test_ulp_distance_crosses_zero() -> None:
    tiny = np.float32(1e-45)
    a, b = np.array([0.0, -tiny, tiny, -tiny], np.float32), np.array([-0.0, 0.0, -0.0, tiny], np.float32)
    np.testing.assert_array_equal(ulp_distance(a, b), [0, 1, 1, 2])
    largest = np.array([np.finfo(np.float32).max], np.float32)
    assert ulp_distance(largest, -largest) == 2 * (2**31 - 2**23 - 1)
    assert EPSILON == 2.0**-23
