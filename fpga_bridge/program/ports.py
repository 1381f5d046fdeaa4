"""What a contraction costs on the engine: its trips, from the tiles and the ports of its memories.

Where what a trip touches is more than the ports of a memory serve in a cycle, a trip takes more than one;
where two operands share a memory, tiles move between the streams instead of beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from math import gcd, prod
from typing import NamedTuple

from fpga_bridge.memory.banks import PORTS, WORD_BITS, array_lanes, shapes_by_array
from fpga_bridge.memory.blocks import BankShape
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import NONE, RESULTS, Flag, Instruction, Op, Operand
from fpga_bridge.program.schedule import memories_of


class Access(NamedTuple):
    """What a trip reads or writes of an operand: ``runs`` times at most ``size`` consecutive elements.

    steps: distances between the first elements of different accesses, besides batches.
    """

    operand: Operand
    writes: bool
    size: int
    steps: tuple[int, ...]
    runs: int = 1


class Ports:
    """The memories of a memory map as an accelerator's engine sees them."""

    def __init__(self, memory: MemoryMap, accelerator: Accelerator) -> None:
        self.memory = memory
        self.accelerator = accelerator

    @cached_property
    def _lanes(self) -> dict[str, int]:
        return {}

    @cached_property
    def _shapes(self) -> dict[str, BankShape]:
        return shapes_by_array(self.memory)

    def lanes(self, array: str) -> int:
        """Float32 elements of a word of an array."""
        if array not in self._lanes:
            self._lanes[array] = array_lanes(self.memory, array)
        return self._lanes[array]

    def words(self, operand: Operand, count: int, *steps: int) -> int:
        """Most words that ``count`` consecutive elements of an operand touch.

        ``steps``: distances between the first elements of different accesses, besides batches.
        """
        lanes = self.lanes(operand.array)
        grain = gcd(lanes, operand.batch, *steps)
        worst = lanes - grain + operand.base % grain
        return (worst + count - 1) // lanes + 1

    def cycles(self, job: Instruction, accesses: Iterable[Access]) -> int:
        """Cycles in which the ports of all memories serve what one trip of an instruction touches."""
        of_memory: defaultdict[tuple[str, int], list[Access]] = defaultdict(list)
        for access in accesses:
            for memory in memories_of(access.operand, job, self.memory):
                of_memory[memory].append(access)
        return max(self._served(array, together) for (array, _), together in of_memory.items())

    def _served(self, array: str, accesses: Sequence[Access]) -> int:
        shape = self._shapes[array]
        if shape.kind == "registers":
            return 1
        if shape.kind == "lutram":
            # One port writes and one reads. Every lane has its own: a run may begin at any of them.
            lanes = shape.width // WORD_BITS
            of_port = {writes: 0 for writes in (False, True)}
            for access in accesses:
                of_port[access.writes] += access.runs * -(-access.size // lanes)
            return max(of_port.values())
        words = sum(a.runs * self.words(a.operand, a.size, *a.steps) for a in accesses)
        return -(-words // PORTS)

    def timed(self, job: Instruction) -> Instruction:
        """A contraction with its intervals: cycles of a trip of the stream, and of a part of a tile.

        ``load`` is the number of parts a tile moves in, at least the distance of dependent sums.
        """
        a = self.accelerator
        rows, cols, _, _ = job.extents(self.memory.config.seq_len)
        along_rows, along_cols = (
            (min(rows, a.tile_rows), a.tile_rows),
            (min(cols, a.tile_lanes), a.tile_lanes),
        )
        narrow, wide, tile = job.operands[0], job.operands[1], job.operands[2]
        addend, bias, columns = (*job.operands[3:], None, None, None)[:3]
        assert narrow is not None and wide is not None and tile is not None

        result = along_cols if job.op == Op.TO_WIDE else along_rows
        stream = [
            Access(operand, number in RESULTS[job.op], count, (operand.row, step))
            for number, (operand, (count, step)) in enumerate(
                ((narrow, along_rows), (wide, along_cols), (None, result), (addend, result), (bias, result))
            )
            if operand is not None
        ]
        parts, part = self._part_of_tile(job, tile)
        moved = set(memories_of(tile, job, self.memory))
        part_cycles = self.cycles(job, part)
        if columns is not None:
            # A part of their own.
            parts += 1
            sums = Access(columns, True, along_cols[0], (columns.row, a.tile_lanes))
            part_cycles = max(part_cycles, self.cycles(job, [sums]))
            moved |= set(memories_of(columns, job, self.memory))
        streamed = {memory for access in stream for memory in memories_of(access.operand, job, self.memory)}
        return replace(
            job,
            flags=int(job.flags | (Flag.APART if moved & streamed else 0)),
            interval=self.cycles(job, stream),
            load=max(parts, a.sum_distance),
            load_interval=part_cycles,
        )

    def _part_of_tile(self, job: Instruction, tile: Operand) -> tuple[int, list[Access]]:
        """In how many parts a tile moves, and what one of them touches."""
        a = self.accelerator
        rows, cols, _, _ = job.extents(self.memory.config.seq_len)
        narrow_count, wide_count = min(rows, a.tile_rows), min(cols, a.tile_lanes)
        stored = 2 in RESULTS[job.op]
        if not job.flags & Flag.TRANSPOSED:
            parts, part = narrow_count, Access(tile, stored, wide_count, (tile.row, a.tile_lanes))
        else:
            columns_a_part = a.tile_lanes // a.tile_rows
            parts = -(-wide_count // columns_a_part)
            if tile.row == narrow_count == rows:
                # Whole columns that are neighbours: one run.
                run = columns_a_part * rows
                part = Access(tile, stored, min(run, wide_count * rows), (run, a.tile_lanes * rows))
            else:
                part = Access(tile, stored, narrow_count, (tile.row, a.tile_rows), columns_a_part)
        # Tokens of one digit add to what is there: a part is read and written.
        adds = stored and job.order != NONE
        return parts, [part, part._replace(writes=False)] if adds else [part]

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
