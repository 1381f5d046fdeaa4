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
class Plan:
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


def plans(config: ModelConfig) -> Iterator[Plan]:
    """Every plan of a config: each set of recomputed blocks, rederived values or not.

    Gradients are applied at once in all of them: that costs no operation.
    """
    blocks = range(config.n_blocks)
    for count in range(config.n_blocks + 1):
        for recompute in combinations(blocks, count):
            for rederive in (False, True):
                planned = config.replace(recompute=recompute, rederive=rederive, immediate=True)
                memory = make_memory_map(planned)
                extra = sum(extra_multiplications(planned).values())
                yield Plan(memory, total_blocks(bank_shapes(memory)), training_bytes(memory), extra)


def cheapest_plan(config: ModelConfig, *, budget: Budget, max_bytes: int | None = None) -> Plan:
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
