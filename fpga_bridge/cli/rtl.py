"""The command `fpga-bridge rtl`: the units' arithmetic as Verilog, simulated, against C simulation."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.table import Table

from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.rtl.bodies import BODIES
from fpga_bridge.rtl.check import BodyReport, check_bodies, tool_versions
from ttjax.cli_model import ModelArgs
from ttjax.output import Output, check_apart, check_file

# Lanes are alike, and the smallest unit that has all kinds of them is compiled soonest.
SMALL = Accelerator(tile_rows=4, tile_lanes=8, norm_lanes=4, nonlinear_lanes=2, update_lanes=2)


@dataclass(frozen=True)
class Rtl:
    """Compile the units' arithmetic from the kernel's C++ to Verilog, simulate it, compare with C simulation.

    Each body is the arithmetic of a trip: its operators and the registers between them, not the memories and
    not the control around it. clang reads it as synthesis does, XLS makes the operators, yosys simulates; a
    new vector enters every cycle. Nothing of it is Vitis's. By default lanes are few, since all are alike.
    Exit status 1: a bit differs.

    Examples: fpga-bridge rtl
              fpga-bridge rtl --body nonlinear_lanes nonlinear_log --vectors 100000
              fpga-bridge rtl --body norm_inverse --clock-class fast --verilog norm.v
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(
        default_factory=lambda: ModelArgs(preset="tiny")
    )
    accelerator: Annotated[Accelerator, tyro.conf.arg(name="")] = SMALL
    body: tuple[str, ...] = tuple(BODIES)
    """Bodies to check."""
    vectors: int = 2000
    """Operands of each body, drawn at random: any bits, special values, sums that cancel."""
    seed: int = 0
    """Of the operands."""
    verilog: Path | None = None
    """File for the Verilog: a module of all bodies, theirs, and the operators'."""
    json: str | None = None
    """File for the figures as JSON; - for standard output."""

    def run(self) -> int:
        """Compile, simulate, print the table; returns the exit status."""
        out = Output(self.json)
        check_apart([("--json", self.json), ("--verilog", self.verilog)])
        if self.verilog is not None:
            check_file(self.verilog)
        config = self.model.config()
        out.say(self.model.line(config))
        with out.console.status("compiling bodies to Verilog, and simulating it"):
            reports = check_bodies(
                make_manifest(config),
                self.accelerator,
                names=self.body,
                vectors=self.vectors,
                seed=self.seed,
                keep=self.verilog,
            )
            tools = tool_versions()
        out.console.print(_table(reports))
        for report in reports:
            if report.first is not None:
                out.say(_where(report))
        differing = sum(report.differing for report in reports)
        out.say(f"tools: {', '.join(f'{name} {version}' for name, version in tools.items())}")
        out.say(f"{'DISAGREE' if differing else 'AGREE'}: rung 5, of an open flow; nothing here is Vitis's")
        out.write_json(
            {
                "agree": not differing,
                "accelerator": asdict(self.accelerator),
                "seed": self.seed,
                "tools": tools,
                "bodies": [asdict(report) for report in reports],
            }
        )
        return 1 if differing else 0


def _table(reports: list[BodyReport]) -> Table:
    vectors = reports[0].vectors
    table = Table(title=f"Verilog of the kernel's pipelines against C simulation, {vectors:,} vectors each")
    table.add_column("body", no_wrap=True)
    for column in ("mul", "add", "div", "sqrt", "cycles", "words", "of which differ"):
        table.add_column(column, justify="right")
    for report in reports:
        operators = [str(report.operators[kind] or "") for kind in ("mul", "add", "div", "sqrt")]
        counts = (f"{report.vectors * report.results:,}", f"{report.differing:,}")
        table.add_row(report.name, *operators, str(report.cycles), *counts)
    return table


def _where(report: BodyReport) -> str:
    first = report.first
    assert first is not None
    expected, found = (
        f"{np.uint32(word).view(np.float32):.9g} ({word:#010x})" for word in (first.expected, first.found)
    )
    return (
        f"{report.name}: first at vector {first.vector}, result {first.result}:"
        f" expected {expected}, found {found}"
    )
