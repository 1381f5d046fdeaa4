"""The command `fpga-bridge memory`: the accelerator's memories, the U50's budget, the uncompressed model."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.table import Table

from fpga_bridge.budget import limits
from fpga_bridge.budget.buffers import kernel_shapes, program_blocks, program_shape, training_bytes
from fpga_bridge.budget.limits import first_to_run_out, largest, shortage
from fpga_bridge.budget.planner import cheapest_plan
from fpga_bridge.budget.slr_picture import draw
from fpga_bridge.budget.synthesis import check
from fpga_bridge.memory.banks import bank_shapes, core_shapes
from fpga_bridge.memory.blocks import U50_RAW, U50_USABLE, BankShape, block_count, efficiency, total_blocks
from fpga_bridge.memory.memory_map import BYTES, MemoryMap, Place, extra_multiplications, make_memory_map
from fpga_bridge.memory.uncompressed import dense_config, dense_live_bytes, saved_activation_bytes, xla_bytes
from ttjax import UserError
from ttjax.cli_model import ModelArgs
from ttjax.costs import MEGABYTE, model_costs, step_multiplications
from ttjax.output import Output, check_apart
from ttjax.picture import check_picture


@dataclass(frozen=True)
class Memory:
    """Show the on-chip memory of a whole training step: banks, blocks, what fits, what sharing saves.

    Block counts are a model's, held against an open synthesis tool by --check; they are not Vitis's.
    Exit status 0: the config fits the usable U50 and, with --check, the counts are equal. 1: not.

    Examples: fpga-bridge memory --preset enc2 --picture enc2.png
              fpga-bridge memory --preset enc6 --max-mb 3.8
              fpga-bridge memory --preset enc4 --recompute 0 1 2 3 --rederive True --check
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    plan: bool = False
    """Choose what to recompute: the cheapest plan that fits the usable U50."""
    max_mb: float | None = None
    """Plan also for this many MB (10^6 bytes) of all data on chip together; implies --plan."""
    check: bool = False
    """Map every memory with yosys, but the units' buffers, and compare its block counts with the model's."""
    picture: Path | None = None
    """Picture (.png, .svg or .pdf) of the two dies with the memories and how full they are."""
    json: str | None = None
    """File for the figures as JSON; - for standard output."""

    def run(self) -> int:
        """Print the tables, compare, write, draw; returns the exit status."""
        out = Output(self.json)
        check_apart([("--json", self.json), ("--picture", self.picture)])
        if self.picture is not None:
            check_picture(self.picture, "--picture")
        if self.max_mb is not None and not 0 < self.max_mb < math.inf:
            raise UserError(f"--max-mb: expected a number of megabytes above 0, found {self.max_mb:g}")
        config = self.model.config()
        if self.plan or self.max_mb is not None:
            for name in ("recompute", "rederive", "immediate"):
                if getattr(self.model, name) is not None:
                    raise UserError(f"--{name}: expected none with a plan, which chooses it: leave one out")
            limit = None if self.max_mb is None else round(self.max_mb * MEGABYTE)
            with out.console.status("planning what to keep"):
                # The longest program is the one of the plan that makes all again.
                again = config.replace(recompute=tuple(range(config.n_blocks)), rederive=True, immediate=True)
                budget = U50_USABLE.less(program_blocks(again))
                config = cheapest_plan(config, budget=budget, max_bytes=limit).config
            out.say(f"plan: recompute blocks {list(config.recompute)}, rederive {config.rederive}")
        out.say(self.model.line(config))
        memory = make_memory_map(config)
        shapes = kernel_shapes(memory)
        with out.console.status("compiling the uncompressed step"):
            xla = xla_bytes(config)
        out.console.print(_bank_table(self.model.preset, shapes))
        out.console.print(_budget_table(memory, shapes))
        out.console.print(_comparison_table(memory, xla))
        for line in _remarks(memory):
            out.say(line)
        figures = _figures(memory, shapes, xla)
        with out.console.status("searching the largest models that fit"):
            most = largest(config, U50_USABLE)
        figures |= {"largest": most, "largest_searched_to": limits.MOST}
        sizes = {
            name: f"at least {size}" if size == limits.MOST[name] else size for name, size in most.items()
        }
        grown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        out.say(f"the largest that fits, each grown alone: {grown}")
        equal = check([*bank_shapes(memory), program_shape(config)], out) if self.check else True
        out.write_json({"preset": self.model.preset, **figures})
        if self.picture is not None:
            title = f"{self.model.preset}: memories of a training step on the U50"
            draw(shapes, U50_USABLE, title, self.picture)
            out.say(f"picture: {self.picture}")
        over = shortage(total_blocks(shapes), U50_USABLE)
        if over:
            by = " and ".join(f"{blocks:g} {resource}" for resource, blocks in over.items())
            out.say(f"DOES NOT FIT the usable U50, by {by}: let --plan choose what to make again")
        return 0 if equal and not over else 1


