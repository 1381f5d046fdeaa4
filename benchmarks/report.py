"""What the timed rows say: a table of each case, the goals and whether they are met, a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.timing import Row
from ttjax.picture import save, subplots

OURS = "ttjax tensor"
OURS_DENSE = "ttjax dense"
FACTORIZED = ("FactorizedLinear", "FactorizedLinear, in order", "FactorizedLinear, matrix")
EINSUM = ("torch einsum", "torch einsum, in order")
HALVES = ("torch 2-D products", "torch 2-D products, compiled")


@dataclass(frozen=True)
class Goal:
    """A goal, the figure it asks for and the figure found; ``found`` is None if it was not measured."""

    name: str
    target: float
    found: float | None
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Whether the figure found is as good as the target; None if it was not measured."""
        if self.found is None:
            return None
        return self.found >= self.target if self.at_least else self.found <= self.target

    def summary(self) -> dict[str, Any]:
        """The goal for JSON."""
        return {"goal": self.name, "target": self.target, "found": self.found, "met": self.met}

    def line(self) -> str:
        """The goal in one line of text."""
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        found = "" if self.found is None else f", found {self.found:.2f}"
        return f"  {word}: {self.name} {'≥' if self.at_least else '≤'} {self.target:g}{found}"


def goals(rows: Sequence[Row], cases: dict[int, str], epoch: Sequence[float]) -> list[Goal]:
    """The goals for the paper's model at one sentence a step.

    ``cases``: label of the case with that many blocks, one sentence and nothing else changed. Against a
    peer in several versions the fastest of them counts; if none of them ran, the goal is not measured.
    """

    def ms(blocks: int, names: Iterable[str]) -> float | None:
        found = [r.median for r in rows if r.case == cases.get(blocks) and r.name in names and r.ms]
        return min(found) if found else None

    def ratio(blocks: int, names: Sequence[str]) -> float | None:
        ours, theirs = ms(blocks, [OURS]), ms(blocks, names)
        return theirs / ours if ours and theirs else None

    seconds = sorted(epoch)[len(epoch) // 2] if epoch else None
    return [
        Goal("enc2: FactorizedLinear over ours", 8, ratio(2, FACTORIZED), True),
        Goal("enc2: torch einsum, eager, over ours", 4, ratio(2, EINSUM), True),
        Goal("enc2: torch 2-D products, the faster, over ours", 2, ratio(2, HALVES), True),
        Goal("enc2: our dense over our tensor", 5, ratio(2, [OURS_DENSE]), True),
        Goal("enc6: our dense over our tensor", 6.5, ratio(6, [OURS_DENSE]), True),
        Goal("enc2: ms a step", 2.5, ms(2, [OURS]), False),
        Goal("enc2: seconds an epoch of ATIS", 8, seconds, False),
    ]


def table(case: str, rows: Sequence[Row], peak: float) -> Table:
    """The rows of one case; ``peak`` in GFLOP/s."""
    ours = next((row.median for row in rows if row.name == OURS and row.ms), None)
    found = Table(title=case, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    found.add_column("training step", no_wrap=True)
    for column in ("ms", "quartiles", "× ours", "Mmul", "GFLOP/s", "peak"):
        found.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        if row.not_run is not None:
            found.add_row(row.name, "not run")
            continue
        low, high = row.summary()["ms_quartiles"]
        found.add_row(
            row.name,
            _short(row.median),
            f"{_short(low)}–{_short(high)}",
            "" if ours is None else _short(row.median / ours),
            _short((row.multiplications or 0) / 1e6),
            _short(row.gflops),
            f"{100 * row.gflops / peak:.1f}%",
        )
    return found


def _short(number: float) -> str:
    """About three digits, for a narrow column."""
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2}f}"


def not_run_lines(rows: Sequence[Row]) -> list[str]:
    """How many rows were not run, and each of them with its reason."""
    missing = [row for row in rows if row.not_run is not None]
    return [
        f"not run: {len(missing)} of {len(rows)} rows",
        *(f"  {row.label}: {row.not_run}" for row in missing),
    ]


def rank_line(rows: Sequence[Row], case: str, ranks: dict[int, str]) -> str:
    """From which of the ranks (and their rows' names) on the tensor format no longer pays, in one line."""
    dense = next(row.median for row in rows if row.case == case and row.name == OURS_DENSE)
    times = {
        rank: next(r.median for r in rows if r.case == case and r.name == n) for rank, n in ranks.items()
    }
    slower = [rank for rank in sorted(times) if times[rank] >= dense]
    verdict = f"not faster than dense from rank {slower[0]}" if slower else "faster than dense at every rank"
    listed = ", ".join(f"{rank}: {dense / times[rank]:.1f}×" for rank in sorted(times))
    return f"{case}, dense over tensor by rank: {listed}; {verdict}"


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """Bars of ms by row and case, quartiles as whiskers; the title says what all cases share."""
    shown = [row for row in rows if row.ms]
    cases = list(dict.fromkeys(row.case for row in shown))
    height = 1.5 + 0.28 * len(shown) + 0.6 * len(cases)
    figure, grid = subplots(len(cases), 1, figsize=(9, height), sharex=True, squeeze=False)
    figure.suptitle(title, fontsize=11)
    for axes, case in zip(grid[:, 0], cases, strict=True):
        of_case = [row for row in shown if row.case == case][::-1]
        quartiles = [row.summary()["ms_quartiles"] for row in of_case]
        spread = [
            [row.median - low for row, (low, _) in zip(of_case, quartiles, strict=True)],
            [high - row.median for row, (_, high) in zip(of_case, quartiles, strict=True)],
        ]
        colors = ["tab:orange" if row.name.startswith("ttjax") else "tab:blue" for row in of_case]
        names = [f"tensorly-torch {row.name}" if row.name in FACTORIZED else row.name for row in of_case]
        bars = axes.barh(names, [row.median for row in of_case], xerr=spread, color=colors)
        axes.bar_label(bars, fmt=" %.2f", fontsize=8)
        axes.set_title(case, fontsize=10)
        axes.margins(x=0.12)
        axes.tick_params(labelsize=8)
    grid[-1, 0].set_xlabel("ms a training step (ours orange)")
    save(figure, path, "--plot")
