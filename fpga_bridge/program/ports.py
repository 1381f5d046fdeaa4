"""What a contraction costs on the engine: its trips, from the tiles and the ports of its memories.

A memory has two ports, each of one word a cycle. Where an operand's rows don't lie at words, or two operands
share a memory, a trip takes more than one cycle, or tiles move between the streams instead of beside them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from math import gcd, prod

from fpga_bridge.memory.banks import PORTS, SLOT_MEMORIES, array_lanes
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import NONE, Flag, Instruction, Op, Operand


class Ports:
    """The memories of a memory map as an accelerator's engine sees them."""

    def __init__(self, memory: MemoryMap, accelerator: Accelerator) -> None:
        self.memory = memory
        self.accelerator = accelerator

    @cached_property
    def _lanes(self) -> dict[str, int]:
        return {}

    def lanes(self, array: str) -> int:
        """Float32 elements of a word of an array."""
        if array not in self._lanes:
            self._lanes[array] = array_lanes(self.memory, array)
        return self._lanes[array]

    def memory_of(self, operand: Operand) -> tuple[str, int]:
        """The memory an operand lies in: an array or, of pools with a memory a slot, its slot."""
        if operand.array in SLOT_MEMORIES:
            return operand.array, operand.base // self.memory.slot_size[operand.array]  # type: ignore[index]
        return operand.array, 0

    def words(self, operand: Operand, count: int, *steps: int) -> int:
        """Most words that ``count`` consecutive elements of an operand touch.

        ``steps``: distances between the first elements of different accesses, besides batches.
        """
        lanes = self.lanes(operand.array)
        grain = gcd(lanes, operand.batch, *steps)
        worst = lanes - grain + operand.base % grain
        return (worst + count - 1) // lanes + 1

    def timed(self, job: Instruction) -> Instruction:
        """A contraction with its intervals: cycles of a trip of the stream, and of a part of a tile.

        ``load`` is the number of parts a tile moves in, at least the distance of dependent sums.
        """
        a = self.accelerator
        rows, cols, _, _ = job.extents(self.memory.config.seq_len)
        narrow_count, wide_count = min(rows, a.tile_rows), min(cols, a.tile_lanes)
        narrow, wide, tile = job.operands[0], job.operands[1], job.operands[2]
        addend, bias, columns = (*job.operands[3:], None, None, None)[:3]
        assert narrow is not None and wide is not None and tile is not None

        in_stream: dict[tuple[str, int], int] = {}
        streams: list[tuple[Operand | None, int, int]] = [
            (narrow, narrow_count, a.tile_rows),
            (wide, wide_count, a.tile_lanes),
        ]
        to_wide = job.op == Op.TO_WIDE
        result_count, result_step = streams[1][1:] if to_wide else streams[0][1:]
        streams += [(addend, result_count, result_step), (bias, result_count, result_step)]
        for operand, count, step in streams:
            if operand is not None:
                memory = self.memory_of(operand)
                in_stream[memory] = in_stream.get(memory, 0) + self.words(operand, count, operand.row, step)

        transposed = bool(job.flags & Flag.TRANSPOSED)
        if transposed:
            columns_a_part = a.tile_lanes // a.tile_rows
            parts = -(-wide_count // columns_a_part)
            if tile.row == narrow_count == rows:
                # Whole columns that are neighbours: one run.
                run = columns_a_part * rows
                part_words = self.words(tile, min(run, wide_count * rows), run, a.tile_lanes * rows)
            else:
                part_words = columns_a_part * self.words(tile, narrow_count, tile.row, a.tile_rows)
        else:
            parts = narrow_count
            part_words = self.words(tile, wide_count, tile.row, a.tile_lanes)
        parts += columns is not None
        # Tokens of one digit add to what is there: a part is read and written.
        part_words *= 2 if job.op == Op.TO_TILE and job.order != NONE else 1
        moved = {self.memory_of(tile)} | ({self.memory_of(columns)} if columns is not None else set())
        flags = job.flags | (Flag.APART if moved & set(in_stream) else 0)
        return replace(
            job,
            flags=int(flags),
            interval=-(-max(in_stream.values()) // PORTS),
            load=max(parts, a.sum_distance),
            load_interval=-(-part_words // PORTS),
        )

    def tiles(self, job: Instruction, length: int) -> int:
        """Tiles of all batches for a sentence of that length."""
        rows, cols, _, batches = job.extents(length)
        a = self.accelerator
        return batches * -(-rows // a.tile_rows) * -(-cols // a.tile_lanes)

    def trips(self, job: Instruction, length: int) -> int:
        """Trips (cycles at II 1, without the pipeline's depth) of a timed contraction."""
        tiles, rows = self.tiles(job, length), job.extents(length).stream
        stream = rows * job.interval
        transfer = job.load * job.load_interval
        apart = bool(job.flags & Flag.APART)
        if not tiles:
            return 0
        if job.op != Op.TO_TILE:
            step = stream + transfer if apart else max(stream, transfer)
            return transfer + (tiles - 1) * step + stream
        distance = self.accelerator.sum_distance
        # Tiles that take turns: of all batches, or of each by itself.
        batches = job.extents(length).batches if job.flags & Flag.BATCH_ALONE else 1
        alike = tiles // batches
        groups = [min(distance, alike - first) for first in range(0, alike, distance)] * batches
        partials = [min(-(-distance // group), rows) for group in groups]
        leaving = [group * partial * transfer for group, partial in zip(groups, partials, strict=True)]
        total = groups[0] * stream + leaving[-1]
        for (_, before), (group, _) in pairwise(zip(groups, leaving, strict=True)):
            total += group * stream + before if apart else max(group * stream, before)
        return total

    def products(self, job: Instruction, length: int) -> int:
        """Multiplications of a contraction that are asked for: what the engine's trips are used for."""
        return prod(job.extents(length))
