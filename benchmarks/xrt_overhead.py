"""What a training step costs more through XRT on the simulated U50 than on bare csim, in µs and as a ratio.

Run: python benchmarks/xrt_overhead.py [preset] [repeats]. It measures the runtime's and the bridge's share on
this machine; of PCIe and of a card it says nothing.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from fpga_bridge.cli.cosim import draw_sentences
from fpga_bridge.devices.by_name import open_device
from fpga_bridge.devices.csim import CsimDevice
from ttjax import Batch, init_params, preset
from ttjax.data import load_corpus


def microseconds(work: Callable[[Any], object], device: Any, steps: int) -> float:
    """Time of one call on a device, per step."""
    began = time.perf_counter()
    work(device)
    return 1e6 * (time.perf_counter() - began) / steps


def main(name: str = "tiny", repeats: str = "20") -> None:
    """Measure and print as JSON: medians, csim and XRT in turn, so that both see the machine's same mood."""
    corpus = load_corpus("travel", notify=lambda _: None)
    n = 64
    config, batch = draw_sentences(corpus, preset(name), n, seed=0)
    rates = np.full(n, 1e-3, np.float32)
    opened = open_device("xrt:0", config)
    csim, card = CsimDevice(config), opened.device
    first = Batch(*(np.asarray(field)[0] for field in batch))
    for device in (csim, card):
        device.load(init_params(jax.random.key(0), config))
        device.steps(batch, rates)
    ways = {
        "one step a call": (lambda d: [d.step(first, 1e-3) for _ in range(n)]),
        f"{n} steps in queued runs": (lambda d: d.steps(batch, rates)),
    }
    found = {}
    for way, work in ways.items():
        pairs = []
        for _ in range(int(repeats)):
            pairs.append(tuple(microseconds(work, d, n) for d in (csim, card)))
        bare, through = (statistics.median(side) for side in zip(*pairs, strict=True))
        extra = statistics.median(b - a for a, b in pairs)
        found[way] = {
            "csim_us": round(bare, 1),
            "xrt_us": round(through, 1),
            "overhead_us": round(extra, 1),
            "ratio": round(through / bare, 3),
        }
    print(json.dumps({"preset": name, "device": opened.label, "repeats": int(repeats), **found}, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
