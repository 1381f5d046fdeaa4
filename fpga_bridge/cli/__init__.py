"""The command line `fpga-bridge`; statuses as in ``ttjax.cli``, and 1 where the two sides disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import tyro

from fpga_bridge.cli.compare import Compare
from fpga_bridge.cli.cosim import Cosim
from fpga_bridge.cli.cycles import Cycles
from fpga_bridge.cli.faults import Faults
from fpga_bridge.cli.kernel import Build, Layout, Lint
from fpga_bridge.cli.memory import Memory
from fpga_bridge.cli.rtl import Rtl
from fpga_bridge.cli.train import KernelTrain
from ttjax.cli import exit_status

DESCRIPTION = """Drive the tensor-train training kernel and hold it against JAX.

Examples: fpga-bridge cosim --preset enc2 --steps 20
          fpga-bridge compare --preset enc2 --steps 20
          fpga-bridge train --preset enc2 --epochs 10 --checkpoint run.safetensors
          fpga-bridge faults
          fpga-bridge memory --preset enc4
          fpga-bridge cycles --preset enc2"""

_Command = (
    Annotated[Cosim, tyro.conf.subcommand("cosim")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[KernelTrain, tyro.conf.subcommand("train")]
    | Annotated[Faults, tyro.conf.subcommand("faults")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Layout, tyro.conf.subcommand("layout")]
    | Annotated[Memory, tyro.conf.subcommand("memory")]
    | Annotated[Cycles, tyro.conf.subcommand("cycles")]
    | Annotated[Lint, tyro.conf.subcommand("lint")]
    | Annotated[Rtl, tyro.conf.subcommand("rtl")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that ``args`` (default: the process's own) name; returns the exit status."""
    return exit_status(
        lambda: tyro.cli(_Command, prog="fpga-bridge", description=DESCRIPTION, args=args).run(),
        own_process=args is None,
    )
