"""The engine's roofline: multiply-accumulates a cycle by kind of contraction, its peak and its memories.

A kind's place from left to right is how often an element that a memory gives is used: multiply-accumulates
for each word moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fpga_bridge.cycles.model import StepModel
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.memory.banks import PORTS
from fpga_bridge.program.accelerator import ClockClass
from fpga_bridge.program.instructions import ENGINE, LENGTH, NONE, Flag, Instruction, Op, Operand
from fpga_bridge.program.ports import Ports
from ttjax.params import BLOCK_LINEARS, HEAD_LINEARS
from ttjax.picture import save, subplots

BANKS = 3  # that a contraction moves words of at once: one each for narrow, wide and tile


@dataclass(frozen=True)
class Kind:
    """Contractions of one kind in a step: multiply-accumulates asked for, words moved, cycles taken."""

    name: str
    products: int
    words: int
    cycles: int

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each word moved."""
        return self.products / self.words

    @property
    def rate(self) -> float:
        """Multiply-accumulates a cycle."""
        return self.products / self.cycles


def kinds(model: StepModel, length: int, clock_class: ClockClass) -> list[Kind]:
    """All kinds of contractions of a step for a sentence of that length, in order of their first."""
    ports = Ports(model.memory, model.accelerator)
    durations = model.timing(SentenceShape(length), clock_class).durations
    found: dict[str, Kind] = {}
    for job, cycles in zip(model.program.instructions, durations, strict=True):
        if job.op not in ENGINE:
            continue
        name = kind_of(job)
        before = found.get(name, Kind(name, 0, 0, 0))
        found[name] = Kind(
            name,
            before.products + ports.products(job, length),
            before.words + words_moved(job, ports, length),
            before.cycles + cycles,
        )
    return list(found.values())


def kind_of(job: Instruction) -> str:
    """What a contraction is for: the pass, and which products they are."""
    phase, stage = job.stage
    # Made again for the backward pass, the embedding belongs to the norm after it.
    if stage in ("embed", "embed_norm"):
        what = "embedding"
    elif stage.endswith("attention"):
        what = "attention"
    elif stage.endswith("_out") and not stage.startswith("block"):
        what = "classifiers"
    elif stage == "merges" or stage.rpartition(".")[2] in (*BLOCK_LINEARS, *HEAD_LINEARS):
        # Merged halves and their gradients don't depend on the sentence; in the intent's head one token does.
        tokens = job.stream == LENGTH or (stage == "intent_pre" and job.stream == 1)
        what = "layers: tokens" if tokens else "layers: cores"
    else:
        raise AssertionError(f"a contraction of no kind: in stage {stage}")
    return f"{phase} {what}"


def words_moved(job: Instruction, ports: Ports, length: int) -> int:
    """Words that a contraction reads and writes, of all its memories together.

    Where a sum is over tokens of one digit, the most that tokens can make of it.
    """
    a = ports.accelerator
    rows, cols, stream, batches = job.extents(length)
    row_tiles, col_tiles = -(-rows // a.tile_rows), -(-cols // a.tile_lanes)
    narrow, wide, tile, addend, bias, columns = (*job.operands, None, None, None)[:6]

    def each(operand: Operand | None, count: int, step: int) -> int:
        return 0 if operand is None else ports.words(operand, count, operand.row, step)

    of_narrow = row_tiles * each(narrow, min(rows, a.tile_rows), a.tile_rows)
    of_wide = col_tiles * each(wide, min(cols, a.tile_lanes), a.tile_lanes)
    # The tiled matrix once, a row at a time as it lies there.
    lines, along, lanes = (
        (cols, rows, a.tile_rows) if job.flags & Flag.TRANSPOSED else (rows, cols, a.tile_lanes)
    )
    of_tile = lines * -(-along // lanes) * each(tile, min(along, lanes), lanes)
    if job.op == Op.TO_TILE:
        sums = 0 if columns is None else col_tiles * each(columns, min(cols, a.tile_lanes), a.tile_lanes)
        # Tokens of one digit add to what is there: each but the first reads it before it writes.
        added_to = 0 if job.order == NONE else batches - 1
        streamed = stream * (of_narrow * col_tiles + of_wide * row_tiles)
        return batches * (streamed + of_tile + sums) + added_to * of_tile
    if job.op == Op.TO_WIDE:
        read, result, tiles = (
            of_narrow * col_tiles,
            of_wide,
            (min(cols, a.tile_lanes), a.tile_lanes, col_tiles),
        )
    else:
        read, result, tiles = of_wide * row_tiles, of_narrow, (min(rows, a.tile_rows), a.tile_rows, row_tiles)
    added = sum(tiles[2] * each(operand, *tiles[:2]) for operand in (addend, bias))
    return batches * (stream * (read + result + added) + of_tile)


def draw(some: Sequence[Kind], macs: int, title: str, path: Path) -> None:
    """Draws the kinds under the engine's peak and the bandwidth of its memories.

    Raises:
        UserError: matplotlib is missing, or the file can't be written.
    """
    figure, axes = subplots(figsize=(8, 5))
    from matplotlib import colormaps
    from matplotlib.ticker import LogFormatter, ScalarFormatter

    bandwidth = PORTS * BANKS
    ridge = macs / bandwidth
    left = min(ridge, *(kind.intensity for kind in some)) / 2
    right = max(ridge, *(kind.intensity for kind in some)) * 2
    axes.plot([left, ridge, right], [left * bandwidth, macs, macs], color="black", linewidth=1)
    axes.text(right, macs, f"{macs} multiply-accumulators", ha="right", va="bottom", fontsize=8)
    axes.text(0.7 * ridge, 0.7 * macs, f"{bandwidth} words a cycle ", ha="right", va="bottom", fontsize=8)
    colours = colormaps["tab10"]
    engine = sum(kind.cycles for kind in some)
    for n, kind in enumerate(some):
        size = 20 + 1000 * kind.cycles / engine
        axes.scatter(kind.intensity, kind.rate, s=size, color=colours(n % 10), alpha=0.8)
        axes.scatter([], [], color=colours(n % 10), label=kind.name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-accumulates for each word moved",
        ylabel="multiply-accumulates a cycle",
        title=f"{title}\n(area of a dot: its part of the engine's time)",
        ylim=(min(0.5 * macs, *(kind.rate for kind in some)) / 1.5, 1.3 * macs),
        xlim=(left, right),
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower right")
    save(figure, path)
