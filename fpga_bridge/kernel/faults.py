"""Planted faults: mutations of the kernel that prove the agreement check can fail.

Each names the first trace point that must disagree. The kernel itself carries no hooks: a fault replaces
one piece of its source text, or changes instructions of its program, before it is built.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fpga_bridge.kernel.build import kernel_sources
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.accelerator import DEFAULT
from fpga_bridge.program.instructions import ENGINE, NONE, Flag, Instruction, Op, Program
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import Manifest
from ttjax import ModelConfig, UserError

Change = Callable[[Instruction, ModelConfig], Instruction]


@dataclass(frozen=True)
class Fault(ABC):
    """A fault and where it must be found.

    point: the first trace point of ``tiny`` or a paper preset that must disagree, where ``{last}`` stands
    for the last block; or what it is by config. step: the first that it can show in.
    """

    name: str
    what: str
    point: str | Callable[[ModelConfig], str]
    step: int = field(default=0, kw_only=True)

    @property
    @abstractmethod
    def file(self) -> str:
        """The file that differs."""

    @abstractmethod
    def sources(self, manifest: Manifest) -> dict[str, str]:
        """The kernel's sources with the fault in them, and the generated header if it is there.

        Raises:
            UserError: what the fault changes is not there (the kernel has changed).
        """

    def first_point(self, config: ModelConfig) -> str:
        """The point that must disagree first in that model."""
        if callable(self.point):
            return self.point(config)
        return self.point.format(last=f"block{config.n_blocks - 1}")


@dataclass(frozen=True)
class SourceFault(Fault):
    """In ``source``, ``old`` (which occurs once) becomes ``new``."""

    source: str
    old: str
    new: str

    @property
    def file(self) -> str:
        """The file that differs."""
        return self.source

    def sources(self, manifest: Manifest) -> dict[str, str]:
        """The kernel's sources, one of them changed."""
        files = kernel_sources()
        count = files[self.source].count(self.old)
        if count != 1:
            raise UserError(
                f"fault {self.name}: expected its text once in {self.source}, found it {count} times; update"
                " fpga_bridge/kernel/faults.py"
            )
        return {**files, self.source: files[self.source].replace(self.old, self.new)}


@dataclass(frozen=True)
class ProgramFault(Fault):
    """``change`` gives each instruction of the program as the fault has it; most stay as they are."""

    change: Change

    @property
    def file(self) -> str:
        """The file that differs."""
        return HEADER_NAME

    def sources(self, manifest: Manifest) -> dict[str, str]:
        """The kernel's sources, and the header with the changed program."""
        program, config = make_program(manifest), manifest.layout.config
        changed = tuple(self.change(job, config) for job in program.instructions)
        if changed == program.instructions:
            raise UserError(
                f"fault {self.name}: expected instructions that change, found none; update"
                " fpga_bridge/kernel/faults.py"
            )
        faulty = header(manifest, program=Program(changed, program.forward))
        return {**kernel_sources(), HEADER_NAME: faulty}


def _unmasked(job: Instruction, config: ModelConfig) -> Instruction:
    return replace(job, cols=config.seq_len) if job.op == Op.SOFTMAX else job


def _padding_as_words(job: Instruction, config: ModelConfig) -> Instruction:
    slots = job.op == Op.CROSS_ENTROPY and job.flags & Flag.SLOT_LABELS
    return replace(job, stream=config.seq_len) if slots else job


def _transposed(job: Instruction, config: ModelConfig) -> Instruction:
    """Of the products that merge left halves: the core is the tiled operand."""
    if job.op not in (Op.TO_WIDE, Op.TO_NARROW):
        return job
    narrow, wide, core, *others = job.operands
    assert narrow is not None and wide is not None and core is not None
    merged = {narrow.array, wide.array} & {"left", "left_inner"}
    if not merged or not core.array.startswith("linear_core"):
        return job
    by_columns = job.flags & Flag.TRANSPOSED
    core = replace(core, row=job.cols if by_columns else job.rows)
    # As many parts as it may take the other way round.
    return replace(
        job,
        operands=(narrow, wide, core, *others),
        flags=int(job.flags ^ Flag.TRANSPOSED),
        load=job.load + job.rows + job.cols,
    )


def _not_updated(job: Instruction, config: ModelConfig) -> Instruction:
    parameter = job.operands[0]
    skips = job.op == Op.UPDATE and parameter is not None and parameter.array == "linear_core2"
    return replace(job, batches=0) if skips else job


def _without_residual(job: Instruction, config: ModelConfig) -> Instruction:
    return replace(job, operands=job.operands[:6]) if job.op == Op.NORM else job


def _unscaled(job: Instruction, config: ModelConfig) -> Instruction:
    return replace(job, scale=1.0) if job.stage[0] == "backward" else job


