"""What a training step costs more through XRT on the simulated U50 than on bare csim, in µs and as a ratio.

It measures the runtime's and the bridge's share on this machine; of PCIe and of a card it says nothing.
A second csim device takes its turns too: what it differs by from the first is the least that can be told.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import tyro
from rich import box
from rich.table import Table

from benchmarks.timing import machine
from fpga_bridge.cli.cosim import draw_sentences
from fpga_bridge.devices.by_name import open_device
from fpga_bridge.devices.csim import CsimDevice
from ttjax import Batch, UserError, init_params, preset
from ttjax.cli import exit_status
from ttjax.data import load_corpus
from ttjax.output import Output

MINUTES = 1.0
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
        if self.rounds < 1:
            raise UserError(f"--rounds: expected a whole number from 1 up, found {self.rounds}")
        corpus = load_corpus("travel", notify=out.say)
        config, batch = draw_sentences(corpus, preset(self.preset), STEPS, seed=0)
        rates = np.full(STEPS, 1e-3, np.float32)
        opened = open_device("xrt:0", config)
        devices = (CsimDevice(config), CsimDevice(config), opened.device)
        first = Batch(*(np.asarray(field)[0] for field in batch))
        for device in devices:
            device.load(init_params(jax.random.key(0), config))
            device.steps(batch, rates)
        ways: dict[str, Callable[[Any], object]] = {
            "one step a call": lambda d: [d.step(first, 1e-3) for _ in range(STEPS)],
            f"{STEPS} steps in queued runs": lambda d: d.steps(batch, rates),
        }
        found: dict[str, dict[str, float]] = {}
        with out.progress() as progress:
            for way, work in ways.items():
                turns = progress.track(range(self.rounds), description=way)
                times = [[_microseconds(work, device) for device in devices] for _ in turns]
                bare, _, through = (statistics.median(each) for each in zip(*times, strict=True))
                found[way] = {
                    "csim_us": bare,
                    "xrt_us": through,
                    "overhead_us": statistics.median(of_card - first for first, _, of_card in times),
                    "csim_over_csim_us": statistics.median(second - first for first, second, _ in times),
                    "ratio": through / bare,
                }
        out.console.print(_table(found, self.preset, opened.label))
        out.write_json(
            {
                "preset": self.preset,
                "device": opened.label,
                "rounds": self.rounds,
                "machine": machine(),
                **found,
            }
        )
        return 0


def _microseconds(work: Callable[[Any], object], device: Any) -> float:
    """Time of a step in one call of ``work``, which does STEPS of them."""
    began = time.perf_counter()
    work(device)
    return 1e6 * (time.perf_counter() - began) / STEPS


def _table(found: dict[str, dict[str, float]], name: str, label: str) -> Table:
    table = Table(title=f"µs a training step of {name}: csim and {label}, medians", box=box.SIMPLE_HEAD)
    table.add_column("")
    for column in ("csim", "XRT", "XRT over csim", "csim over csim", "ratio"):
        table.add_column(column, justify="right")
    for way, row in found.items():
        table.add_row(
            way,
            *(f"{row[key]:.1f}" for key in ("csim_us", "xrt_us", "overhead_us", "csim_over_csim_us")),
            f"{row['ratio']:.3f}",
        )
    return table


def main() -> int:
    """Run the benchmark; returns the exit status."""
    return exit_status(lambda: tyro.cli(XrtOverhead, prog="python -m benchmarks.xrt_overhead").run())


if __name__ == "__main__":
    sys.exit(main())
