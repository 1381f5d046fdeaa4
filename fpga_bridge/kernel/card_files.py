"""The generated files of a build for the card: the kernel's header, commands for Vitis HLS and the linker.

Run by hls/Makefile as ``python -m fpga_bridge.kernel.card_files``; a library's function does the work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.kernel.interface import (
    CLOCK_MHZ,
    KERNEL,
    PLATFORM,
    TOOLS,
    connectivity,
    hls_commands,
)
from fpga_bridge.kernel.labels import config_of_data
from fpga_bridge.program.manifest import make_manifest
from ttjax import ModelConfig, UserError
from ttjax.cli import exit_status
from ttjax.cli_model import ModelArgs
from ttjax.output import replace_file

CONNECTIVITY_NAME = "link.cfg"
HLS_COMMANDS_NAME = "hls.tcl"
# What hls/Makefile asks for, in its order.
SAYS = (KERNEL, PLATFORM, CLOCK_MHZ, TOOLS)


@dataclass(frozen=True)
class CardFiles:
    """Write what `v++` needs beside the sources, or say what its command line needs of the interface."""

    to: Path = Path("build/card/generated")
    """Folder for the header, the commands for Vitis HLS and the connectivity file."""
    taps: bool = False
    """With the trace points' buffers."""
    say: bool = False
    """Print kernel, platform, clock in MHz and tools' version on a line, and write nothing."""
    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    data: str | None = None
    """Corpus that the kernel is to have outputs for, as of `fpga-bridge build`."""

    def run(self) -> int:
        """Write or print; returns exit status 0."""
        if self.say:
            print(*SAYS)
        else:
            write_card_files(self.to, config_of_data(self.model.config(), self.data, print), self.taps)
        return 0


def write_card_files(folder: Path, config: ModelConfig, taps: bool) -> None:
    """Header, HLS commands and, last, since it stamps them all, connectivity file of one config.

    Raises:
        UserError: the folder can't be written.
    """
    try:
        replace_file(folder / HEADER_NAME, header(make_manifest(config)).encode(), make_folder=True)
        replace_file(folder / HLS_COMMANDS_NAME, hls_commands().encode())
        replace_file(folder / CONNECTIVITY_NAME, connectivity(taps).encode())
    except OSError as error:
        raise UserError(f"can't write to {folder}: {error.strerror}; choose another folder") from None


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return exit_status(lambda: tyro.cli(CardFiles, prog="fpga_bridge.kernel.card_files", args=args).run())


if __name__ == "__main__":
    sys.exit(main())
