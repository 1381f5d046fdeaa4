"""Training memory on chip against the uncompressed model's, for 2, 4 and 6 blocks: a table, a plot, a JSON.

python -m experiments.memory_ratios --out experiments/results
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.table import Table

from fpga_bridge.budget.buffers import kernel_shapes, training_bytes
from fpga_bridge.memory.blocks import total_blocks
from fpga_bridge.memory.memory_map import MemoryMap, extra_multiplications, make_memory_map
from fpga_bridge.memory.uncompressed import dense_config, dense_live_bytes, xla_bytes
from ttjax import PRESETS, ModelConfig
from ttjax.cli import exit_status
from ttjax.costs import MEGABYTE, model_costs, step_multiplications
from ttjax.output import Output, write_json
from ttjax.picture import check_results_folder, save, subplots
from ttjax.provenance import code_version, versions

MINUTES = 0.2

BLOCKS = ("enc2", "enc4", "enc6")


@dataclass(frozen=True)
class MemoryRatios:
    """Compare the on-chip memory of a training step with that of the uncompressed model.

    The paper reports 30x to 51x; each column here says what its ratio counts.

    Examples: python -m experiments.memory_ratios
              python -m experiments.memory_ratios --out .
    """

    out: Path = Path("experiments/results")
    """Existing folder for memory_ratios.json and memory_ratios.png."""

    def run(self) -> int:
        """Count, print, draw, write; returns exit status 0."""
        out = Output(None)
        check_results_folder(self.out)
        origin = {"commit": code_version(), "versions": versions()}
        with out.progress() as progress:
            rows = [row for preset in progress.track(BLOCKS, description="models") for row in _rows(preset)]
        out.console.print(_table(rows))
        write_json(self.out / "memory_ratios.json", {**origin, "rows": rows})
        _draw(rows, self.out / "memory_ratios.png")
        out.say(f"written: {self.out / 'memory_ratios.json'}, {self.out / 'memory_ratios.png'}")
        return 0


def plans_of(config: ModelConfig) -> dict[str, ModelConfig]:
    """The memory plans compared, from keeping everything to making all again."""
    keep = config.replace(recompute=(), rederive=False, immediate=False)
    return {
        "all kept": keep,
        "applied at once": keep.replace(immediate=True),
        "+ rederived": keep.replace(immediate=True, rederive=True),
        "+ recomputed": keep.replace(immediate=True, rederive=True, recompute=tuple(range(config.n_blocks))),
    }


def _rows(preset: str) -> list[dict[str, Any]]:
    config = PRESETS[preset]
    dense, dense_live = model_costs(dense_config(config)).bytes, dense_live_bytes(config)
    xla, step = xla_bytes(config), step_multiplications(config)
    return [
        _row(preset, name, make_memory_map(plan))
        | {
            "dense_parameter_bytes": dense,
            "dense_live_bytes": dense_live,
            "dense_xla_bytes": xla,
            "step_multiplications": step,
        }
        for name, plan in plans_of(config).items()
    ]


def _row(preset: str, plan: str, memory: MemoryMap) -> dict[str, Any]:
    count = total_blocks(kernel_shapes(memory))
    return {
        "preset": preset,
        "plan": plan,
        "parameter_bytes": model_costs(memory.config).bytes,
        "allocated_bytes": training_bytes(memory),
        "occupied_bytes": count.bits // 8,
        "bram36": count.bram36,
        "uram": count.uram,
        "extra_multiplications": sum(extra_multiplications(memory.config).values()),
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("plan", no_wrap=True)
    for column in ("params", "all bytes", "XLA", "blocks", "MB", "extra"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        allocated = row["allocated_bytes"]
        table.add_row(
            row["preset"],
            row["plan"],
            f"{row['dense_parameter_bytes'] / row['parameter_bytes']:.1f}×",
            f"{row['dense_live_bytes'] / allocated:.1f}×",
            f"{row['dense_xla_bytes'] / allocated:.1f}×",
            f"{row['dense_live_bytes'] / row['occupied_bytes']:.1f}×",
            f"{allocated / MEGABYTE:.2f}",
            f"{100 * row['extra_multiplications'] / row['step_multiplications']:.0f} %",
        )
    table.title = (
        "uncompressed over on chip: parameters alone; all bytes of a training step; the same\n"
        "as XLA reports it; over whole memory blocks. MB on chip; extra multiplications"
    )
    table.title_style = ""
    return table


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    figure, axes = subplots(figsize=(8, 4.5))
    plans = list(dict.fromkeys(row["plan"] for row in rows))
    width = 0.8 / len(plans)
    for n, plan in enumerate(plans):
        of_plan = [row for row in rows if row["plan"] == plan]
        ratios = [row["dense_live_bytes"] / row["allocated_bytes"] for row in of_plan]
        places = [i + (n - (len(plans) - 1) / 2) * width for i in range(len(of_plan))]
        bars = axes.bar(places, ratios, width, label=plan)
        axes.bar_label(bars, fmt="%.0f×", fontsize=8)
    axes.set_xticks(range(len(BLOCKS)), BLOCKS)
    axes.axhspan(30, 51, alpha=0.12, color="gray", label="the paper's 30× to 51×")
    axes.set_ylabel("uncompressed training memory / on-chip memory")
    axes.legend(fontsize=8)
    save(figure, path)


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(MemoryRatios, prog="python -m experiments.memory_ratios").run())


if __name__ == "__main__":
    sys.exit(main())
