"""Which instructions run at once: each unit runs its own in order and waits for others by memory.

A memory has two ports, which one unit can fill: two instructions that touch the same memory never overlap,
whoever reads or writes. Every other pair may. The waits are part of the program, which the kernel's loop
honours (``hls/sequencer.hpp``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from fpga_bridge.memory.banks import SLOT_MEMORIES
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.instructions import ENGINE, NONE, TRACE_ONLY, Flag, Instruction, Op, Operand

UNITS = ("engine", "norm", "nonlinear", "update")

_NORM = (Op.NORM, Op.NORM_AGAIN, Op.NORM_BACKWARD)


def unit_of(op: Op) -> int:
    """Number of the unit that executes an operation, or NONE for what only the trace wants."""
    if op in TRACE_ONLY:
        return NONE
    return 0 if op in ENGINE else 1 if op in _NORM else 3 if op == Op.UPDATE else 2


def with_waits(instructions: Sequence[Instruction], memory: MemoryMap) -> tuple[Instruction, ...]:
    """The instructions, each with the last one of every other unit that it must wait for."""
    last_use: dict[tuple[str, int], list[int]] = {}
    timed = []
    for i, job in enumerate(instructions):
        unit = unit_of(job.op)
        if unit == NONE:
            timed.append(job)
            continue
        waits = [NONE] * len(UNITS)
        for place in set(memories(job, memory)):
            users = last_use.setdefault(place, [NONE] * len(UNITS))
            for other, user in enumerate(users):
                if other != unit:
                    waits[other] = max(waits[other], user)
            users[unit] = i
        timed.append(replace(job, waits=tuple(waits)))
    return tuple(timed)


def memories(job: Instruction, memory: MemoryMap) -> Iterator[tuple[str, int]]:
    """The memories that an instruction touches: arrays and, of pools with a memory a slot, slots."""
    for operand in job.operands:
        if operand is not None:
            yield from memories_of(operand, job, memory)


def memories_of(operand: Operand, job: Instruction, memory: MemoryMap) -> list[tuple[str, int]]:
    """The memories that one operand of an instruction lies in."""
    if operand.array not in SLOT_MEMORIES:
        return [(operand.array, 0)]
    slot = memory.slot_size[operand.array]  # type: ignore[index]
    last = operand.base + span(operand, job, memory) - 1
    return [(operand.array, number) for number in range(operand.base // slot, last // slot + 1)]


def span(operand: Operand, job: Instruction, memory: MemoryMap) -> int:
    """Elements from the first to the last that an operand can have, for the longest sentence."""
    rows, cols, stream, batches = job.extents(memory.config.seq_len)
    if operand.digit != NONE:
        batches = memory.config.vocab_modes[operand.digit]
    if job.op in ENGINE and operand is job.operands[2]:
        stream, cols = (cols, rows) if job.flags & Flag.TRANSPOSED else (rows, cols)
    elif job.op in ENGINE and (operand is job.operands[0] or _added_to_narrow(operand, job)):
        cols = rows
    return (batches - 1) * operand.batch + (stream - 1) * operand.row + cols


def _added_to_narrow(operand: Operand, job: Instruction) -> bool:
    """Whether it is what a narrow result adds to, laid out like it."""
    return job.op == Op.TO_NARROW and operand in job.operands[3:5]


def finish(
    instructions: Sequence[Instruction], cycles: Sequence[int]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Cycle in which each instruction begins, and the first that finds its last result stored.

    ``cycles`` of each instruction, between the two; 0 for what only the trace wants.
    """
    begin, end = np.zeros(len(cycles), np.int64), np.zeros(len(cycles), np.int64)
    free = [0] * len(UNITS)
    for i, job in enumerate(instructions):
        unit = unit_of(job.op)
        if unit == NONE:
            continue
        ready = max((int(end[wait]) for wait in job.waits if wait != NONE), default=0)
        begin[i] = max(free[unit], ready)
        end[i] = free[unit] = begin[i] + cycles[i]
    return begin, end
