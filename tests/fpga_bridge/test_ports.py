"""Intervals against the addresses of all trips: every memory's ports give each trip what it touches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from fpga_bridge.memory.banks import PORTS, SLOT_MEMORIES, shapes_by_array
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program import unit_ports
from fpga_bridge.program.accelerator import DEFAULT
from fpga_bridge.program.instructions import (
    ENGINE,
    LENGTH,
    NONE,
    RESULTS,
    TRACE_ONLY,
    Flag,
    Instruction,
    Op,
    Operand,
)
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.ports import Access, Ports
from fpga_bridge.program.schedule import span
from fpga_bridge.program.unit_ports import interval_needed
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY
from ttjax import ModelConfig, preset

CONFIGS = {"tiny": TINY, **OTHER_CONFIGS}
# Of a trip, by operand: the elements that it begins at in any trip, how many it touches there, and whether it
# writes them.
Touched = tuple[Operand, set[int], int, bool]

# Operands by number that a trip of each pass reads or writes, as the units' headers have them; twice what is
# read and written. ONE: of these a trip touches a row's one element.
PASSES: dict[Op, list[tuple[int, ...]]] = {
    Op.UPDATE: [(0, 0, 1)],
    Op.GELU: [(0, 2)],
    Op.GELU_BACKWARD: [(0, 1, 2)],
    Op.TANH: [(0, 2)],
    Op.TANH_BACKWARD: [(0, 1, 2)],
    Op.SOFTMAX: [(0,), (0, 2)],
    Op.SOFTMAX_BACKWARD: [(0, 1), (0, 1, 2)],
    Op.CROSS_ENTROPY: [(0,), (0, 2)],
    Op.JOINT_LOSS: [(0, 2)],
    Op.NORM: [(0, 6, 4), (0, 6, 3, 5, 1, 2)],
    Op.NORM_AGAIN: [(1, 3, 5, 2)],
    Op.NORM_BACKWARD: [(0, 1, 3, 4, 6, 7), (0, 1, 3, 2, 5)],
}
ONE = {Op.NORM: 4, Op.NORM_BACKWARD: 4}
LANES = {Op.UPDATE: 16, Op.TANH: 1, Op.NORM: 32, Op.NORM_AGAIN: 32, Op.NORM_BACKWARD: 32}  # else 16


@cache
def programs(name: str) -> list[tuple[ModelConfig, Ports, tuple[Instruction, ...]]]:
    """Of a config as it is, and with everything made again."""
    config = CONFIGS[name]
    again = config.replace(rederive=True, recompute=tuple(range(config.n_blocks)))
    return [
        (c, Ports(make_memory_map(c), DEFAULT), make_program(make_manifest(c)).instructions)
        for c in (config, again)
    ]


def begins(operand: Operand, batches: int, rows: int, along: int, step: int) -> set[int]:
    """The elements at which accesses begin: of each batch and row, every ``step`` elements of ``along``."""
    return {
        operand.base + batch * operand.batch + row * operand.row + first
        for batch in range(batches)
        for row in range(rows)
        for first in range(0, along, step)
    }


def most_cycles(touched: Iterable[Touched], ports: Ports) -> int:
    """Cycles that one trip takes at most in any memory, by the memories' own ports and these addresses."""
    shapes = shapes_by_array(ports.memory)
    worst: Counter[tuple[str, int, bool]] = Counter()
    for operand, at, count, writes in touched:
        array, shape = operand.array, shapes[operand.array]
        if shape.kind == "registers":
            continue
        if shape.kind == "lutram":
            # Each way has its port. Each lane has an address of its own: wherever a run begins, it asks as
            # often for the lane that it asks for most.
            lanes = Counter(n % (shape.width // 32) for n in range(count))
            worst[array, 0, writes] += max(lanes.values())
            continue
        word = ports.lanes(array)
        slot = ports.memory.slot_size[array] if array in SLOT_MEMORIES else shape.depth * word  # type: ignore[index]
        for number in {first // slot for first in at}:
            within = {first % word for first in at if first // slot == number}
            worst[array, number, False] += max((first + count - 1) // word + 1 for first in within)
    ports_of = {array: PORTS if shapes[array].write_ports == PORTS else 1 for array, _, _ in worst}
    return max((-(-cost // ports_of[array]) for (array, _, _), cost in worst.items()), default=1)


def extents(job: Instruction, config: ModelConfig) -> tuple[int, int, int, int]:
    """Rows, columns, stream and batches, at their longest."""
    sizes = (job.rows, job.cols, job.stream, job.batches)
    rows, cols, stream, batches = (config.seq_len if n == LENGTH else n for n in sizes)
    return rows, cols, stream, batches


def test_every_operation_of_the_other_units_has_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PASSES.keys() == set(Op) - {*ENGINE, *TRACE_ONLY}
    _, ports, jobs = programs("tiny")[0]
    gelu = next(job for job in jobs if job.op == Op.GELU)
    monkeypatch.delitem(unit_ports._NONLINEAR_PASSES, Op.GELU)
    with pytest.raises(AssertionError, match="an operation of no passes: GELU"):
        interval_needed(gelu, ports)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("op", PASSES)
def test_an_interval_gives_every_trip_its_words(name: str, op: Op) -> None:
    lanes = LANES.get(op, 16)
    for config, ports, jobs in programs(name):
        for job in jobs:
            if job.op != op:
                continue
            _, cols, rows, batches = extents(job, config)
            operands = (*job.operands, *[None] * 8)
            for numbers in PASSES[op]:
                touched: list[Touched] = []
                for place, number in enumerate(numbers):
                    operand = operands[number]
                    # What an update writes it has read before.
                    writes = number in RESULTS[op] and (op != Op.UPDATE or place > 0)
                    if operand is not None and number == ONE.get(op):
                        touched.append((operand, {operand.base + row for row in range(rows)}, 1, writes))
                    elif operand is not None:
                        at = begins(operand, batches, rows, cols, lanes)
                        touched.append((operand, at, min(lanes, cols), writes))
                assert job.interval >= most_cycles(touched, ports)
            assert job.interval == interval_needed(job, ports)


def contractions(name: str, op: Op) -> Iterator[tuple[Instruction, Ports, ModelConfig]]:
    for config, ports, jobs in programs(name):
        yield from ((job, ports, config) for job in jobs if job.op == op)


def batches_of(operand: Operand, batches: int, config: ModelConfig) -> int:
    """Of what lies by a digit of the tokens, as many as the digit has values."""
    return batches if operand.digit == NONE else config.vocab_modes[operand.digit]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("op", ENGINE)
def test_a_stream_s_interval_gives_every_trip_its_words(name: str, op: Op) -> None:
    """Of the narrow and the wide operand, one of them the result, and of what is added to that."""
    for job, ports, config in contractions(name, op):
        rows, cols, stream, batches = extents(job, config)
        narrow, wide, _, addend, bias, _ = (*job.operands, *[None] * 3)[:6]
        along_rows, along_cols = (rows, DEFAULT.tile_rows), (cols, DEFAULT.tile_lanes)
        result = along_cols if op == Op.TO_WIDE else along_rows
        touched: list[Touched] = []
        streamed = ((0, narrow, along_rows), (1, wide, along_cols), (3, addend, result))
        for number, operand, (along, size) in streamed:
            if operand is not None:
                at = begins(operand, batches_of(operand, batches, config), stream, along, size)
                touched.append((operand, at, min(along, size), number in RESULTS[op]))
        if bias is not None:
            touched.append((bias, begins(bias, 1, 1, *result), min(result), False))
        assert job.interval >= most_cycles(touched, ports)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("op", ENGINE)
def test_a_load_interval_gives_every_part_of_a_tile_its_words(name: str, op: Op) -> None:
    """Read or written; both, where tokens of one digit add to what is there."""
    a = DEFAULT
    for job, ports, config in contractions(name, op):
        rows, cols, _, batches = extents(job, config)
        tile, columns = job.operands[2], (*job.operands, *[None] * 3)[5]
        assert tile is not None
        ways = (True, False) if op == Op.TO_TILE and job.order != NONE else (op == Op.TO_TILE,)
        many = batches_of(tile, batches, config)
        if not job.flags & Flag.TRANSPOSED:
            at, count, runs = begins(tile, many, rows, cols, a.tile_lanes), min(cols, a.tile_lanes), 1
        elif tile.row == rows <= a.tile_rows:
            # Whole columns that are neighbours lie in one run.
            run = a.tile_lanes // a.tile_rows
            firsts = range(0, cols, run)
            at = {tile.base + b * tile.batch + first * rows for b in range(many) for first in firsts}
            count, runs = min(run, cols) * rows, 1
        else:
            at, count = begins(tile, many, cols, rows, a.tile_rows), min(rows, a.tile_rows)
            runs = a.tile_lanes // a.tile_rows
        part: list[Touched] = [(tile, at, count, writes) for writes in ways for _ in range(runs)]
        assert job.load_interval >= most_cycles(part, ports)
        if columns is not None:
            at = begins(columns, 1, 1, cols, a.tile_lanes)
            assert job.load_interval >= most_cycles([(columns, at, min(cols, a.tile_lanes), True)], ports)


ENC2 = Ports(make_memory_map(preset("enc2")), DEFAULT)
ONE_ROW = Instruction(Op.TO_WIDE, ("", ""), (None, None, None))


@pytest.mark.parametrize(
    ("array", "writes", "begin", "size", "cycles"),
    [
        # Two ports of one word of 16 elements, whichever way: three words, or two times two, are too much.
        ("left", (False,), 0, 32, 1),
        ("left", (False,), 8, 32, 2),
        ("left", (False, True), 0, 16, 1),
        ("left", (False, False), 8, 16, 2),
        # One that writes and one that reads, 32 lanes each, wherever a run of them begins.
        ("d_bond", (False, True), 24, 12, 1),
        ("d_bond", (False, True), 8, 32, 1),
        ("d_bond", (False, False), 0, 1, 2),
        ("d_bond", (True, True, False), 0, 1, 2),
        ("intent_logits", (True, True, False), 0, 16, 1),
    ],
)
def test_a_memory_serves_what_its_ports_can(
    array: str, writes: tuple[bool, ...], begin: int, size: int, cycles: int
) -> None:
    accesses = [Access(Operand(array, begin), way, size, ()) for way in writes]
    assert ENC2.cycles(ONE_ROW, accesses) == cycles
    kinds = {"left": "uram", "d_bond": "lutram", "intent_logits": "registers"}
    assert kinds[array] == shapes_by_array(ENC2.memory)[array].kind


def sums_into(tile: Operand, wide: Operand, columns: Operand | None, batches: int = 1) -> Instruction:
    """Sums of a tile of 12 rows and 32 columns, timed."""
    operands = (Operand("attention"), wide, tile, None, None, columns)
    job = Instruction(Op.TO_TILE, ("", ""), operands, rows=12, cols=32, stream=4, batches=batches)
    return ENC2.timed(job)


def test_a_bias_s_gradient_that_begins_within_a_word_takes_a_part_longer() -> None:
    tile, wide = Operand("left", row=32), Operand("activation")
    assert [
        sums_into(tile, wide, columns).load_interval
        for columns in (None, Operand("right", 16), Operand("right", 8))
    ] == [1, 1, 2]


def test_tiles_move_apart_from_a_stream_in_any_memory_that_their_batches_reach() -> None:
    slot = ENC2.memory.slot_size["activation"]
    tile = Operand("activation", 0, row=32, batch=slot)
    assert [
        bool(sums_into(tile, Operand("activation", where * slot), None, batches=2).flags & Flag.APART)
        for where in range(3)
    ] == [True, True, False]


def test_what_a_narrow_result_adds_to_is_as_narrow() -> None:
    addend = Operand("activation", 64, row=12)
    operands = (Operand("left"), Operand("right"), Operand("bond"), addend)
    job = Instruction(Op.TO_NARROW, ("", ""), operands, rows=12, cols=32, stream=4)
    assert span(addend, job, ENC2.memory) == 3 * 12 + 12