def _figures(memory: MemoryMap, shapes: list[BankShape], xla: int) -> dict[str, object]:
    count, dense = total_blocks(shapes), dense_live_bytes(memory.config)
    return {
        "config": asdict(memory.config),
        "bram36": count.bram36,
        "uram": count.uram,
        "fits": not shortage(count, U50_USABLE),
        "allocated_bytes": training_bytes(memory),
        "program_bytes": program_shape(memory.config).bits // 8,
        "peak_live_bytes": max(memory.live_bytes()),
        "parameter_bytes": memory.parameter_bytes,
        "held_gradient_bytes": memory.gradient_bytes,
        "temporary_bytes": memory.temporary_bytes,
        "unshared_temporary_bytes": memory.unshared_bytes,
        "extra_multiplications": extra_multiplications(memory.config),
        "step_multiplications": step_multiplications(memory.config),
        "dense_parameter_bytes": model_costs(dense_config(memory.config)).bytes,
        "dense_live_bytes": dense,
        "dense_xla_bytes": xla,
        "ratio_allocated": dense / training_bytes(memory),
        "efficiency": efficiency(shapes),
        "core_efficiency_grouped": efficiency(core_shapes(memory, grouped=True)),
        "core_efficiency_ungrouped": efficiency(core_shapes(memory, grouped=False)),
        "temporaries": [_lifetime(memory, place) for place in memory.places],
        "banks": [
            {**asdict(shape), "bram36": block_count(shape).bram36, "uram": block_count(shape).uram}
            for shape in shapes
        ],
    }


def _lifetime(memory: MemoryMap, place: Place) -> dict[str, object]:
    """One temporary array: where it lies, and the stages from which to which it is live."""
    array, stages = place.array, memory.timeline.stages
    return {
        "name": array.name,
        "index": array.index,
        "passes": array.passes,
        "pool": array.pool,
        "slot": place.slot,
        "slots": place.slots,
        "bytes": BYTES * array.size,
        "live": [[" ".join(stages[first]), " ".join(stages[last])] for first, last in array.intervals],
    }


