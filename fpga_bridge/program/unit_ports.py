"""Whether every memory can serve every unit: what a trip touches against the ports of its memories.

A unit starts a trip each interval: the reads of one trip and the writes of an earlier one meet, so
that all accesses of a pass count together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import (
    ENGINE,
    OPERANDS,
    RESULTS,
    TRACE_ONLY,
    Flag,
    Instruction,
    Op,
    Program,
)
from fpga_bridge.program.ports import Access, Ports
from ttjax import UserError

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


# Likewise of the update and, as in hls/norm.hpp, of the norm unit: forward, and where backward differs.
_PARAMETER, _GRADIENT = range(2)
_GIVEN, _UNIT, _NORMED, _SCALE, _INVERSE, _SHIFT, _RESIDUAL = range(7)
_COPY, _D_SCALE, _D_SHIFT = range(5, 8)


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
    return max(ports.cycles(job, accesses) for accesses in _passes(job, ports))


def _passes(job: Instruction, ports: Ports) -> Iterator[list[Access]]:
    """Accesses of one trip of each pass."""
    a, cols = ports.accelerator, job.extents(ports.memory.config.seq_len).cols
    operands = (*job.operands, *[None] * OPERANDS)

    def several(lanes: int, *numbers: int, along: int = cols) -> list[Access]:
        return [
            # Where there is one row, or one batch, their distance doesn't matter.
            Access(
                replace(operand, batch=operand.batch if job.batches != 1 else 0),
                number in RESULTS[job.op],
                min(lanes, along),
                (operand.row if job.stream != 1 else 0, lanes),
            )
            for number in numbers
            if (operand := operands[number]) is not None
        ]

    if job.op == Op.UPDATE:
        (parameter,) = several(a.update_lanes, _PARAMETER)
        yield [parameter, parameter._replace(writes=False), *several(a.update_lanes, _GRADIENT)]
    elif job.op in _NONLINEAR_PASSES:
        lanes = 1 if job.op == Op.TANH else a.nonlinear_lanes
        for numbers in _NONLINEAR_PASSES[job.op]:
            yield several(lanes, *numbers)
    elif job.op == Op.NORM:
        # The moments; the shift that is subtracted reads no more.
        yield several(a.norm_lanes, _GIVEN, _RESIDUAL) + several(1, _INVERSE, along=1)
        yield several(a.norm_lanes, _GIVEN, _RESIDUAL, _SCALE, _SHIFT, _UNIT, _NORMED)
    elif job.op == Op.NORM_AGAIN:
        yield several(a.norm_lanes, _UNIT, _SCALE, _SHIFT, _NORMED)
    elif job.op == Op.NORM_BACKWARD:
        trained = (_D_SCALE, _D_SHIFT) if job.flags & Flag.TRAINS else ()
        yield several(a.norm_lanes, _GIVEN, _UNIT, _SCALE, *trained) + several(1, _INVERSE, along=1)
        yield several(a.norm_lanes, _GIVEN, _UNIT, _SCALE, _NORMED, _COPY)
    else:
        raise AssertionError(f"an operation of no passes: {job.op.name}")
