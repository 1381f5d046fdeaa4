"""What the report says of timed rows: goals met, the rank from which dense is faster, what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks import report
from benchmarks.report import (
    EINSUM,
    FACTORIZED,
    OURS,
    OURS_DENSE,
    draw,
    goals,
    not_run_lines,
    rank_line,
    table,
)
from benchmarks.timing import Row


def test_goals_take_the_fastest_version_of_a_peer() -> None:
    ms = {OURS: 2.0, OURS_DENSE: 9.0, FACTORIZED[0]: 40.0, FACTORIZED[1]: 15.0, FACTORIZED[2]: 30.0}
    rows = [Row(name, "2 blocks", 1, ms=[value]) for name, value in ms.items()]
    rows.append(Row(EINSUM[0], "2 blocks", not_run="PyTorch is not installed"))
    rows.append(Row(OURS, "6 blocks", 1, ms=[1e-3]))
    found = {goal.name: goal for goal in goals(rows, {2: "2 blocks"}, [7.0, 9.0, 7.5])}
    assert found["enc2: FactorizedLinear over ours"].summary() == {
        "goal": "enc2: FactorizedLinear over ours",
        "target": 8,
        "found": 7.5,
        "met": False,
    }
    assert found["enc2: our dense over our tensor"].met is False
    assert found["enc2: ms a step"].met is True
    assert found["enc2: seconds an epoch of ATIS"].found == 7.5
    for name in ("enc2: torch einsum, eager, over ours", "enc6: our dense over our tensor"):
        assert found[name].met is None


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("enc2: FactorizedLinear over ours", {FACTORIZED[0]: 16.0}, {FACTORIZED[0]: 15.0}),
        ("enc2: ms a step", {OURS: 2.5}, {OURS: 2.6}),
    ],
)
def test_a_goal_is_met_at_its_target_and_on_one_side(
    name: str, better: dict[str, float], worse: dict[str, float]
) -> None:
    def met(ms: dict[str, float]) -> bool | None:
        rows = [Row(row, "2 blocks", 1, ms=[value]) for row, value in ({OURS: 2.0} | ms).items()]
        return {goal.name: goal.met for goal in goals(rows, {2: "2 blocks"}, [])}[name]

    assert (met(better), met(worse)) == (True, False)


@pytest.mark.parametrize(("seconds", "met"), [([7.9], True), ([8.0], True), ([8.1], False), ([], None)])
def test_an_epoch_has_to_be_short(seconds: list[float], met: bool | None) -> None:
    goal = goals([], {}, seconds)[-1]
    assert (goal.name, goal.met) == ("enc2: seconds an epoch of ATIS", met)
    found = {True: "met", False: "MISSED", None: "not measured"}[met]
    assert goal.line().startswith(f"  {found}: enc2: seconds an epoch of ATIS ≤ 8")


def rank_rows(ms: dict[str, float]) -> list[Row]:
    # The other case's would turn the verdict round.
    other = [Row(name, "batch 8", 1, ms=[100.0 / value]) for name, value in ms.items()]
    return [*other, *(Row(name, "batch 1", 1, ms=[value]) for name, value in ms.items())]


@pytest.mark.parametrize(
    ("at_rank_8", "at_rank_12", "verdict"),
    [
        (10.0, 12.5, "4: 5.0×, 8: 1.0×, 12: 0.8×; not faster than dense from rank 8"),
        (9.0, 9.5, "4: 5.0×, 8: 1.1×, 12: 1.1×; faster than dense at every rank"),
    ],
)
def test_the_rank_from_which_dense_is_as_fast(at_rank_8: float, at_rank_12: float, verdict: str) -> None:
    ms = {"rank 12": at_rank_12, "rank 8": at_rank_8, "rank 4": 2.0}
    line = rank_line(rank_rows({OURS_DENSE: 10.0} | ms), "batch 1", {12: "rank 12", 8: "rank 8", 4: "rank 4"})
    assert line == f"batch 1, dense over tensor by rank: {verdict}"


def test_what_was_not_run_is_counted_and_named() -> None:
    rows = [
        Row("a", "case", 1, ms=[1.0]),
        Row("b", "case", not_run="no torch"),
        Row("c", "other", not_run="no g++"),
    ]
    assert not_run_lines(rows) == ["not run: 2 of 3 rows", "  b (case): no torch", "  c (other): no g++"]
    assert not_run_lines(rows[:1]) == ["not run: 0 of 1 rows"]


def test_the_table_has_each_row_beside_ours() -> None:
    """10 GFLOP/s are a quarter of the peak; a row that was not run has no figures."""
    rows = [
        Row(OURS, "case", 10_000_000, ms=[1.0, 2.0, 3.0]),
        Row("theirs", "case", 100_000_000, ms=[25.0]),
        Row("missing", "case", not_run="no torch"),
    ]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table("2 blocks", rows, 40.0))
    title, head, _, *lines = (line.split() for line in capture.get().splitlines() if line.strip())
    assert title == ["2", "blocks"]
    assert head == ["training", "step", "ms", "quartiles", "×", "ours", "Mmul", "GFLOP/s", "peak"]
    assert lines == [
        [*OURS.split(), "2.00", "1.50–2.50", "1.00", "10.0", "10.0", "25.0%"],
        ["theirs", "25.0", "25.0–25.0", "12.5", "100", "8.00", "20.0%"],
        ["missing", "not", "run"],
    ]


def test_the_picture_names_the_peers_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    drawn: list[Any] = []
    monkeypatch.setattr(report, "save", lambda figure, *_: drawn.append(figure))
    rows = [Row(name, "2 blocks", 1, ms=[3.0]) for name in (OURS, FACTORIZED[1], EINSUM[0])]
    draw([*rows, Row("missing", "2 blocks", not_run="no torch")], tmp_path / "bars.png", "enc2, 32 tokens")
    [figure] = drawn
    assert figure.get_suptitle() == "enc2, 32 tokens"
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["torch einsum", "tensorly-torch FactorizedLinear, in order", OURS]
