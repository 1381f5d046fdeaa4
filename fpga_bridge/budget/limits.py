"""How large a model the card's memory holds: growing one dimension until a resource runs out."""

from __future__ import annotations

from collections.abc import Callable

from fpga_bridge.budget.buffers import program_blocks
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BlockCount, Budget, total_blocks
from fpga_bridge.memory.memory_map import make_memory_map
from ttjax import ModelConfig

# Where the search stops: no dimension of these models is meant to go further.
MOST = {"blocks": 64, "rank": 256, "sequence": 1024}


def blocks_of(config: ModelConfig) -> BlockCount:
    """Memory blocks of the banks of a config: of the whole kernel but its program."""
    return total_blocks(bank_shapes(make_memory_map(config)))


def fits(config: ModelConfig, budget: Budget) -> bool:
    """Whether a config's whole kernel fits: its banks, and the program, which grows with the model."""
    banks = blocks_of(config)
    # Banks alone mostly say no, and take a fraction of the time.
    return budget.fits(banks) and budget.fits(banks + program_blocks(config))


def shortage(count: BlockCount, budget: Budget) -> dict[str, float]:
    """By how many blocks a count is over the budget, by resource; empty if it fits."""
    over = {"BRAM36": count.bram36 - budget.bram36, "URAM": float(count.uram - budget.uram)}
    return {resource: blocks for resource, blocks in over.items() if blocks > 0}


def first_to_run_out(count: BlockCount, budget: Budget) -> str:
    """The resource of which the largest share is used."""
    shares = {"BRAM36": count.bram36 / budget.bram36, "URAM": count.uram / budget.uram}
    return max(shares, key=lambda resource: shares[resource])


def largest(config: ModelConfig, budget: Budget) -> dict[str, int]:
    """The largest number of blocks, TT rank and sequence length that still fit, each grown alone.

    budget: for the whole kernel, each model's own program included. Found by bisection: blocks occupied
    hardly ever fall as a dimension grows. 0 where not even 1 fits; a size of ``MOST`` means at least that.
    A model that makes all its blocks again does so at any number of them, else the same ones.
    """

    def with_blocks(n: int) -> ModelConfig:
        bare = config.replace(n_blocks=n, recompute=(), frozen=())
        again = range(n) if len(config.recompute) == config.n_blocks else config.recompute
        return bare.replace(
            recompute=tuple(block for block in again if block < n),
            frozen=tuple(layer for layer in config.frozen if layer in bare.layers),
        )

    grown: dict[str, Callable[[int], ModelConfig]] = {
        "blocks": with_blocks,
        "rank": config.with_rank,
        "sequence": lambda n: config.replace(seq_len=n),
    }
    smallest = {"blocks": 1, "rank": 1, "sequence": 2}
    found = {}
    for name, make in grown.items():
        low, high = smallest[name] - 1, MOST[name]
        while low < high:
            middle = (low + high + 1) // 2
            if fits(make(middle), budget):
                low = middle
            else:
                high = middle - 1
        found[name] = low if low >= smallest[name] else 0
    return found
