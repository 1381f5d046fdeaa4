"""The contraction engine by itself against float64: every mode, extent, layout and extra on a small tile.

The trips that its loop takes are those that the model of ports predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import LENGTH, NONE, Flag, Instruction, Op, Operand
from fpga_bridge.program.ports import Ports
from tests.hls.units import (
    MODE,
    SIZES,
    SLOT,
    SUM_DISTANCE,
    TILE_LANES,
    TILE_ROWS,
    TOKENS,
    Sentence,
    Units,
    assert_close,
    random_sentence,
)

# What the model of ports asks of a memory map; words of 12 lanes beside those of 16.
MEMORY = SimpleNamespace(
    config=SimpleNamespace(seq_len=TOKENS, immediate=True, vocab_modes=(MODE, MODE)),
    slot_size={"activation": SLOT},
    slots={"activation": SIZES["activation"] // SLOT},
    fixed=[SimpleNamespace(name=name, size=SIZES[name]) for name in ("weights", "extra")],
    layout=SimpleNamespace(banks=[SimpleNamespace(name="cores", lanes=12, words=SIZES["cores"] // 12)]),
)
ACCELERATOR = Accelerator(tile_rows=TILE_ROWS, tile_lanes=TILE_LANES, sum_distance=SUM_DISTANCE)
PORTS = Ports(cast(Any, MEMORY), ACCELERATOR)
ARRAYS = ("activation", "weights", "cores", "extra")


@dataclass(frozen=True)
class Case:
    """A contraction: extents (LENGTH: ``length``), where its operands lie, what else it does.

    digits: those of the token that pick narrow, wide and tile. order: the one that orders the tokens. alone:
    only tiles of one batch take turns.
    """

    op: Op
    rows: int
    cols: int
    stream: int
    batches: int
    length: int
    arrays: tuple[str, ...] = ("activation", "activation", "weights")
    by_columns: bool = False
    scale: float = 1.0
    addend: bool = False
    bias: bool = False
    column_sums: bool = False
    digits: tuple[int, ...] = (NONE, NONE, NONE)
    order: int = NONE
    alone: bool = False
    seed: int = 0

    @property
    def result(self) -> int:
        """Number of the operand that is written."""
        return {Op.TO_WIDE: 1, Op.TO_NARROW: 0, Op.TO_TILE: 2}[self.op]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    op = draw(st.sampled_from([Op.TO_WIDE, Op.TO_NARROW, Op.TO_TILE]))

    def extent(most: int) -> int:
        return draw(st.one_of(st.integers(1, most), st.just(LENGTH)))

    streamed, batches = op != Op.TO_TILE, draw(st.sampled_from([1, 1, 2, 3, LENGTH]))
    order, digits = NONE, [NONE, NONE, NONE]
    if batches == LENGTH:
        order = draw(st.sampled_from([NONE, 0, 1]))
        digits = [draw(st.sampled_from([NONE, 0, 1])) for _ in range(3)]
        # Without order a token's result would be overwritten by another's.
        digits[{Op.TO_WIDE: 1, Op.TO_NARROW: 0, Op.TO_TILE: 2}[op]] = order
    return Case(
        op,
        rows=extent(2 * TILE_ROWS + 1),
        cols=extent(2 * TILE_LANES + 3),
        stream=extent(TOKENS),
        batches=batches,
        length=draw(st.integers(2, TOKENS)),
        arrays=tuple(draw(st.sampled_from(ARRAYS)) for _ in range(3)),  # type: ignore[arg-type]
        by_columns=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 0.375])),
        addend=streamed and order == NONE and draw(st.booleans()),
        bias=streamed and order == NONE and draw(st.booleans()),
        column_sums=not streamed and batches == 1 and draw(st.booleans()),
        digits=tuple(digits),  # type: ignore[arg-type]
        order=order,
        alone=not streamed and order == NONE and draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def check(units: Units, case: Case) -> None:
    """Runs the contraction once; its result, its trips and what it leaves alone are as they must be."""
    rng = np.random.default_rng(case.seed)
    sentence = random_sentence(case.length, rng)
    given = (case.rows, case.cols, case.stream, case.batches)
    rows, cols, stream, batches = (case.length if n == LENGTH else n for n in given)
    shapes = [(stream, rows), (stream, cols), (rows, cols)]
    units.clear()

    # Operands, and what the batches take of them.
    operands: list[Operand | None] = []
    values: list[np.ndarray] = []
    for n, shape in enumerate(shapes):
        number = batches if case.digits[n] == NONE else MODE
        value = rng.standard_normal((number, *shape)).astype(np.float32)
        laid_out = value.transpose(0, 2, 1) if n == 2 and case.by_columns else value
        laid_out = np.full_like(laid_out, np.nan) if n == case.result else laid_out
        # Columns that are neighbours move together.
        pitch = laid_out.shape[2] if n == 2 and case.by_columns and rng.integers(2) else 0
        operands.append(units.put(laid_out, case.arrays[n], rng, digit=case.digits[n], pitch=pitch))
        numbers = range(batches) if case.digits[n] == NONE else sentence.digits[case.digits[n]]
        values.append(value[numbers].astype(np.float64))
    result = operands[case.result]
    assert result is not None

    extra, extras = put_extras(units, case, rng, shapes[case.result], batches, cols)
    job = PORTS.timed(
        Instruction(
            case.op,
            ("", ""),
            (*operands, *extra),
            *given,
            flags=Flag.TRANSPOSED * case.by_columns | Flag.BATCH_ALONE * case.alone,
            order=case.order,
            scale=case.scale,
        )
    )
    expected, size = contraction(case, values)
    for value in extras:
        expected, size = expected + value, size + np.abs(value)
    if case.order != NONE:
        expected, size = (sums(a, sentence.digits[case.order]) for a in (expected, size))

    shape = expected.shape
    stored = (shape[0], shape[2], shape[1]) if case.by_columns and case.result == 2 else shape
    written = [(result, stored)]
    columns = extra[2]
    if columns is not None:
        written.append((columns, (1, 1, cols)))
    trips = units.run(job, sentence, written)
    assert trips == PORTS.trips(job, case.length)

    found = units.view(result, stored)
    found = found.transpose(0, 2, 1) if stored != shape or (case.by_columns and case.result == 2) else found
    picked = slice(None) if case.order == NONE else np.unique(sentence.digits[case.order])
    assert_close(found[picked], expected[picked], size[picked])
    if case.order != NONE:
        untouched = np.setdiff1d(np.arange(MODE), sentence.digits[case.order])
        assert np.all(np.isnan(found[untouched]))
    if columns is not None:
        wide = values[1].sum(axis=(0, 1))
        assert_close(units.view(columns, (1, 1, cols))[0, 0], wide, np.abs(values[1]).sum(axis=(0, 1)))


def put_extras(
    units: Units, case: Case, rng: np.random.Generator, shape: tuple[int, int], batches: int, cols: int
) -> tuple[list[Operand | None], list[np.ndarray]]:
    """Addend, bias and column sums as operands; and what they add to the result."""
    extra: list[Operand | None] = [None, None, None]
    values: list[np.ndarray] = []
    for n, (is_there, of_shape) in enumerate(
        [(case.addend, (batches, *shape)), (case.bias, (1, 1, shape[1])), (case.column_sums, (1, 1, cols))]
    ):
        if is_there:
            value = rng.standard_normal(of_shape).astype(np.float32)
            extra[n] = units.put(value, ARRAYS[rng.integers(len(ARRAYS))], rng)
            if n < 2:
                values.append(value.astype(np.float64))
    return extra, values


def contraction(case: Case, values: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The result (batch, row, col) and the sizes of what is summed in it."""
    formula = {Op.TO_WIDE: "bsr,brc->bsc", Op.TO_NARROW: "bsc,brc->bsr", Op.TO_TILE: "bsr,bsc->brc"}[case.op]
    a, b = (value for n, value in enumerate(values) if n != case.result)
    scaled = case.scale * np.einsum(formula, a, b)
    return scaled, abs(case.scale) * np.einsum(formula, np.abs(a), np.abs(b))


