"""Cycles of a training step from the trips of its instructions and the latencies of their operators.

An instruction takes ``trips - 1 + depth`` iterations of the kernel's one loop, and begins when its unit is
free and what it waits for has finished. An estimate for each clock class. Not counted: moving sentences and
losses between the card's memory and the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil

import numpy as np
from jaxtyping import Int64

from fpga_bridge.budget.buffers import program_memory
from fpga_bridge.cycles.trips import SentenceShape, Trips, unit_name
from fpga_bridge.kernel.operators import OPERATORS, depth, dsp, luts
from fpga_bridge.kernel.pipelines import Operators, Pipeline, pipelines
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BlockCount, total_blocks
from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.program.accelerator import DEFAULT, Accelerator, ClockClass
from fpga_bridge.program.instructions import ENGINE, Program
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.ports import Ports
from fpga_bridge.program.schedule import UNITS, finish
from fpga_bridge.program.unit_ports import check_ports
from ttjax import ModelConfig

# DSP blocks that the U50's shell leaves on each die.
SLR_DSP = (2592, 2760)
USABLE_DSP = sum(SLR_DSP)
# Iterations, at least, from one instruction of a unit to its next, as in hls/pipeline.hpp.
LEAST_DEPTH = len(UNITS) + 1


def interval(accelerator: Accelerator, clock_class: ClockClass) -> int:
    """Cycles between iterations of the loop.

    A sum is added to every ``sum_distance`` trips: where an addition takes longer, all units wait, since they
    are one loop.
    """
    return ceil(OPERATORS["add"].cycles[clock_class] / accelerator.sum_distance)


@dataclass(frozen=True)
class Timing:
    """The cycle in which each instruction of a step begins, and the first that finds its results stored."""

    units: list[str | None]
    begin: Int64[np.ndarray, " n"]
    end: Int64[np.ndarray, " n"]

    @property
    def cycles(self) -> int:
        """Of the step, from its first to its last result."""
        return int(self.end.max())

    @property
    def durations(self) -> list[int]:
        """Cycles of each instruction; none of what only the trace asks for."""
        return (self.end - self.begin).tolist()

    def busy(self, unit: str) -> int:
        """Cycles in which a unit works."""
        return sum(n for n, of in zip(self.durations, self.units, strict=True) if of == unit)

    @property
    def at_once(self) -> float:
        """The part of the cycles in which at least two units work."""
        change = np.zeros(self.cycles + 1, np.int64)
        np.add.at(change, self.begin, 1)
        np.add.at(change, self.end, -1)
        return float((change.cumsum()[:-1] >= 2).mean())


@dataclass(frozen=True)
class StepModel:
    """A config's training step on an accelerator, with what its cycles and its area follow from."""

    config: ModelConfig
    accelerator: Accelerator
    memory: MemoryMap
    program: Program
    pipelines: Mapping[str, Pipeline]

    @cached_property
    def units(self) -> list[str | None]:
        """The unit of each instruction; None for what only the trace asks for."""
        return [unit_name(job.op) for job in self.program.instructions]

    def trips(self, sentence: SentenceShape) -> list[int]:
        """Trips of each instruction."""
        count = Trips(self.memory, self.accelerator)
        return [count(job, sentence) for job in self.program.instructions]

    def timing(self, sentence: SentenceShape, clock_class: ClockClass) -> Timing:
        """When each instruction of a step works."""
        every = interval(self.accelerator, clock_class)
        deep = {
            unit: max(LEAST_DEPTH, ceil(depth(p.path, clock_class) / every))
            for unit, p in self.pipelines.items()
        }
        iterations = [
            0 if unit is None else max(n, 1) - 1 + deep[unit]
            for unit, n in zip(self.units, self.trips(sentence), strict=True)
        ]
        begin, end = finish(self.program.instructions, iterations)
        return Timing(self.units, every * begin, every * end)

    def step(self, sentence: SentenceShape, clock_class: ClockClass) -> int:
        """Cycles of one training step, from its first to its last result."""
        return self.timing(sentence, clock_class).cycles

    def mean_step(self, lengths: Mapping[int, int], clock_class: ClockClass) -> float:
        """Mean cycles of a step over sentences; ``lengths``: how many there are of each length."""
        cycles = {n: self.step(SentenceShape(n), clock_class) for n in lengths}
        return sum(cycles[n] * count for n, count in lengths.items()) / sum(lengths.values())

    def products(self, length: int) -> int:
        """Multiply-accumulates that the engine is asked for in a step."""
        ports = Ports(self.memory, self.accelerator)
        return sum(ports.products(job, length) for job in self.program.instructions if job.op in ENGINE)

    def utilisation(self, length: int, cycles: float) -> float:
        """Multiply-accumulates asked for over those that the engine could do in that many cycles."""
        return self.products(length) / (self.accelerator.macs * cycles)

    def dsp(self, clock_class: ClockClass) -> dict[str, int]:
        """DSP blocks of each unit."""
        return {unit: dsp(self.pipelines[unit].units, clock_class) for unit in UNITS}

    def luts(self) -> dict[str, int]:
        """LUTs of each unit's operators, an estimate."""
        return {unit: luts(self.pipelines[unit].units) for unit in UNITS}

    @property
    def blocks(self) -> BlockCount:
        """Memory blocks of all arrays and of the program; the units' buffers take none."""
        return total_blocks([*bank_shapes(self.memory), program_memory(len(self.program.instructions))])

    @property
    def operators(self) -> Operators:
        """Operators of all units."""
        total = Operators(0, 0, 0, 0, 0)
        for pipeline in self.pipelines.values():
            total += pipeline.units
        return total


def make_step_model(config: ModelConfig, accelerator: Accelerator = DEFAULT) -> StepModel:
    """The model of a config's step, from Python alone: nothing is compiled.

    Raises:
        UserError: an interval that the memories' ports can't serve; names the instruction.
    """
    manifest, memory = make_manifest(config), make_memory_map(config)
    program = make_program(manifest, accelerator)
    check_ports(program, memory, accelerator)
    return StepModel(config, accelerator, memory, program, pipelines(accelerator))


def fits_dies(by_unit: Mapping[str, int]) -> bool:
    """Whether the units' DSP blocks fit on the two dies, each unit whole on one of them."""
    return any(
        all(
            sum(n for n, on in zip(by_unit.values(), dies, strict=True) if on == die) <= most
            for die, most in enumerate(SLR_DSP)
        )
        for dies in product(range(len(SLR_DSP)), repeat=len(by_unit))
    )
