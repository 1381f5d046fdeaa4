"""A picture of the U50's two dies (SLRs) with the memories of a map: where each lies and how full it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fpga_bridge.memory.blocks import BankShape, Budget, block_count
from ttjax.picture import save, subplots


def place_on_slrs(shapes: Sequence[BankShape], budget: Budget) -> list[list[BankShape]]:
    """Memories of each SLR: the largest first, each to the die with the most room left for it.

    A first placement for the picture: no timing, no crossing between the dies is looked at.
    """
    room = [[float(budget.per_slr.bram36), float(budget.per_slr.uram)] for _ in range(budget.slrs)]
    dies: list[list[BankShape]] = [[] for _ in range(budget.slrs)]

    def blocks(shape: BankShape) -> tuple[float, int]:
        count = block_count(shape)
        return count.bram36, count.uram

    for shape in sorted(shapes, key=blocks, reverse=True):
        bram36, uram = blocks(shape)
        sort = 1 if uram else 0
        die = max(range(budget.slrs), key=lambda n: room[n][sort])
        room[die][0] -= bram36
        room[die][1] -= uram
        dies[die].append(shape)
    return dies


def draw(shapes: Sequence[BankShape], budget: Budget, title: str, path: Path) -> None:
    """Draws each die's block RAM and UltraRAM as columns of memories, shaded by how full their blocks are.

    Raises:
        UserError: matplotlib is missing, or the file can't be written.
    """
    figure, all_axes = subplots(1, 2 * budget.slrs, figsize=(12, 8))
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable

    shade = colormaps["viridis"]
    for die, here in enumerate(place_on_slrs(shapes, budget)):
        for sort, (kind, limit) in enumerate(
            (("BRAM36", budget.per_slr.bram36), ("URAM", budget.per_slr.uram))
        ):
            axes = all_axes[2 * die + sort]
            height = 0.0
            for shape in here:
                count = block_count(shape)
                blocks = count.uram if sort else count.bram36
                if not blocks:
                    continue
                full = shape.bits / count.bits
                axes.bar(
                    0, blocks, bottom=height, color=shade(full), edgecolor="white", linewidth=0.4, width=1
                )
                if blocks > limit / 60:
                    colour = "black" if full > 0.6 else "white"
                    middle = height + blocks / 2
                    axes.text(0, middle, shape.name, ha="center", va="center", fontsize=6, color=colour)
                height += blocks
            axes.axhline(limit, color="crimson", linewidth=1)
            axes.set(
                title=f"SLR{die} {kind}\n{height:g} of {limit}",
                xticks=[],
                ylim=(0, 1.02 * max(limit, height)),
            )
    figure.colorbar(ScalarMappable(cmap=shade), ax=all_axes, label="bits used / bits occupied", shrink=0.6)
    figure.suptitle(title)
    save(figure, path, "--picture")
