"""Which instructions made what a trace point shows: where to look first when it is wrong.

A gradient is named after the value it belongs to, but another stage computes it, and several may add to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.program.instructions import ENGINE, RESULTS, TRACE_ONLY, Instruction, Op
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.program.schedule import span

ADDEND = 3  # the engine's operand to which a product is added


def makers(manifest: Manifest) -> dict[str, tuple[Instruction, ...]]:
    """By trace point, the instructions whose result it shows, in the order in which they run.

    They are the last that wrote into the array before it was recorded and, where that one added to another
    result, those that made that.
    """
    names = {point.offset: point.name for point in manifest.points}
    memory = make_memory_map(manifest.layout.config)
    written: list[tuple[Instruction, list[Region]]] = []
    found: dict[str, tuple[Instruction, ...]] = {}
    for job in make_program(manifest).instructions:
        if job.op == Op.TAP:
            shown = _region(job, 0, memory)
            assert shown is not None
            found[names[job.trace]] = tuple(_writers(written, shown, memory))[::-1]
        elif job.op not in TRACE_ONLY:
            regions = (_region(job, number, memory) for number in RESULTS[job.op])
            written.append((job, [region for region in regions if region is not None]))
    return found


class Region(NamedTuple):
    """Elements of an array, from the first to behind the last."""

    array: str
    first: int
    end: int

    def meets(self, other: Region) -> bool:
        """Whether they have an element in common."""
        return self.array == other.array and self.first < other.end and other.first < self.end


def _region(job: Instruction, number: int, memory: MemoryMap) -> Region | None:
    """Where an operand of an instruction lies for the longest sentence; None if it has no such operand."""
    operand = job.operands[number] if number < len(job.operands) else None
    if operand is None:
        return None
    return Region(operand.array, operand.base, operand.base + span(operand, job, memory))


def _writers(
    written: Sequence[tuple[Instruction, list[Region]]], shown: Region | None, memory: MemoryMap
) -> Iterator[Instruction]:
    """Those whose results what is in a region now is the sum of, the last one first."""
    for job, results in reversed(written):
        if shown is None:
            return
        if any(result.meets(shown) for result in results):
            yield job
            shown = _region(job, ADDEND, memory) if job.op in ENGINE else None
