"""Replays a program instruction by instruction: who wrote each element of each on-chip array last.

What an operation reads and writes stands here by hand, after hls/*.hpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fpga_bridge.memory.lifetimes import Pool
from fpga_bridge.memory.memory_map import MemoryMap, Place
from fpga_bridge.program import emitter
from fpga_bridge.program.instructions import ENGINE, NONE, Flag, Instruction, Op, Operand
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from ttjax import Batch

Block = tuple[int, int, int]  # batches, rows and columns of an operand

# In place of the number of the instruction that wrote an element: parameters and the constant; nothing.
GIVEN, NEVER = -1, -2
ADDEND = 3  # the engine's operand that may lie where its result does
NONLINEAR = (Op.GELU, Op.GELU_BACKWARD, Op.TANH, Op.TANH_BACKWARD, Op.SOFTMAX, Op.SOFTMAX_BACKWARD)


class Meant(str):
    """The name of a pool that knows which of its arrays an operand is of."""

    place: Place


@dataclass(frozen=True)
class Telling(MemoryMap):
    """A memory map whose places tell which array they are; the program made from it is the same."""

    def place(self, name: str, index: int = 0, of_pass: int = 0) -> tuple[Pool, int]:
        pool, start = super().place(name, index, of_pass)
        told = Meant(pool)
        told.place = self._by_key.get((name, index, of_pass)) or self._by_key[name, index, 0]
        return told, start  # type: ignore[return-value]


class Job(NamedTuple):
    """An instruction and its number in the program as emitted."""

    number: int
    does: Instruction


def emitted(memory: MemoryMap) -> list[Job]:
    """The program of a map, in order."""
    telling = Telling(*(getattr(memory, field.name) for field in fields(memory)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emitter, "make_memory_map", lambda config: telling)
        program = make_program(make_manifest(memory.config))
    return [Job(number, does) for number, does in enumerate(program.instructions)]


def blocks(job: Instruction, length: int) -> tuple[dict[int, Block], dict[int, Block]]:
    """Extents of the operands that an instruction reads, and of those that it writes, as in hls/*.hpp."""
    rows, cols, stream, batches = job.extents(length)
    every, row, column, one = (batches, stream, cols), (1, 1, cols), (1, 1, stream), (1, 1, 1)
    if job.op in ENGINE:
        tile = (cols, rows) if job.flags & Flag.TRANSPOSED else (rows, cols)
        reads = {0: (batches, stream, rows), 1: every, 2: (batches, *tile)}
        number = {Op.TO_NARROW: 0, Op.TO_WIDE: 1, Op.TO_TILE: 2}[job.op]
        result = reads.pop(number)
        return {**reads, ADDEND: result, 4: (1, 1, result[-1])}, {number: result, 5: row}
    return {
        **dict.fromkeys(NONLINEAR, ({0: every, 1: every}, {2: every})),
        Op.CROSS_ENTROPY: ({0: every}, {2: every, 3: one}),
        Op.JOINT_LOSS: ({0: every}, {2: one}),
        Op.NORM: ({0: every, 3: row, 5: row, 6: every}, {1: every, 2: every, 4: column}),
        Op.NORM_AGAIN: ({1: every, 3: row, 5: row}, {2: every}),
        Op.NORM_BACKWARD: ({0: every, 1: every, 3: row, 4: column}, {2: every, 5: every, 6: row, 7: row}),
        Op.UPDATE: ({0: every, 1: every}, {0: every}),
        Op.TAP: ({0: every}, {}),
        Op.CLEAR: ({}, {0: row}),
    }[job.op]


class Memories:
    """Who wrote each element last; ``shared``: the memory map's places, else one for each array."""

    def __init__(self, memory: MemoryMap, batch: Batch, *, shared: bool) -> None:
        self.memory, self.shared, self.length = memory, shared, int(batch.length)
        tokens = np.asarray(batch.tokens)[: self.length]
        self.picked = [np.unique(d) for d in np.unravel_index(tokens, memory.config.vocab_modes)]
        banks = {bank.name: bank.size for bank in memory.layout.banks}
        self.writer: dict[object, np.ndarray] = {
            name: np.full(size, GIVEN) for name, size in {**banks, "one": 1}.items()
        }
        self.sizes: Mapping[object, int] = {
            **{f"{name}_gradient": size for name, size in banks.items()},
            **{array.name: array.size for array in memory.fixed},
            **{pool: number * memory.slot_size[pool] for pool, number in memory.slots.items()},
            **{id(place): place.array.size for place in memory.places},
        }

    def at(self, operand: Operand) -> tuple[object, int]:
        """The memory that an operand lies in, and its first element there."""
        if self.shared or not isinstance(operand.array, Meant):
            return str(operand.array), operand.base
        place = operand.array.place
        return id(place), operand.base - place.slot * self.memory.slot_size[place.array.pool]

    def elements(self, operand: Operand, block: Block) -> Iterator[np.ndarray]:
        """Views of the writers of an operand's elements: of all, or of each slice that a token picks."""
        (array, base), (batches, rows, cols) = self.at(operand), block
        if array not in self.writer:
            self.writer[array] = np.full(self.sizes[array], NEVER)
        firsts = [base]
        if operand.digit != NONE:
            firsts = [base + digit * operand.batch for digit in self.picked[operand.digit].tolist()]
            batches = 1
        for first in firsts:
            elements, size = self.writer[array][first:], self.writer[array].itemsize
            last = (batches - 1) * operand.batch + (rows - 1) * operand.row + cols
            assert first >= 0, operand
            assert last <= elements.size, f"{operand} runs out of its array"
            yield as_strided(
                elements, (batches, rows, cols), (operand.batch * size, operand.row * size, size)
            )

    def play(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, int, list[np.ndarray]]]:
        """Every read as (instruction, operand, writers): as it begins and, since it streams, as it ends."""
        for job in jobs:
            operands = {n: o for n, o in enumerate(job.does.operands) if o is not None}
            reads, writes = blocks(job.does, self.length)
            assert operands.keys() <= {*reads, *writes}
            before = {n: [*self.elements(operands[n], reads[n])] for n in reads if n in operands}
            copies = {n: [view.copy() for view in views] for n, views in before.items()}
            results = [operands[n] for n in writes if n in operands]
            for n in writes:
                for view in self.elements(operands[n], writes[n]) if n in operands else ():
                    view[...] = job.number
            for n, views in before.items():
                # Element by element in the place of the result, each is read before it is written.
                alone = n == ADDEND or job.does.op not in ENGINE
                in_place = alone and any(self.alike(operands[n], result) for result in results)
                yield job, n, [*copies[n], *(copies[n] if in_place else views)]

    def alike(self, a: Operand, b: Operand) -> bool:
        """Whether two operands are the same elements in the same order."""
        return (self.at(a), a.row, a.batch, a.digit) == (self.at(b), b.row, b.batch, b.digit)