def _each_token_alone(job: Instruction, config: ModelConfig) -> Instruction:
    return replace(job, order=NONE) if job.op in ENGINE else job


def _in_partial_sums(config: ModelConfig) -> str:
    """The slot classifier's weight, or its bias if the tiles of the weight's gradient fill every turn.

    They take turns by ``sum_distance``; each is one sum then, and has partial sums only where fewer are left.
    """
    tiles = -(-config.n_slots // DEFAULT.tile_rows) * -(-config.d_model // DEFAULT.tile_lanes)
    return "d_slot_out.weight" if tiles % DEFAULT.sum_distance else "d_slot_out.bias"


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        SourceFault(
            "flipped_bit",
            "one exponent bit of one core flips before the step",
            "block0.q.left",
            "step.hpp",
            "  run_program(kInstructions, sentence, taps);\n",
            "  linear_core1[3] = as_float(as_bits(linear_core1[3]) ^ 0x00800000u);\n"
            "  run_program(kInstructions, sentence, taps);\n",
        ),
        ProgramFault(
            "dropped_mask",
            "padding takes part in the softmax",
            "block0.probs",
            _unmasked,
        ),
        SourceFault(
            "norm_epsilon",
            "LayerNorm with epsilon 1e-3",
            "embed_norm",
            "norm_lanes.hpp",
            "(m2 + kNormEps) - m1_square",
            "(m2 + 1e-3f) - m1_square",
        ),
        ProgramFault(
            "transposed_core",
            "the left merge reads each core as its transpose",
            "block0.q.left",
            _transposed,
        ),
        SourceFault(
            "missing_bias_gradient",
            "the gradients of biases stay zero",
            "d_slot_pre.bias",
            "engine.hpp",
            "c.column_sums[c.now][slot][lane] = columns[lane];",
            "c.column_sums[c.now][slot][lane] = 0.0f * columns[lane];",
        ),
        SourceFault(
            "stale_merged_half",
            "the right half is merged once and not again after the update",
            "block0.q.right",
            "sequencer.hpp",
            "    unit.begin(station.next, sentence);\n",
            "    Instruction job = station.next;\n"
            "    const bool merges = job.op < kToTile && (job.operand[kNarrow].array == k_right ||\n"
            "                                             job.operand[kWide].array == k_right);\n"
            "    if (merges && executed_trips[station.at] > 0) job.batches = 0;\n"
            "    unit.begin(job, sentence);\n",
            step=1,
        ),
        SourceFault(
            "wrong_label",
            "the intent's label is off by one",
            "intent_loss",
            "nonlinear.hpp",
            "sentence.slots[number] : sentence.intent;",
            "sentence.slots[number] : (sentence.intent + 1) % kIntents;",
        ),
        ProgramFault(
            "skipped_update",
            "one bank of cores is never updated",
            "new_slot_pre.core2",
            _not_updated,
        ),
        ProgramFault(
            "missing_residual",
            "residual sums are left out",
            "block0.norm1",
            _without_residual,
        ),
        ProgramFault(
            "unscaled_score_gradient",
            "the gradient of the scores misses 1/sqrt(head_dim)",
            "d_{last}.k",
            _unscaled,
        ),
        ProgramFault(
            "overwritten_token_gradient",
            "a token that comes twice keeps only its last gradient",
            "d_embed.core0",
            _each_token_alone,
        ),
        ProgramFault(
            "padding_in_slot_loss",
            "padding counts as words",
            "slot_loss",
            _padding_as_words,
        ),
        SourceFault(
            "lost_partial_sum",
            "of the partial sums of a tile's gradient the last is not added",
            _in_partial_sums,
            "engine_state.hpp",
            "return turns.partials < stream ? turns.partials : stream;",
            "const int used = turns.partials < stream ? turns.partials : stream;\n"
            "  return used > 1 ? used - 1 : used;",
        ),
        SourceFault(
            "narrow_ragged_tile",
            "the last column of a tile at the matrix's edge is dropped",
            "embed",
            "engine_tiles.hpp",
            "return left < kTileLanes ? left : kTileLanes;",
            "return left < kTileLanes ? left - 1 : kTileLanes;",
        ),
        SourceFault(
            "short_next_tile",
            "the tile after the first is loaded one part short",
            "embed",
            "engine.hpp",
            "} else if (c.part < parts_of(c.tiling, c.moving, job.flags & kTransposed)) {",
            "} else if (c.part + (c.moving.batch + c.moving.row_tile + c.moving.col_tile > 0 ? 1 : 0) <\n"
            "             parts_of(c.tiling, c.moving, job.flags & kTransposed)) {",
        ),
    )
}


def find_fault(name: str) -> Fault:
    """The fault of that name.

    Raises:
        UserError: there is none.
    """
    if name not in FAULTS:
        raise UserError(f"unknown fault {name!r}: expected one of {', '.join(FAULTS)}")
    return FAULTS[name]