def _bank_table(preset: str, shapes: list[BankShape]) -> Table:
    """One row a memory; the slots of a pool, which are alike, in one row."""
    title = f"{preset}: memories of a training step"
    table = Table("memory", title=title, title_style="", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("copies", "bits × words", "kind", "BRAM36", "URAM", "used"):
        table.add_column(column, justify="right")
    alike: dict[str, list[BankShape]] = {}
    for shape in shapes:
        alike.setdefault(shape.name.partition("[")[0], []).append(shape)
    for name, group in alike.items():
        count, shape = total_blocks(group), group[0]
        used = f"{100 * efficiency(group):.0f} %" if count.bits else ""
        size = f"{shape.width} × {shape.depth}"
        table.add_row(
            name, str(len(group)), size, shape.kind, _number(count.bram36), _number(count.uram), used
        )
    return table


def _budget_table(memory: MemoryMap, shapes: list[BankShape]) -> Table:
    table = Table("blocks", title="against the U50", title_style="", box=box.SIMPLE_HEAD)
    for column in ("BRAM36", "URAM", "BRAM MB", "URAM MB", "bits used"):
        table.add_column(column, justify="right")
    for name, some in (
        ("this kernel", shapes),
        ("  its TT cores, grouped", list(core_shapes(memory, grouped=True))),
        ("  its TT cores, one each", list(core_shapes(memory, grouped=False))),
        ("this kernel, not grouped", kernel_shapes(memory, grouped=False)),
    ):
        count = total_blocks(some)
        megabytes = (count.bram36 * 36_864 / 8e6, count.uram * 294_912 / 8e6)
        used = f"{100 * efficiency(some):.0f} %"
        table.add_row(name, f"{count.bram36:g}", str(count.uram), *(f"{mb:.2f}" for mb in megabytes), used)
    for name, budget in (("usable under the shell", U50_USABLE), ("raw", U50_RAW)):
        row = (str(budget.bram36), str(budget.uram), f"{budget.bram_mb:.2f}", f"{budget.uram_mb:.2f}")
        table.add_row(name, *row, "")
    return table


def _comparison_table(memory: MemoryMap, xla: int) -> Table:
    """What each ratio counts: parameters alone, all bytes of a training step, or whole blocks."""
    config = memory.config
    dense = model_costs(dense_config(config)).bytes
    count, held = total_blocks(kernel_shapes(memory)), training_bytes(memory)
    table = Table(
        "bytes, MB = 10^6", title="against the uncompressed model", title_style="", box=box.SIMPLE_HEAD
    )
    for column in ("uncompressed", "on chip", "ratio"):
        table.add_column(column, justify="right")
    live = dense_live_bytes(config)
    scratch = held - memory.parameter_bytes - memory.gradient_bytes
    for name, theirs, ours in (
        ("parameters alone, without padding", dense, model_costs(config).bytes),
        ("parameters, gradients, activations", live, held),
        ("  of it parameters' gradients", dense, memory.gradient_bytes),
        ("  of it activations and scratch", saved_activation_bytes(config), scratch),
        ("as XLA reports its step", xla, held),
        ("whole blocks occupied", live, count.bits // 8),
    ):
        ratio = f"{theirs / ours:.2f}×" if ours else "none held"
        table.add_row(name, f"{theirs / MEGABYTE:.2f}", f"{ours / MEGABYTE:.2f}", ratio)
    return table


def _remarks(memory: MemoryMap) -> list[str]:
    config, count = memory.config, total_blocks(kernel_shapes(memory))
    live = memory.live_bytes()
    phase, stage = memory.timeline.stages[live.index(max(live))]
    held = training_bytes(make_memory_map(config.replace(immediate=False)))
    at_once = training_bytes(make_memory_map(config.replace(immediate=True)))
    program = program_shape(config)
    extra = {name: f"{value / 1e6:.1f}" for name, value in extra_multiplications(config).items()}
    step = step_multiplications(config)
    return [
        f"all data on chip: {training_bytes(memory) / MEGABYTE:.3f} MB; temporary arrays take"
        f" {memory.temporary_bytes / MEGABYTE:.2f} MB, without sharing they would take"
        f" {memory.unshared_bytes / MEGABYTE:.2f} MB",
        f"most is live at {phase} {stage}: {max(live) / MEGABYTE:.3f} MB",
        f"gradients applied at once: {at_once / MEGABYTE:.2f} MB; held to the end of the step:"
        f" {held / MEGABYTE:.2f} MB; the same bits either way, so at once is the default",
        f"done again to save memory, million multiplications: blocks {extra['recompute']}, merged halves and"
        f" embedding {extra['rederive']}, of a step's {step / 1e6:.1f}",
        f"the program, which is no data: {program.depth} instructions, {program.bits / 8e6:.2f} MB",
        f"{first_to_run_out(count, U50_USABLE)} runs out first",
    ]


def _number(blocks: float) -> str:
    return f"{blocks:g}" if blocks else ""
