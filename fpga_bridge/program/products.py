"""A matrix product and its two derivatives as contractions of the engine.

C = A B has three uses: C from A and B, dA = dC B^T, and dB = A^T dC. Either of A and C can be the engine's
narrow operand, whichever takes fewer cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fpga_bridge.program.instructions import NONE, Builder, Flag, Instruction, Op, Operand
from fpga_bridge.program.ports import Ports

# Of a sentence, as a part of the longest: 12 of 32 positions, ATIS's mean. What is best for long sentences
# and what is best for short ones may differ.
TYPICAL_LENGTH = 12 / 32

Use = Literal["product", "left", "right"]


@dataclass(frozen=True)
class Product:
    """C (stream, cols) = scale A (stream, inner) B (inner, cols), for each of ``batches``.

    by_columns: B lies in memory as (cols, inner). Extents may be LENGTH.
    """

    stream: int
    inner: int
    cols: int
    batches: int = 1
    by_columns: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Contractor:
    """Emits products into a program, on an engine that sees the memories through ``ports``."""

    builder: Builder
    ports: Ports

    def product(
        self,
        shape: Product,
        a: Operand,
        b: Operand,
        c: Operand,
        *,
        addend: Operand | None = None,
        bias: Operand | None = None,
    ) -> None:
        """Emits C = A B + bias + addend; the addend lies as C, the bias along C's columns."""
        self._emit("product", shape, a, b, c, (addend, bias, None))

    def left(
        self,
        shape: Product,
        da: Operand,
        b: Operand,
        dc: Operand,
        *,
        addend: Operand | None = None,
        order: int = NONE,
    ) -> None:
        """Emits dA = dC B^T + addend; ``order``: a digit, over whose tokens dA is summed."""
        self._emit("left", shape, da, b, dc, (addend, None, None), order)

    def right(
        self,
        shape: Product,
        a: Operand,
        db: Operand,
        dc: Operand,
        *,
        column_sums: Operand | None = None,
        order: int = NONE,
        alone: bool = False,
    ) -> None:
        """Emits dB = A^T dC, and the sums of dC's columns, if wanted; ``order``: as in ``left``.

        alone: every batch is summed as if it were the only one, to the same bits.
        """
        flags = Flag.BATCH_ALONE if alone else 0
        self._emit("right", shape, a, db, dc, (None, None, column_sums), order, int(flags))

    def _emit(
        self,
        use: Use,
        shape: Product,
        a: Operand,
        b: Operand,
        c: Operand,
        extra: tuple[Operand | None, ...],
        order: int = NONE,
        flags: int = 0,
    ) -> None:
        candidates = []
        for a_is_narrow in (True, False):
            if (extra[2] is not None and not a_is_narrow) or (shape.scale != 1.0 and a_is_narrow):
                continue  # sums are of the wide operand's columns, the scale is the narrow one's: both of C
            op = (
                Op.TO_TILE
                if use == "right"
                else Op.TO_WIDE
                if a_is_narrow == (use == "product")
                else Op.TO_NARROW
            )
            job = Instruction(
                op,
                self.builder.stage,
                (a, c, b, *extra) if a_is_narrow else (c, a, b, *extra),
                rows=shape.inner if a_is_narrow else shape.cols,
                cols=shape.cols if a_is_narrow else shape.inner,
                stream=shape.stream,
                batches=shape.batches,
                flags=flags | (int(Flag.TRANSPOSED) if shape.by_columns == a_is_narrow else 0),
                order=order,
                scale=shape.scale,
            )
            candidates.append(self.ports.timed(job))
        longest = self.ports.memory.config.seq_len
        lengths = (max(2, round(TYPICAL_LENGTH * longest)), longest)

        def trips(job: Instruction) -> int:
            return sum(self.ports.trips(job, length) for length in lengths)

        self.builder.instructions.append(min(candidates, key=trips))


def batched(operand: Operand, batch: int, digit: int = NONE) -> Operand:
    """An operand whose batches lie ``batch`` apart; with a digit, those of the digit's values."""
    return replace(operand, batch=batch, digit=digit)
