"""The commands about the kernel itself: `fpga-bridge build`, `layout` and `lint`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_folder
from fpga_bridge.kernel.header import HEADER_NAME, hash_text, header, kernel_hash
from fpga_bridge.kernel.labels import config_of_data
from fpga_bridge.kernel.lint import lint_kernel
from fpga_bridge.memory.layout import make_layout
from fpga_bridge.program.manifest import make_manifest
from ttjax import UserError
from ttjax.cli_model import ModelArgs
from ttjax.output import Output, check_apart, replace_file


@dataclass(frozen=True)
class Build:
    """Build the kernel for C simulation, with its generated header beside it.

    Examples: fpga-bridge build --preset enc2 --to build/enc2
              fpga-bridge build --preset tiny --data travel --to build/tiny
    """

    to: Path
    """Folder for kernel.so and ttfpga_config.hpp."""
    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    data: str | None = None
    """Corpus that the kernel is to have outputs for: a folder, "atis" or "travel". Default: as many intents
    and slots as the preset has."""
    json: str | None = None
    """File for the paths and the kernel's hash as JSON; - for standard output."""

    def run(self) -> int:
        """Build and copy; returns exit status 0."""
        out = Output(self.json)
        kernel, generated = self.to / "kernel.so", self.to / HEADER_NAME
        check_apart([("--json", self.json), ("--to", kernel), ("--to", generated)])
        config = config_of_data(self.model.config(), self.data, out.say)
        manifest = make_manifest(config)
        with out.console.status("building the kernel"):
            library = build_kernel(manifest)
        CsimDevice(config, library)  # refuses what can't be loaded or has another hash
        try:
            replace_file(kernel, library.read_bytes(), make_folder=True)
            replace_file(generated, header(manifest).encode())
        except OSError as error:
            raise UserError(f"can't write to {self.to}: {error.strerror}; choose another --to") from None
        built = kernel_hash(manifest)
        out.say(f"{kernel}: hash {hash_text(built)}")
        out.write_json(
            {
                "kernel": str(kernel),
                "header": str(generated),
                "hash": built.tobytes().hex(),
            }
        )
        return 0


@dataclass(frozen=True)
class Layout:
    """Show the memory map: the banks, what lies in them, and how wide a word is.

    Examples: fpga-bridge layout --preset enc2 --json layout.json
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    json: str | None = None
    """File for the banks and placements as JSON; - for standard output."""

    def run(self) -> int:
        """Print the banks; returns exit status 0."""
        out = Output(self.json)
        config = self.model.config()
        layout = make_layout(config)
        gradients = "" if config.immediate else " (gradients the same again)"
        table = Table("bank", title=f"{self.model.preset}: parameters on chip{gradients}")
        for column in ("tensors", "words", "lanes", "bytes"):
            table.add_column(column, justify="right")
        for i, bank in enumerate(layout.banks):
            tensors = sum(p.bank == i for p in layout.placements)
            table.add_row(bank.name, str(tensors), f"{bank.words:,}", str(bank.lanes), f"{4 * bank.size:,}")
        table.add_section()
        table.add_row("all", str(len(layout.placements)), "", "", f"{4 * layout.size:,}")
        out.console.print(table)
        out.write_json(
            {
                "layout": layout.hash.tobytes().hex(),
                "image_words": layout.image_words,
                "banks": [asdict(bank) for bank in layout.banks],
                "placements": [asdict(placement) for placement in layout.placements],
            }
        )
        return 0


@dataclass(frozen=True)
class Lint:
    """Check that the kernel's sources stay inside what HLS can synthesise (needs libclang).

    Exit status 0: no finding. 1: findings, one a line.

    Examples: fpga-bridge lint
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(
        default_factory=lambda: ModelArgs(preset="tiny")
    )
    json: str | None = None
    """File for the findings as JSON; - for standard output."""

    def run(self) -> int:
        """Print the findings; returns the exit status."""
        out = Output(self.json)
        generated = header(make_manifest(self.model.config()))
        findings = lint_kernel(kernel_folder(), generated)
        for finding in findings:
            out.say(str(finding))
        out.say(f"{len(findings)} findings")
        out.write_json([{**asdict(finding), "file": str(finding.file)} for finding in findings])
        return 1 if findings else 0
