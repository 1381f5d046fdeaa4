"""Intervals against the addresses of all trips: every memory's ports give each trip the words it touches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache

import pytest

from fpga_bridge.memory.banks import PORTS
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program import unit_ports
from fpga_bridge.program.accelerator import DEFAULT
from fpga_bridge.program.instructions import (
    ENGINE,
    LENGTH,
    NONE,
    TRACE_ONLY,
    Flag,
    Instruction,
    Op,
    Operand,
)
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.ports import Ports
from fpga_bridge.program.unit_ports import interval_needed
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY
from ttjax import ModelConfig

CONFIGS = {"tiny": TINY, **OTHER_CONFIGS}
# Of a trip, by operand: the elements that it begins at in any trip, and how many it touches there.
Touched = tuple[Operand, set[int], int]

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


def most_words(touched: Iterable[Touched], ports: Ports) -> Counter[tuple[str, int]]:
    """The most words that one trip touches in each memory."""
    worst: Counter[tuple[str, int]] = Counter()
    for operand, at, count in touched:
        word = ports.lanes(operand.array)
        worst[ports.memory_of(operand)] += max((first % word + count - 1) // word + 1 for first in at)
    return worst


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
                for number in numbers:
                    operand = operands[number]
                    if operand is not None and number == ONE.get(op):
                        touched.append((operand, {operand.base + row for row in range(rows)}, 1))
                    elif operand is not None:
                        at = begins(operand, batches, rows, cols, lanes)
                        touched.append((operand, at, min(lanes, cols)))
                assert PORTS * job.interval >= max(most_words(touched, ports).values())
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
        for operand, (along, size) in ((narrow, along_rows), (wide, along_cols), (addend, result)):
            if operand is not None:
                at = begins(operand, batches_of(operand, batches, config), stream, along, size)
                touched.append((operand, at, min(along, size)))
        if bias is not None:
            touched.append((bias, begins(bias, 1, 1, *result), min(result)))
        assert PORTS * job.interval >= max(most_words(touched, ports).values())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("op", ENGINE)
def test_a_load_interval_gives_every_part_of_a_tile_its_words(name: str, op: Op) -> None:
    """Read or written; both, where tokens of one digit add to what is there."""
    a = DEFAULT
    for job, ports, config in contractions(name, op):
        rows, cols, _, batches = extents(job, config)
        tile = job.operands[2]
        assert tile is not None
        times = 2 if op == Op.TO_TILE and job.order != NONE else 1
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
        words = max(most_words([(tile, at, count)], ports).values())
        assert PORTS * job.load_interval >= times * runs * words
