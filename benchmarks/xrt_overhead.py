"""What a training step costs more through XRT on the simulated U50 than on bare csim, in µs and as a ratio.

It measures the runtime's and the bridge's share on this machine; of PCIe and of a card it says nothing.
A second csim device takes its turns too: what it differs by from the first is the least that can be told.
Each round takes the three in another order: none always comes first, or after the same one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import tyro
from rich import box
from rich.table import Table

from benchmarks.timing import Row, Training, machine, time_in_turn, warm_up
from fpga_bridge.cli.steps import draw_sentences
from fpga_bridge.devices.by_name import open_device
from fpga_bridge.devices.csim import CsimDevice
from ttjax import Batch, init_params, preset
from ttjax.cli import exit_status
from ttjax.costs import step_multiplications
from ttjax.data import load_corpus
from ttjax.errors import check_count
from ttjax.output import Output

MINUTES = 1.0
RATE = 1e-3
STEPS = 64  # sentences of the synthetic corpus


@dataclass(frozen=True)
class XrtOverhead:
    """Time the same steps on csim and through XRT, in turn, one step a call and in queued runs.

    Examples: python -m benchmarks.xrt_overhead
              python -m benchmarks.xrt_overhead --preset enc2 --json overhead.json
    """

    preset: str = "tiny"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    rounds: int = 20
    """How often each gets its turn."""
    json: str | None = None
    """File for machine, versions and figures as JSON; - for standard output."""

    def run(self) -> int:
        """Measure, print, write; returns exit status 0."""
        out = Output(self.json)
        check_count("--rounds", self.rounds)
        before = machine()
        corpus = load_corpus("travel", notify=out.say)
        config, batch = draw_sentences(corpus, preset(self.preset), STEPS, seed=0)
        rates = np.full(STEPS, RATE, np.float32)
        opened = open_device("xrt:0", config)
        devices = (CsimDevice(config), CsimDevice(config), opened.device)
        first = Batch(*(np.asarray(field)[0] for field in batch))
        names = ("csim", "csim again", opened.label)
        multiplications = step_multiplications(config)
        ways: dict[str, Callable[[Any], np.ndarray]] = {
            "one step a call": lambda d: np.asarray([d.step(first, RATE).loss for _ in range(STEPS)]),
            f"{STEPS} steps in queued runs": lambda d: d.steps(batch, rates)[:, 0],
        }
        rows: list[Row] = []
        over: dict[str, dict[str, Any]] = {}
        with out.progress() as progress:
            task = progress.add_task("timing", total=len(ways) * (len(devices) + self.rounds))
            for way, work in ways.items():
                for device in devices:
                    device.load(init_params(jax.random.key(0), config))
                timed = [
                    (Row(name, way, multiplications), Training(partial(work, device), multiplications, way))
                    for name, device in zip(names, devices, strict=True)
                ]
                warm_up(timed, lambda: progress.advance(task))
                time_in_turn(timed, self.rounds, 0, lambda: progress.advance(task))
                rows += (of_way := [row for row, _ in timed])
                over[way] = over_csim(*of_way)
        out.console.print(_table(rows, self.preset))
        for way, found in over.items():
            out.say(f"{way}, over csim in the same round, µs (quartiles):")
            for what in ("xrt", "csim_again"):
                low, high = found[f"{what}_us_quartiles"]
                out.say(f"  {what.replace('_', ' ')} {found[f'{what}_us']:.1f} ({low:.1f} to {high:.1f})")
            out.say(f"  xrt takes {found['ratio']:.3f} times as long")
        out.write_json(
            {
                "machine": before,
                "preset": self.preset,
                "device": opened.label,
                "rounds": self.rounds,
                "rows": [row.summary() for row in rows],
                "over_csim": over,
            }
        )
        return 0


def over_csim(csim: Row, again: Row, xrt: Row) -> dict[str, Any]:
    """µs a step that each exceeds csim by in the same round, median, quartiles, and the medians' ratio."""
    found: dict[str, Any] = {}
    for name, row in (("xrt", xrt), ("csim_again", again)):
        low, middle, high = np.percentile(1e3 * np.subtract(row.ms, csim.ms), (25, 50, 75))
        found |= {f"{name}_us": float(middle), f"{name}_us_quartiles": [float(low), float(high)]}
    return found | {"ratio": xrt.median / csim.median}


def _table(rows: list[Row], name: str) -> Table:
    table = Table(title=f"µs a training step of {name}", box=box.SIMPLE_HEAD)
    for column in ("", "device"):
        table.add_column(column)
    for column in ("median", "quartiles"):
        table.add_column(column, justify="right")
    for row in rows:
        low, high = row.summary()["ms_quartiles"]
        table.add_row(row.case, row.name, f"{1e3 * row.median:.1f}", f"{1e3 * low:.1f}–{1e3 * high:.1f}")
    return table


def main() -> int:
    """Run the benchmark; returns the exit status."""
    return exit_status(lambda: tyro.cli(XrtOverhead, prog="python -m benchmarks.xrt_overhead").run())


if __name__ == "__main__":
    sys.exit(main())
