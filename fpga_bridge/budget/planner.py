"""What to keep and what to make again: the cheapest memory plan of a config that fits a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from fpga_bridge.budget.buffers import training_bytes
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BlockCount, Budget, total_blocks
from fpga_bridge.memory.memory_map import MemoryMap, extra_multiplications, make_memory_map
from ttjax import ModelConfig, UserError


@dataclass(frozen=True)
class MemoryPlan:
    """A config with its memory options set, and what they cost.

    blocks: of the memory map's banks. bytes: all data on chip. extra: multiplications done again.
    """

    memory: MemoryMap
    blocks: BlockCount
    bytes: int
    extra: int

    @property
    def config(self) -> ModelConfig:
        """The planned config."""
        return self.memory.config


# Of models whose blocks differ, which have two to the power of this and one more plans.
MOST_UNLIKE_BLOCKS = 8


def plans(config: ModelConfig) -> Iterator[MemoryPlan]:
    """The plans of a config worth a look: sets of recomputed blocks, rederived values or not.

    Gradients are applied at once in all of them: that costs no operation. Blocks cost the same to recompute,
    and of as many the first need the least: all save the same but the last block, whose values would be gone
    only while the heads are at work. Not so where layers are frozen: then each set is a plan.

    Raises:
        UserError: layers are frozen, and there are too many blocks to try each set.
    """
    if config.frozen and config.n_blocks > MOST_UNLIKE_BLOCKS:
        raise UserError(
            "planning with frozen layers tries each set of blocks: expected at most"
            f" {MOST_UNLIKE_BLOCKS}, found {config.n_blocks}; plan without --frozen, or say with --recompute"
            " which to make again"
        )
    blocks = tuple(range(config.n_blocks))
    for count in range(config.n_blocks + 1):
        for recompute in combinations(blocks, count) if config.frozen else (blocks[:count],):
            for rederive in (False, True):
                planned = config.replace(recompute=recompute, rederive=rederive, immediate=True)
                memory = make_memory_map(planned)
                extra = sum(extra_multiplications(planned).values())
                yield MemoryPlan(memory, total_blocks(bank_shapes(memory)), training_bytes(memory), extra)


def cheapest_plan(config: ModelConfig, *, budget: Budget, max_bytes: int | None = None) -> MemoryPlan:
    """The plan with the fewest extra multiplications, then the fewest bytes, within both budgets.

    budget: for the memory map's banks; what the program takes is not in it.

    Raises:
        UserError: none fits; says what the smallest needs.
    """
    every = list(plans(config))
    fitting = [
        plan for plan in every if budget.fits(plan.blocks) and (max_bytes is None or plan.bytes <= max_bytes)
    ]
    if fitting:
        return min(fitting, key=lambda plan: (plan.extra, plan.bytes))
    least = min(every, key=lambda plan: plan.bytes)
    asked = f"{budget.bram36} BRAM36 and {budget.uram} URAM"
    if max_bytes is not None:
        asked += f" in {max_bytes / 1e6:.3f} MB"
    raise UserError(
        f"no plan fits {asked}: the smallest needs {least.blocks.bram36:g} BRAM36, {least.blocks.uram} URAM"
        f" and {least.bytes / 1e6:.3f} MB; take fewer blocks, lower ranks or shorter sentences"
    )
