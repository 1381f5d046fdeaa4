"""Trips of every instruction, as the kernel's C simulation counts them, without running it.

The engine's are in fpga_bridge.program.ports; those of the other units follow the passes that their
headers describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fpga_bridge.kernel.pipelines import levels, pipelines
from fpga_bridge.memory.memory_map import MemoryMap
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import NONE, Flag, Instruction, Op
from fpga_bridge.program.ports import Ports
from fpga_bridge.program.schedule import UNITS, unit_of


def unit_name(op: Op) -> str | None:
    """The unit that executes an operation; None for what only the trace asks for."""
    number = unit_of(op)
    return None if number == NONE else UNITS[number]


@dataclass(frozen=True)
class SentenceShape:
    """What trips depend on: the length, [CLS] included, and how many different digits its tokens have.

    digits: by number of the embedding's core; what isn't given is the most that the length allows.
    """

    length: int
    digits: Mapping[int, int] = field(default_factory=dict)


class Trips:
    """Trips of the instructions of a memory map's program on an accelerator."""

    def __init__(self, memory: MemoryMap, accelerator: Accelerator) -> None:
        self.memory = memory
        self.accelerator = accelerator
        self._ports = Ports(memory, accelerator)
        path = pipelines(accelerator)["norm"].path
        # norm_settle: root and division take up to five times as long as an addition; only `inverse` waits.
        self._settle_sums = accelerator.sum_distance * (path.mul + path.add)
        self._settle_inverse = self._settle_sums + accelerator.sum_distance * 5 * (path.div + path.sqrt)

    def __call__(self, job: Instruction, sentence: SentenceShape) -> int:
        """Trips of one instruction for a sentence; a trip that waits for its ports counts as several."""
        unit = unit_name(job.op)
        if unit is None:
            return 0
        if unit == "engine":
            return self._ports.trips(job, sentence.length)
        by_unit = {"norm": self._norm, "nonlinear": self._nonlinear, "update": self._update}
        return job.interval * by_unit[unit](job, sentence)

    def _norm(self, job: Instruction, sentence: SentenceShape) -> int:
        _, cols, rows, _ = job.extents(sentence.length)
        chunks = -(-cols // self.accelerator.norm_lanes)
        apply = rows * chunks
        if job.op == Op.NORM_AGAIN:
            return apply
        if job.op == Op.NORM:
            shift = max(rows, self._settle_sums)
            moments = max(rows * chunks, chunks - 1 + self._settle_inverse)
            return shift + moments + apply
        trains = bool(job.flags & Flag.TRAINS)
        of_row = max(chunks, self.accelerator.sum_distance) if trains else chunks
        # norm_pass_trips: where rows are padded, the last one comes the soonest after its sums.
        sooner = (rows - 1) * (of_row - chunks)
        return max(rows * of_row, chunks - 1 + sooner + self._settle_inverse) + apply

    def _nonlinear(self, job: Instruction, sentence: SentenceShape) -> int:
        a, distance = self.accelerator, self.accelerator.sum_distance
        _, cols, stream, batches = job.extents(sentence.length)
        rows = batches * stream
        if job.op == Op.TANH:
            return rows * cols  # near zero it has one lane
        if job.op == Op.JOINT_LOSS:
            return 1
        each = rows * -(-cols // a.nonlinear_lanes)
        inner = max(rows, distance)
        drain = (levels(a.nonlinear_lanes) + 1) * distance
        sums = inner * -(-cols // a.nonlinear_lanes) + max(0, drain - inner)
        if job.op == Op.SOFTMAX:
            return 2 * sums + each
        if job.op == Op.SOFTMAX_BACKWARD:
            return sums + each
        if job.op == Op.CROSS_ENTROPY:
            logarithm = (22 + levels(a.nonlinear_lanes)) * distance
            total = 5 * distance
            return 2 * sums + max(each, logarithm) + rows * distance + total - distance + 1
        return each

    def _update(self, job: Instruction, sentence: SentenceShape) -> int:
        parameter = job.operands[0]
        assert parameter is not None
        _, cols, stream, batches = job.extents(sentence.length)
        digit = parameter.digit
        if digit != NONE:
            most = min(sentence.length, self.memory.config.vocab_modes[digit])
            batches = sentence.digits.get(digit, most)
        return batches * stream * -(-cols // self.accelerator.update_lanes)
