"""Whether every memory can serve every unit: words that a trip touches against two ports a cycle.

A unit starts a trip each interval: the reads of one trip and the writes of an earlier one meet, so
that all accesses of a pass count together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from fpga_bridge.memory.banks import PORTS
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import (
    ENGINE,
    TRACE_ONLY,
    Flag,
    Instruction,
    Op,
    Operand,
    Program,
)
from fpga_bridge.program.ports import Ports
from ttjax import UserError


class Access(NamedTuple):
    """A read or a write of a trip: at most ``size`` elements of a row, ``step`` further in the next trip."""

    operand: Operand
    size: int
    step: int


# Operands by number that the passes of each operation of the nonlinear unit touch, as in hls/nonlinear.hpp.
_X, _DY, _OUT, _LOSS = range(4)
_NONLINEAR_PASSES: dict[Op, tuple[tuple[int, ...], ...]] = {
    Op.GELU: ((_X, _OUT),),
    Op.GELU_BACKWARD: ((_X, _DY, _OUT),),
    Op.TANH: ((_X, _OUT),),
    Op.TANH_BACKWARD: ((_X, _DY, _OUT),),
    Op.SOFTMAX: ((_X,), (_X, _OUT)),
    Op.SOFTMAX_BACKWARD: ((_X, _DY), (_X, _DY, _OUT)),
    Op.CROSS_ENTROPY: ((_X,), (_X, _OUT)),
    Op.JOINT_LOSS: ((_X, _OUT),),
}


def check_ports(program: Program, memory: MemoryMap, accelerator: Accelerator) -> None:
    """Refuses a program with an instruction whose interval its memories can't serve.

    Raises:
        UserError: names the first such instruction by number, operation and stage.
    """
    ports = Ports(memory, accelerator)
    for number, job in enumerate(program.instructions):
        for what, needed, given in _needs(job, ports):
            if given < needed:
                raise UserError(
                    f"instruction {number}, {job.op.name} of {' '.join(job.stage)}: expected {what} of at"
                    f" least {needed} cycles, which the ports of its memories need, found {given}; change the"
                    " accelerator's lanes or tile"
                )


def serve_ports(program: Program, memory: MemoryMap, accelerator: Accelerator) -> Program:
    """The program with intervals that the memories can serve: stretched where they are too small."""
    ports = Ports(memory, accelerator)

    def served(job: Instruction) -> Instruction:
        if job.op in (*ENGINE, *TRACE_ONLY):
            return job
        return replace(job, interval=max(job.interval, interval_needed(job, ports)))

    return replace(program, instructions=tuple(served(job) for job in program.instructions))


def _needs(job: Instruction, ports: Ports) -> Iterator[tuple[str, int, int]]:
    if job.op in TRACE_ONLY:
        return
    if job.op in ENGINE:
        needs = ports.timed(job)
        yield "an interval", needs.interval, job.interval
        yield "a load interval", needs.load_interval, job.load_interval
        yield "parts of a tile", needs.load, job.load
    else:
        yield "an interval", interval_needed(job, ports), job.interval


def interval_needed(job: Instruction, ports: Ports) -> int:
    """Cycles between the trips of a norm, nonlinear or update instruction that its memories can serve."""
    most = 1
    for accesses in _passes(job, ports):
        words: dict[tuple[str, int], int] = {}
        for operand, size, step in accesses:
            key = ports.memory_of(operand)
            # Where there is one row, or one batch, their distance doesn't matter.
            one_batch = replace(operand, batch=operand.batch if job.batches != 1 else 0)
            row = operand.row if job.stream != 1 else 0
            words[key] = words.get(key, 0) + ports.words(one_batch, size, row, step)
        most = max(most, *words.values())
    return -(-most // PORTS)


def _passes(job: Instruction, ports: Ports) -> Iterator[list[Access]]:
    """Accesses of one trip of each pass."""
    a, cols = ports.accelerator, job.extents(ports.memory.config.seq_len).cols

    def several(lanes: int, *operands: Operand | None) -> list[Access]:
        return [Access(o, min(lanes, cols), lanes) for o in operands if o is not None]

    if job.op == Op.UPDATE:
        parameter, gradient = job.operands
        yield several(a.update_lanes, parameter, parameter, gradient)  # read and written
        return
    if job.op in _NONLINEAR_PASSES:
        lanes = 1 if job.op == Op.TANH else a.nonlinear_lanes
        for numbers in _NONLINEAR_PASSES[job.op]:
            yield several(lanes, *(job.operands[n] for n in numbers))
        return
    operands = (*job.operands, *[None] * 8)
    given, unit, out, scale, inverse = operands[:5]
    lanes = a.norm_lanes
    one = [] if inverse is None else [Access(inverse, 1, 1)]
    if job.op == Op.NORM:
        shift, residual = operands[5:7]
        yield several(lanes, given, residual) + one  # the moments; the shift reads no more
        yield several(lanes, given, residual, scale, shift, unit, out)
    elif job.op == Op.NORM_AGAIN:
        yield several(lanes, unit, scale, operands[5], out)
    elif job.op == Op.NORM_BACKWARD:
        copy, d_scale, d_shift = operands[5:8]
        trained = (d_scale, d_shift) if job.flags & Flag.TRAINS else ()
        yield several(lanes, given, unit, scale, *trained) + one
        yield several(lanes, given, unit, scale, out, copy)
    else:
        raise AssertionError(f"an operation of no passes: {job.op.name}")
