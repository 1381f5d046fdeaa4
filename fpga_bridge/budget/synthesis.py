"""Rung 4 of the verification ladder: do banks take the blocks that fpga_bridge.memory.blocks says?

An open tool (yosys) maps a small Verilog module of each bank. Its counts are estimates, not Vitis's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from fpga_bridge.memory.blocks import BankShape, BlockCount, block_count
from ttjax.errors import UserError
from ttjax.output import Output, replace_file, user_cache

# The tool whose choices the model follows, and the steps that reach its memory mapping: past it the memories
# are final, and the rest of synthesis would only cost time.
MODELLED = "Yosys 0.23"
SCRIPT = (
    "read_verilog bank.v; synth_xilinx -family xcup -top bank -run begin:map_ffs;"
    " tee -q -o cells.json stat -json"
)
TIMEOUT = 240.0  # seconds for one bank, which takes 3 to 5 on an idle core

_STYLE = {"bram": "block", "uram": "ultra", "lutram": "distributed", "registers": "registers"}


@dataclass(frozen=True)
class Row:
    """One bank: the model's count, the tool's, whether they are equal; if not, a reason: what each took."""

    shape: BankShape
    model: BlockCount
    tool: BlockCount
    equal: bool
    reason: str


def verilog(shape: BankShape) -> str:
    """A module ``bank`` that is one bank with registered reads.

    A read of the word that is being written gives its old value. Where an address writes and reads (true dual
    port), a write leaves the read data as they were, and a read of the word that the other port writes may
    give anything: the ports of UltraRAM take turns, in the one order only, and the kernel makes no such read.
    """
    address, word = f"[{max(1, (shape.depth - 1).bit_length()) - 1}:0]", f"[{shape.width - 1}:0]"
    shared = shape.write_ports == 2
    ports, blocks = ["input clk"], []
    for i in range(shape.write_ports):
        ports += [f"input we{i}", f"input {address} wa{i}", f"input {word} wd{i}"]
        blocks.append(f"if (we{i}) mem[wa{i}] <= wd{i};")
    for i in range(shape.read_ports):
        ports.append(f"output reg {word} rd{i}")
        if shared:
            other = 1 - i
            collides = f"we{other} && wa{other} == wa{i}"
            blocks[i] += f" else rd{i} <= {collides} ? {shape.width}'bx : mem[wa{i}];"
        else:
            ports.append(f"input {address} ra{i}")
            blocks.append(f"rd{i} <= mem[ra{i}];")
    lines = [
        f"module bank({', '.join(ports)});",
        f'  (* ram_style = "{_STYLE[shape.kind]}" *) reg {word} mem [0:{shape.depth - 1}];',
        *(f"  always @(posedge clk) {block}" for block in blocks),
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def parse_cells(stat: str) -> dict[str, int]:
    """The memory cells by type, of the tool's statistics (the JSON of its ``stat``).

    Raises:
        ValueError: the text is no such statistics.
    """
    try:
        cells = json.loads(stat)["design"]["num_cells_by_type"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no cell counts in the tool's statistics: {error!r}") from error
    return {name: count for name, count in sorted(cells.items()) if re.match(r"U?RAM", name)}


def count_blocks(cells: dict[str, int]) -> BlockCount:
    """Memory blocks among the tool's cells; LUTRAM cells (RAM32M16, RAM64M8 and the like) take none."""
    ramb36, ramb18 = cells.get("RAMB36E2", 0), cells.get("RAMB18E2", 0)
    return BlockCount(bram18=2 * ramb36 + ramb18, uram=cells.get("URAM288", 0))


def find_tool() -> str:
    """Path of yosys.

    Raises:
        UserError: there is none.
    """
    tool = shutil.which("yosys")
    if tool is None:
        raise UserError(
            "no synthesis tool: expected yosys on the PATH, found none; run `apt-get install yosys` (Debian,"
            " Ubuntu), or `make test-memory`, which does"
        )
    return tool


def tool_version() -> str:
    """What the tool calls itself, such as "Yosys 0.23 (git sha1 7ce5011c24b)".

    Raises:
        UserError: there is no yosys.
    """
    return subprocess.run([find_tool(), "-V"], capture_output=True, text=True, check=True).stdout.strip()