def sums(of_tokens: np.ndarray, digits: np.ndarray) -> np.ndarray:
    """The sums over the tokens of each digit (MODE, ...)."""
    total = np.zeros((MODE, *of_tokens.shape[1:]))
    np.add.at(total, digits, of_tokens)
    return total


@settings(max_examples=400)
@given(cases())
def test_any_contraction_is_that_of_float64_in_the_predicted_trips(units: Units, case: Case) -> None:
    check(units, case)


LARGE: dict[str, Any] = {"rows": 2 * TILE_ROWS + 1, "cols": 2 * TILE_LANES + 3, "length": TOKENS}


@pytest.mark.parametrize("op", [Op.TO_WIDE, Op.TO_NARROW, Op.TO_TILE])
@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("stream", [1, 2, TOKENS])
def test_several_ragged_tiles_each_way(units: Units, op: Op, by_columns: bool, stream: int) -> None:
    check(units, Case(op, stream=stream, batches=2, by_columns=by_columns, **LARGE))


@pytest.mark.parametrize("op", [Op.TO_WIDE, Op.TO_NARROW, Op.TO_TILE])
def test_tokens_of_one_digit_are_one_sum(units: Units, op: Op) -> None:
    """Over tiles and tokens at once; with nine tokens and five digits some come twice."""
    for seed in range(4):
        digits = tuple(0 if n == Case(op, 1, 1, 1, 1, 2).result else 1 for n in range(3))
        check(units, Case(op, stream=3, batches=LENGTH, order=0, digits=digits, seed=seed, **LARGE))


