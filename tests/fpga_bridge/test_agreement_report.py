"""What is told of a comparison: cells of the table, the drift, the JSON, from reports made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fpga_bridge.agreement.criterion import Comparison, Criterion
from fpga_bridge.agreement.lockstep import Report
from fpga_bridge.agreement.report import describe, stage_table, summary, to_json


def point(
    device: float | None, jax: float | None, *, excess: float = 0.1, kind: str = "value", agree: bool = True
) -> Comparison:
    """Of one stage and its first step; without errors, a point that could not be compared."""
    reason = "" if agree else "beyond tolerance" if device is not None else "missing from JAX"
    return Comparison(
        0, "p", kind, "stage", (2,), agree, reason, device_error=device, jax_error=jax, excess=excess
    )


def report(*comparisons: Comparison, **fields: Any) -> Report:
    return Report("free", Criterion(), [*comparisons], [(2.0, 3.0)], 1.5, **fields)


def cells(*comparisons: Comparison) -> list[str]:
    """The one row of the table, without the stage's name."""
    row = [[*column.cells] for column in stage_table(report(*comparisons)).columns[1:]]
    return [str(cell) for (cell,) in row]


def test_a_cell_is_the_devices_worst_error_and_how_often_it_is_jaxs_own_there() -> None:
    """Not the error that uses most of what it is allowed."""
    small, large = point(1e-7, 5e-8, excess=0.9), point(4e-6, 2e-6, excess=0.1)
    for points in ((small, large), (large, small)):
        assert cells(*points) == ["4.0e-06 2.0×", "", "", ""]
    assert cells(point(3e-7, 6e-7, kind="updated"))[3] == "3.0e-07 0.5×"
    assert cells(point(3e-7, 0.0)) == ["3.0e-07", "", "", ""]


def test_a_cell_is_noise_only_where_there_is_nothing_else() -> None:
    noise = point(0.5, 0.25)
    assert cells(noise)[0] == "noise 2.0×"
    assert cells(noise, point(4e-6, 2e-6))[0] == "4.0e-06 2.0×"
    assert cells(point(5e-3, 0.25), point(4e-6, 2e-6))[0] == "4.0e-06 2.0×"


def test_a_cell_shows_the_devices_large_error_where_jaxs_is_small() -> None:
    assert cells(point(0.08, 4e-3), point(4e-6, 2e-6))[0] == "8.0e-02 20.0×"


def test_a_cell_shows_the_first_disagreement_before_any_larger_error() -> None:
    first, agreeing = point(2e-6, 1e-6, agree=False), point(4e-6, 2e-6)
    assert cells(agreeing, first, point(3e-6, 1e-6, agree=False))[0] == "[red]2.0e-06 2.0×[/red]"
    assert cells(agreeing, point(None, None, agree=False))[0] == "[red]missing from JAX[/red]"
    assert cells(point(0.5, 0.25, agree=False))[0] == "[red]5.0e-01 2.0×[/red]"


def test_the_drift_names_each_sides_own_error() -> None:
    """Of the parameter that is furthest away, without those that are rounding noise."""
    updated = [point(d, j, kind="updated") for d, j in ((1e-6, 5e-6), (3e-6, 2e-6), (0.9, 0.5))]
    (line,) = (line for line in summary(report(*updated)) if line.startswith("drift"))
    assert line == "drift after 1 step, worst parameter: device 3.0e-06, JAX 5.0e-06"


def test_the_drift_is_that_after_the_last_step() -> None:
    first, last = point(9e-6, 8e-6, kind="updated"), point(3e-6, 2e-6, kind="updated")
    two = report(first, replace(last, step=1))
    two.losses.append((2.0, 3.0))
    assert "drift after 2 steps, worst parameter: device 3.0e-06, JAX 2.0e-06" in summary(two)


def test_the_summary_says_how_many_points_a_step_has_and_what_the_worst_one_uses() -> None:
    points = [point(1e-7, 1e-7, excess=excess) for excess in (0.07, 0.25)]
    points += [replace(point(1e-7, 1e-7, excess=0.1), step=1, name=name) for name in "pq"]
    said = summary(report(*points))
    assert "1 step, 2 trace points each" in said[0]
    assert "allowed: 32 times float32's own error + 4 epsilon" in said[0]
    assert said[0].endswith("the worst point uses 25 % of that") and said[-1] == "AGREE"
    far = replace(point(1e-3, 1e-7, excess=12.3, agree=False), name="q")
    said = summary(report(*points, far))
    assert said[0].endswith("the worst point uses 12.3 times that")
    assert said[-1] == f"DISAGREE at 1 of 5 points; the first: {describe(far)}"
    said = summary(report(*points, replace(far, excess=None)))
    assert said[0].endswith("the worst point uses 25 % of that, 1 can't be measured")


def test_a_divergence_names_what_each_side_has() -> None:
    found = replace(
        point(3e-4, 2e-7, agree=False), ulp=(4, 5, 6), worst=(1,), expected=0.5, actual=0.75, step=7
    )
    assert describe(found) == (
        "step 8, stage stage (forward), p of shape [2]: beyond tolerance; worst at [1]: JAX 0.5, device 0.75,"
        " 6 ulp; normwise error 3.00e-04, JAX's 2.00e-07"
    )
    assert describe(point(None, None, agree=False)).endswith("p of shape [2]: missing from JAX")


@pytest.mark.parametrize("same_bits", [True, False, None])
def test_the_json_says_whose_loss_is_whose_and_what_the_untraced_steps_ended_in(
    same_bits: bool | None,
) -> None:
    found = to_json(report(point(1e-7, 1e-7), same_bits=same_bits))
    assert found["losses"] == [{"device": 2.0, "jax": 3.0}]
    assert found["same_bits_untraced"] is same_bits
