"""What an error is measured by: the scale of gradients that cancel, and JAX's errors at points of one kind.

Truths are small whole numbers, which float32 holds: where nothing else is said, JAX is exact.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from fpga_bridge.agreement.criterion import EPSILON, Comparison, Criterion, compare_step
from fpga_bridge.program.manifest import TracePoint

Kind = Literal["value", "value_gradient", "parameter_gradient", "updated"]
FLOOR = 4.0
# Norm of the gradient that enters the layer, and the learning rate.
ENTERING, RATE = 2e6, 1e-3
# The norm of a truth of four ones.
SIZE = 2.0


def judged(
    errors: dict[tuple[str, Kind], float],
    jax: dict[tuple[str, Kind], float] | None = None,
    rate: float = RATE,
) -> dict[tuple[str, Kind], Comparison]:
    """Verdicts by stage and kind, of devices and JAX with these relative errors."""
    points, actual, expected, truth = [], {}, {}, {}
    for place, error in errors.items():
        stage, kind = place
        point = TracePoint(f"{stage}.{kind}", kind, stage, (4,), 4 * len(points))
        exact = np.full(4, ENTERING / SIZE if kind == "value_gradient" else 1.0)
        truth[point.name] = exact
        actual[point.name] = (exact * (1 + error)).astype(np.float32)
        expected[point.name] = (exact * (1 + (jax or {}).get(place, 0.0))).astype(np.float32)
        points.append(point)
    compared = compare_step(
        0,
        points,
        actual=actual,
        expected=expected,
        truth=truth,
        criterion=Criterion(multiple=32.0, floor=FLOOR),
        rate=rate,
    )
    return dict(zip(errors, compared, strict=True))


def test_the_gradient_that_enters_a_layer_excuses_its_parameters_gradients_alone() -> None:
    """Not values, and not the gradients of another layer."""
    error = 0.5 * FLOOR * EPSILON * ENTERING / SIZE
    found = judged(
        {
            ("here", "value"): error,
            ("here", "value_gradient"): 0.0,
            ("here", "parameter_gradient"): error,
            ("elsewhere", "parameter_gradient"): error,
        }
    )
    assert [place for place, c in found.items() if not c.agree] == [
        ("here", "value"),
        ("elsewhere", "parameter_gradient"),
    ]


@pytest.mark.parametrize("rate", [RATE, -RATE])
def test_an_updated_parameter_is_excused_by_the_rates_share_of_it(rate: float) -> None:
    """Of a negative rate as of a positive one: what is rounded is as large."""
    limit = FLOOR * EPSILON * RATE * ENTERING / SIZE
    for part, agrees in ((0.8, True), (1.2, False)):
        place: tuple[str, Kind] = ("here", "updated")
        found = judged({("here", "value_gradient"): 0.0, place: part * limit}, rate=rate)[place]
        assert found.agree is agrees
        assert found.allowed == pytest.approx(limit)


def test_a_poor_jax_at_points_of_one_kind_does_not_excuse_those_of_another() -> None:
    values: list[tuple[str, Kind]] = [(stage, "value") for stage in "abc"]
    gradient: tuple[str, Kind] = ("a", "parameter_gradient")
    errors = {place: 1e-3 for place in [*values, gradient]}
    found = judged(errors, {place: 1e-3 for place in values})
    assert [place for place, c in found.items() if not c.agree] == [gradient]
    assert found[gradient].allowed == pytest.approx(FLOOR * EPSILON)


@pytest.mark.parametrize("norms", [(ENTERING, 3.0), (3.0, ENTERING)])
def test_of_a_layers_gradients_the_largest_is_the_one_that_enters(norms: tuple[float, float]) -> None:
    """Whichever comes first. And where the truth is zero, the error that it excuses is absolute."""
    truth = {f"d_{i}": np.full(4, norm / SIZE) for i, norm in enumerate(norms)} | {"zero": np.zeros(4)}
    sides = {name: array.astype(np.float32) for name, array in truth.items()}
    points = [
        TracePoint(name, "parameter_gradient" if name == "zero" else "value_gradient", "here", (4,), 0)
        for name in truth
    ]
    criterion = Criterion(multiple=32.0, floor=FLOOR)
    found = compare_step(0, points, actual=sides, expected=sides, truth=truth, criterion=criterion)
    assert [c.allowed for c in found[:2]] == pytest.approx([FLOOR * EPSILON] * 2)
    assert found[2].allowed == pytest.approx(FLOOR * EPSILON * ENTERING)
