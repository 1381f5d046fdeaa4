"""ATIS epochs on the kernel in C simulation, with JAX's own training beside it: accuracy of both, and drift.

python -m experiments.train_on_kernel --out experiments/results
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fpga_bridge.cli import main as fpga_bridge

MINUTES = 13.0  # measured on a busy machine

STUDY = ("--preset", "enc2", "--epochs", "10", "--device", "csim", "--out", "experiments/results")


def main(options: Sequence[str] | None = None) -> int:
    """Run `fpga-bridge train` as the study does, but for ``options`` (default: the process's own)."""
    return fpga_bridge(["train", *STUDY, *(sys.argv[1:] if options is None else options)])


if __name__ == "__main__":
    sys.exit(main())
