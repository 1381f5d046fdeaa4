"""A training step of the kernel in C simulation beside the same step in JAX, jitted: ms and their ratio.

In turn; sentences as long as the model allows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import tyro
from rich import box
from rich.table import Table

from benchmarks.jax_steps import RATE, Case, by_scan
from benchmarks.timing import Row, Training, machine, time_in_turn, warm_up
from fpga_bridge.devices.csim import CsimDevice
from ttjax import Batch, preset
from ttjax.cli import exit_status
from ttjax.costs import step_multiplications
from ttjax.errors import check_count
from ttjax.output import Output

MINUTES = 0.5
STEPS = 16  # different sentences


@dataclass(frozen=True)
class CsimStep:
    """Time a training step on the compiled kernel and on JAX, in turn, on this machine.

    Examples: python -m benchmarks.csim_step
              python -m benchmarks.csim_step --preset tiny --rounds 3 --json -
    """

    preset: str = "enc2"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    rounds: int = 9
    """How often each gets its turn, of half a second."""
    json: str | None = None
    """File for machine, versions and rows as JSON; - for standard output."""

    def run(self) -> int:
        """Measure, print, write; returns exit status 0."""
        out = Output(self.json)
        check_count("--rounds", self.rounds)
        before = machine()
        case = Case(self.preset, preset(self.preset), 1, STEPS)
        trainings = {"csim": by_kernel(case), "JAX, jitted": by_scan(case)}
        timed = [(Row(label, self.preset, of.multiplications), of) for label, of in trainings.items()]
        with out.progress() as progress:
            task = progress.add_task("timing", total=len(timed) + self.rounds)
            warm_up(timed, lambda: progress.advance(task))
            time_in_turn(timed, self.rounds, 0.5, lambda: progress.advance(task))
        rows = [row for row, _ in timed]
        ratio = float(np.median(np.divide(rows[0].ms, rows[1].ms)))
        out.console.print(_table(rows, self.preset))
        out.say(f"csim over JAX, median of the rounds: {ratio:.2f}")
        out.write_json({"machine": before, "rows": [row.summary() for row in rows], "csim_over_jax": ratio})
        return 0


def by_kernel(case: Case) -> Training:
    """Steps on the kernel, all sentences in one call; parameters stay on the simulated chip."""
    pool = case.pool()
    sentences = Batch(*(np.asarray(field)[:, 0] for field in pool))
    device = CsimDevice(case.config)
    device.load(case.params())
    rates = np.full(case.steps, RATE, np.float32)
    return Training(
        lambda: device.steps(sentences, rates)[:, 0], step_multiplications(case.config), case.same_as()
    )


def _table(rows: list[Row], name: str) -> Table:
    table = Table(title=f"ms a training step of {name}", box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("median", "least", "most"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row.name, *(f"{ms:.2f}" for ms in (row.median, min(row.ms), max(row.ms))))
    return table


def main() -> int:
    """Run the benchmark; returns the exit status."""
    return exit_status(lambda: tyro.cli(CsimStep, prog="python -m benchmarks.csim_step").run())


if __name__ == "__main__":
    sys.exit(main())
