"""The sequencer's program: one training step as instructions for the kernel's units, generated as data.

An instruction names arrays by number and elements by affine addresses; ``hls/program.hpp`` is its other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple

from fpga_bridge.memory.memory_map import MemoryMap

LENGTH = -1  # an extent that is the sentence's length
NONE = -1


class Op(IntEnum):
    """Operations, numbered as in ``hls/program.hpp``."""

    TO_WIDE = 0
    TO_NARROW = 1
    TO_TILE = 2
    NORM = 3
    NORM_AGAIN = 4
    NORM_BACKWARD = 5
    GELU = 6
    GELU_BACKWARD = 7
    TANH = 8
    TANH_BACKWARD = 9
    SOFTMAX = 10
    SOFTMAX_BACKWARD = 11
    CROSS_ENTROPY = 12
    JOINT_LOSS = 13
    UPDATE = 14
    TAP = 15
    CLEAR = 16


# Of an instruction, those that are absent included.
OPERANDS = 8

ENGINE = (Op.TO_WIDE, Op.TO_NARROW, Op.TO_TILE)
TRACE_ONLY = (Op.TAP, Op.CLEAR)

# The operands that an operation writes, by number as in its unit's header.
RESULTS: Mapping[Op, tuple[int, ...]] = {
    Op.TO_WIDE: (1, 5),
    Op.TO_NARROW: (0, 5),
    Op.TO_TILE: (2, 5),
    Op.NORM: (1, 2, 4),
    Op.NORM_AGAIN: (2,),
    Op.NORM_BACKWARD: (2, 5, 6, 7),
    Op.GELU: (2,),
    Op.GELU_BACKWARD: (2,),
    Op.TANH: (2,),
    Op.TANH_BACKWARD: (2,),
    Op.SOFTMAX: (2,),
    Op.SOFTMAX_BACKWARD: (2,),
    Op.CROSS_ENTROPY: (2, 3),
    Op.JOINT_LOSS: (2,),
    Op.UPDATE: (0,),
}


class Flag(IntFlag):
    """Flags, each of its operation, as in the unit's header."""

    TRANSPOSED = 1  # engine: the tiled matrix lies as (cols, rows)
    APART = 2  # engine: tiles move between the streams
    BATCH_ALONE = 4  # engine, sums in tiles: only tiles of one batch take turns
    TRAINS = 1  # norm, backward: the gradients of scale and shift are wanted
    SLOT_LABELS = 1  # cross-entropy: of the words' slots, not of the intent


@dataclass(frozen=True)
class Operand:
    """Element (batch, row, col) lies at ``base + batch * ... + row * ... + col`` of array ``array``.

    ``digit``: ``batch`` counts by that digit of the batch's token instead of by its number.
    """

    array: str
    base: int = 0
    row: int = 0
    batch: int = 0
    digit: int = NONE

    def at(self, elements: int) -> Operand:
        """The same, ``elements`` further on."""
        return Operand(self.array, self.base + elements, self.row, self.batch, self.digit)


class Extents(NamedTuple):
    """Extents of an instruction for one sentence."""

    rows: int
    cols: int
    stream: int
    batches: int


@dataclass(frozen=True)
class Instruction:
    """One instruction; extents may be LENGTH.

    stage: (phase, name) as in fpga_bridge.memory.timeline. order: batches are tokens in order of that digit;
    what those of one digit result in is one sum. waits: by unit, the instruction of that unit that must have
    finished before this one begins (``schedule``). operands: by number, as the unit's header names them; None
    where absent.
    """

    op: Op
    stage: tuple[str, str]
    operands: tuple[Operand | None, ...]
    rows: int = 1
    cols: int = 1
    stream: int = 1
    batches: int = 1
    flags: int = 0
    order: int = NONE
    trace: int = 0
    scale: float = 1.0
    interval: int = 1
    load: int = 1
    load_interval: int = 1
    waits: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """What it does and where, such as "TO_WIDE of backward block0.q"."""
        return f"{self.op.name} of {' '.join(self.stage)}"

    def extents(self, length: int) -> Extents:
        """The extents for a sentence of that length."""
        stated = (self.rows, self.cols, self.stream, self.batches)
        return Extents(*(length if n == LENGTH else n for n in stated))


@dataclass
class Builder:
    """Collects the instructions of a program, stage by stage."""

    memory: MemoryMap
    instructions: list[Instruction] = field(default_factory=list)
    stage: tuple[str, str] = ("", "")

    def emit(self, op: Op, *operands: Operand | None, **fields: int | float) -> None:
        """Appends an instruction of the current stage."""
        self.instructions.append(Instruction(op, self.stage, operands, **fields))  # type: ignore[arg-type]

    def place(self, name: str, index: int = 0, of_pass: int = 0, row: int = 0) -> Operand:
        """A temporary array of the memory map, rows ``row`` elements apart."""
        return Operand(*self.memory.place(name, index, of_pass), row)

    def parameter(self, name: str) -> Operand:
        """A parameter in its bank, rows a pitch apart."""
        p = self.memory.layout.placement(name)
        return Operand(self.memory.layout.banks[p.bank].name, p.start, p.pitch)

    def gradient(self, name: str) -> Operand:
        """The place of a parameter's gradient, laid out as the parameter."""
        p = self.memory.layout.placement(name)
        array, base = self.memory.gradient_home(p)
        # A position's is that of its embedding, whose rows have no padding.
        in_place = array == "activation" and name == "embed.position"
        return Operand(array, base, p.row if in_place else p.pitch)


@dataclass(frozen=True)
class Program:
    """Instructions of a step; those before ``forward`` are the forward pass, which INFER runs too."""

    instructions: tuple[Instruction, ...]
    forward: int
