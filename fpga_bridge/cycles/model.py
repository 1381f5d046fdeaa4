"""Cycles of a training step from the trips of its loops and the latencies of their operators.

An instruction takes ``interval * (trips - 1) + depth`` cycles, an estimate for each clock class. Not counted:
fetching instructions, and moving sentences and losses between the card's memory and the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil

from fpga_bridge.budget.buffers import program_memory
from fpga_bridge.cycles.operators import OPERATORS, ClockClass, depth, dsp, luts
from fpga_bridge.cycles.trips import SentenceShape, Trips, unit_name
from fpga_bridge.kernel.pipelines import Operators, Pipeline, pipelines
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BlockCount, total_blocks
from fpga_bridge.memory.memory_map import MemoryMap, make_memory_map
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
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
# Units with a sum that a trip adds to and a later trip adds to again.
SUMMING = ("engine", "norm", "nonlinear")


def stretch(unit: str, pipeline: Pipeline, accelerator: Accelerator, clock_class: ClockClass) -> int:
    """Cycles between trips of a unit's loop.

    A sum is added to every ``sum_distance`` trips: where an addition takes longer, all trips wait, since a
    loop has one interval for all that it does.
    """
    if unit not in SUMMING:
        return pipeline.interval
    needed = ceil(OPERATORS["add"].cycles[clock_class] / accelerator.sum_distance)
    return max(pipeline.interval, needed)


def total_cycles(program: Program, durations: Sequence[int], *, side_by_side: bool) -> int:
    """Cycles of a whole program from those of its instructions.

    side_by_side: units work at the same time where an instruction doesn't wait for another's results.
    """
    if not side_by_side:
        return sum(durations)
    return int(finish(program.instructions, durations)[1].max())


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
        """Trips of each instruction's loop."""
        count = Trips(self.memory, self.accelerator)
        return [count(job, sentence) for job in self.program.instructions]

    def durations(self, trips: Sequence[int], clock_class: ClockClass) -> list[int]:
        """Cycles of each instruction from its trips; none where there is no trip."""
        facts = {
            unit: (stretch(unit, p, self.accelerator, clock_class), depth(p.path, clock_class))
            for unit, p in self.pipelines.items()
        }
        cycles = []
        for unit, n in zip(self.units, trips, strict=True):
            interval, latency = facts[unit] if unit is not None else (0, 0)
            cycles.append(interval * (n - 1) + latency if unit is not None and n else 0)
        return cycles

    def step(self, sentence: SentenceShape, clock_class: ClockClass, *, side_by_side: bool = False) -> int:
        """Cycles of one training step: of the kernel as its source stands, one instruction after another.

        side_by_side: of hardware that lets its units work at the same time as far as the program does.
        """
        durations = self.durations(self.trips(sentence), clock_class)
        return total_cycles(self.program, durations, side_by_side=side_by_side)

    def mean_step(
        self, lengths: Mapping[int, int], clock_class: ClockClass, *, side_by_side: bool = False
    ) -> float:
        """Mean cycles of a step over sentences; ``lengths``: how many there are of each length."""
        cycles = {n: self.step(SentenceShape(n), clock_class, side_by_side=side_by_side) for n in lengths}
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