def test_operands_in_one_memory_cost_trips_and_change_nothing(units: Units) -> None:
    """The tile moves between the streams, and a trip takes as long as its memory's ports need."""
    apart = Case(Op.TO_WIDE, stream=5, batches=1, arrays=("cores", "extra", "weights"), **LARGE)
    check(units, apart)
    check(units, Case(Op.TO_WIDE, stream=5, batches=1, arrays=("weights",) * 3, **LARGE))


@pytest.mark.parametrize("op", [Op.TO_WIDE, Op.TO_NARROW])
def test_bias_and_addend_are_added_to_each_other_first(units: Units, op: Op) -> None:
    """Where they cancel, no digit of the product is lost."""
    units.clear()
    rng = np.random.default_rng(0)
    stream, rows, cols = 5, TILE_ROWS + 1, TILE_LANES + 3
    summed, kept = (rows, cols) if op == Op.TO_WIDE else (cols, rows)
    shape, large = (1, stream, kept), rng.uniform(1e6, 1e7, (1, 1, kept)).astype(np.float32)
    given = units.put(rng.standard_normal((1, stream, summed)).astype(np.float32), "activation", rng)
    tile = units.put(rng.standard_normal((1, rows, cols)).astype(np.float32), "weights", rng)
    addend = units.put(np.repeat(-large, stream, axis=1), "activation", rng)
    bias = units.put(large, "weights", rng)
    found = []
    for extra in ((None, None), (addend, bias)):
        result = units.put(np.full(shape, np.nan, np.float32), "activation", rng)
        both = (given, result) if op == Op.TO_WIDE else (result, given)
        job = Instruction(op, ("", ""), (*both, tile, *extra), rows=rows, cols=cols, stream=stream)
        units.run(PORTS.timed(job), random_sentence(stream, rng), [(result, shape)])
        found.append(units.view(result, shape).tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("cols", [3, TILE_LANES + 1])
def test_a_batch_alone_is_summed_as_by_itself(units: Units, cols: int) -> None:
    """To the last bit, however many partial sums its few tiles have."""
    units.clear()
    rng = np.random.default_rng(0)
    batches, rows, stream = 3, TILE_ROWS + 1, TOKENS
    narrow, wide = (
        units.put(rng.standard_normal((batches, stream, n)).astype(np.float32), "activation", rng)
        for n in (rows, cols)
    )
    sentence, shape = random_sentence(2, rng), (batches, rows, cols)

    def summed(flags: int, at_once: int) -> bytes:
        tile = units.put(np.full(shape, np.nan, np.float32), "weights", rng)
        for first in range(0, batches, at_once):
            here = tuple(o.at(first * o.batch) for o in (narrow, wide, tile))
            job = Instruction(Op.TO_TILE, ("", ""), here, rows, cols, stream, at_once, flags)
            part = (at_once, rows, cols)
            units.run(PORTS.timed(job), sentence, [(here[2], part)])
        return units.view(tile, shape).tobytes()

    by_itself = summed(0, 1)
    assert summed(int(Flag.BATCH_ALONE), batches) == by_itself
    # Not for lack of something that could differ.
    assert summed(0, batches) != by_itself


def test_no_batches_take_no_trips(units: Units) -> None:
    units.clear()
    rng = np.random.default_rng(0)
    operands = tuple(units.put(np.ones((1, 3, 3), np.float32), "extra", rng) for _ in range(3))
    job = PORTS.timed(Instruction(Op.TO_WIDE, ("", ""), operands, rows=3, cols=3, stream=3, batches=0))
    sentence = Sentence(2, np.zeros((2, 2), int), np.zeros(2, int))
    assert units.run(job, sentence, []) == PORTS.trips(job, 2) == 0
