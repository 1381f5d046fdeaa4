"""A training step of the kernel in C simulation beside the same step in JAX, jitted: ms and their ratio.

Run: python -m benchmarks.csim_step [preset] [rounds]. In turn; sentences as long as the model allows.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from benchmarks.jax_steps import RATE, Case, by_scan
from benchmarks.timing import Row, Training, machine, time_in_turn, warm_up
from fpga_bridge.devices.csim import CsimDevice
from ttjax import Batch, preset

STEPS = 16  # different sentences


def by_kernel(case: Case) -> Training:
    """Steps on the kernel, all sentences in one call; parameters stay on the simulated chip."""
    pool = case.pool()
    sentences = Batch(*(np.asarray(field)[:, 0] for field in pool))
    device = CsimDevice(case.config)
    device.load(case.params())
    rates = np.full(case.steps, RATE, np.float32)
    twin = by_scan(case)
    return Training(lambda: device.steps(sentences, rates)[:, 0], twin.multiplications, twin.same_as)


def main(name: str = "enc2", rounds: str = "9") -> None:
    """Measure and print as JSON: medians and quartiles of a step in ms, and how often csim's holds JAX's."""
    case = Case(name, preset(name), 1, STEPS)
    trainings = {"csim": by_kernel(case), "JAX, jitted": by_scan(case)}
    timed = [(Row(label, name, of.multiplications), of) for label, of in trainings.items()]
    warm_up(timed, lambda: None)
    time_in_turn(timed, int(rounds), 0.5, lambda: None)
    rows = [row for row, _ in timed]
    ratio = float(np.median(np.divide(rows[0].ms, rows[1].ms)))
    found = {"machine": machine(), "rows": [row.summary() for row in rows], "csim_over_jax": ratio}
    print(json.dumps(found, indent=2))
    for row in rows:
        print(f"{row.name}: {row.median:.2f} ms a step", file=sys.stderr)
    print(f"csim over JAX: {ratio:.2f}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