def synthesise(shape: BankShape, timeout: float = TIMEOUT) -> dict[str, int]:
    """The memory cells, by type, that the tool builds a bank of.

    Kept in the user's cache by content: the module, the tool's version and the commands. The bank's name does
    not matter.

    Raises:
        UserError: there is no yosys, it refuses the bank (its message is quoted), it takes longer than
            ``timeout`` seconds, or its statistics have another form than the modelled version's.
    """
    source, version = verilog(shape), tool_version()
    digest = hashlib.sha256("\0".join((version, SCRIPT, source)).encode()).hexdigest()
    kept = user_cache() / "synthesis" / f"{digest[:32]}.json"
    if kept.is_file():
        return json.loads(kept.read_text())["cells"]
    what = f"bank {shape.name} ({shape.width} × {shape.depth}, {shape.kind})"
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        Path(scratch, "bank.v").write_text(source)
        command = [find_tool(), "-q", "-p", SCRIPT]
        try:
            run = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{what}: expected yosys to map it within {timeout:g} s, found it still running; allow more"
                " time, or choose a smaller bank"
            ) from None
        if run.returncode:
            lines = [line for line in (run.stderr + run.stdout).splitlines() if "ERROR" in line]
            raise UserError(f"{what}: yosys does not map it: {(lines or ['no message'])[0]}")
        try:
            cells = parse_cells(Path(scratch, "cells.json").read_text())
        except ValueError as error:
            raise UserError(
                f"{what}: expected statistics as {MODELLED} writes them, found others by {version} ({error});"
                f" install {MODELLED}"
            ) from None
    record = {"tool": version, "shape": asdict(_unnamed(shape)), "cells": cells}
    replace_file(kept, json.dumps(record, indent=2).encode(), make_folder=True)
    return cells


def compare(
    shapes: Sequence[BankShape],
    timeout: float = TIMEOUT,
    model: Callable[[BankShape], BlockCount] = block_count,
) -> list[Row]:
    """The model's count and the tool's, for each bank in order; the tool runs once for each distinct shape.

    ``timeout``: seconds for one shape. ``model`` replaces ``block_count`` (a planted fault).

    Raises:
        UserError: as ``synthesise``.
    """
    version = tool_version()
    distinct: dict[BankShape, BankShape] = {}  # the first bank of each shape, for its name in messages
    for shape in shapes:
        distinct.setdefault(_unnamed(shape), shape)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = pool.map(lambda shape: synthesise(shape, timeout), distinct.values())
        cells = dict(zip(distinct, results, strict=True))
    return [_row(shape, model(shape), cells[_unnamed(shape)], version) for shape in shapes]


def _unnamed(shape: BankShape) -> BankShape:
    return replace(shape, name="bank")


def _row(shape: BankShape, model: BlockCount, cells: dict[str, int], version: str) -> Row:
    tool = count_blocks(cells)
    reason = ""
    if model != tool:
        taken = ", ".join(f"{count} {name}" for name, count in cells.items()) or "no memory cell"
        reason = f"model: {describe(model)}, yosys: {taken}"
        if not re.match(rf"{re.escape(MODELLED)}(?!\d)", version):
            reason += f"; the model is of {MODELLED}, this is {version}"
    return Row(shape, model, tool, model == tool, reason)


def describe(count: BlockCount) -> str:
    """A count in words, such as "16.5 BRAM36" or "2 URAM"; "none" for no block."""
    parts = [f"{count.bram36:g} BRAM36"] * (count.bram18 > 0) + [f"{count.uram} URAM"] * (count.uram > 0)
    return " + ".join(parts) or "none"


def check(shapes: Sequence[BankShape], out: Output) -> bool:
    """Prints the comparison as a table, the reasons of the unequal rows below it; whether all are equal.

    Raises:
        UserError: as ``synthesise``.
    """
    with out.console.status("mapping the banks with yosys"):
        rows = compare(shapes)
    table = Table("bank", title="memory blocks: the model against yosys")
    for column in ("width × depth", "kind", "model", "yosys", "equal"):
        table.add_column(column, justify="right")
    for row in rows:
        shape = row.shape
        single = shape.write_ports == shape.read_ports == 1
        table.add_row(
            shape.name,
            f"{shape.width} × {shape.depth}",
            shape.kind if single else f"{shape.kind} {shape.write_ports}W {shape.read_ports}R",
            describe(row.model),
            describe(row.tool),
            "yes" if row.equal else "NO",
        )
    out.console.print(table)
    unequal = [row for row in rows if not row.equal]
    for row in unequal:
        out.say(f"{row.shape.name}: {row.reason}")
    out.say(f"{len(rows)} banks, {len(unequal)} unequal; {tool_version()}: an estimate, not a Vitis result")
    return not unequal
