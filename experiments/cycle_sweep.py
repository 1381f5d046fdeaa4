"""Cycles of a step against the U50's DSP and memory blocks: sizes of the accelerator, blocks, ranks, lengths.

python -m experiments.cycle_sweep --out experiments/results
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.table import Table

from experiments.files import Row, check_replaceable, options_of
from fpga_bridge.cycles.model import USABLE_DSP, StepModel, fits_dies, make_step_model
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.memory.blocks import U50_USABLE
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from ttjax import PRESETS, ModelConfig
from ttjax.cli import exit_status
from ttjax.output import Output, write_json
from ttjax.picture import check_results_folder, save, subplots
from ttjax.provenance import code_version, versions

MINUTES = 3

MODELS = ("enc2", "enc4", "enc6")
RANKS, LENGTHS = (4, 8, 12, 16, 24, 32, 48), (32, 64, 128, 256, 512)
TILE_ROWS, TILE_LANES, NORM_LANES, NONLINEAR_LANES = range(4, 17, 2), (8, 16, 32), (8, 16, 32), (4, 8, 16)
CLOCK_CLASS = "typical"
MARKERS = ("o", "s", "^")  # of the models, by their blocks


@dataclass(frozen=True)
class CycleSweep:
    """Try accelerators on the paper's models, and models on the default accelerator; typical clock class.

    Examples: python -m experiments.cycle_sweep
              python -m experiments.cycle_sweep --quick --out .
    """

    out: Path = Path("experiments/results")
    """Folder for cycle_sweep.json and cycle_sweep.png."""
    quick: bool = False
    """A few of each, to see that it runs."""

    def run(self) -> int:
        """Print the tables, draw, write; returns the exit status."""
        out = Output(None)
        check_results_folder(self.out)
        options = options_of(self)
        check_replaceable(self.out / "cycle_sweep.json", options)
        origin = {"commit": code_version(), "versions": versions(), "options": options}
        models = MODELS[:1] if self.quick else MODELS
        tiles = list(_tiles())[::8] if self.quick else list(_tiles())
        sizes = list(_models())[::40] if self.quick else list(_models())
        console = out.console
        jobs = [(name, tile) for name in models for tile in tiles]
        with out.progress() as progress:
            by_accelerator = [
                row for job in progress.track(jobs, description="accelerators") for row in _lanes(*job)
            ]
            by_model = [
                _row(label, make_step_model(config))
                for label, config in progress.track(sizes, description="models")
            ]
        fitting = {name: _fitting(_of(by_accelerator, name)) for name in models}
        best = {name: min(rows, key=_cycles, default=None) for name, rows in fitting.items()}
        console.print(_table("fastest accelerator that fits", [row for row in best.values() if row]))
        for name, rows in fitting.items():
            if rows:
                title = f"{name}: no other that fits is faster with fewer DSP"
                console.print(_table(title, front(rows, "dsp")))
            else:
                out.say(f"{name}: none of {len(_of(by_accelerator, name))} accelerators fits")
        title = "models that fit, default accelerator: none faster with less BRAM"
        console.print(_table(title, front(_fitting(by_model), "bram36")))
        found = {**origin, "accelerators": by_accelerator, "fastest": best, "models": by_model}
        write_json(self.out / "cycle_sweep.json", found)
        _draw(by_accelerator, by_model, self.out / "cycle_sweep.png")
        out.say(f"written: {self.out / 'cycle_sweep.json'}, {self.out / 'cycle_sweep.png'}")
        return 0


def front(rows: Sequence[Row], cost: str) -> list[Row]:
    """Rows than which no other has both fewer cycles and no more of ``cost``, the cheapest first."""
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: (row[cost], row["cycles"])):
        if not kept or row["cycles"] < kept[-1]["cycles"]:
            kept.append(row)
    return kept


def _tiles() -> Iterator[Accelerator]:
    for rows in TILE_ROWS:
        for lanes in TILE_LANES:
            if rows <= lanes:
                yield replace(DEFAULT, tile_rows=rows, tile_lanes=lanes)


def _models() -> Iterator[tuple[str, ModelConfig]]:
    for name in MODELS:
        for rank in RANKS:
            for length in LENGTHS:
                yield f"{name} rank {rank}, {length}", PRESETS[name].with_rank(rank).replace(seq_len=length)


def _lanes(name: str, tile: Accelerator) -> Iterator[Row]:
    for norm in NORM_LANES:
        for nonlinear in NONLINEAR_LANES:
            accelerator = replace(tile, norm_lanes=norm, nonlinear_lanes=nonlinear)
            yield _row(name, make_step_model(PRESETS[name], accelerator))


def _row(model: str, step: StepModel) -> Row:
    length = step.config.seq_len
    cycles = step.step(SentenceShape(length), CLOCK_CLASS)
    dsp = step.dsp(CLOCK_CLASS)
    blocks = step.blocks
    return {
        "model": model,
        "blocks": step.config.n_blocks,
        "rank": max(step.config.tt_ranks),
        "tokens": length,
        "accelerator": asdict(step.accelerator),
        "cycles": cycles,
        "utilisation": step.utilisation(length, cycles),
        "dsp": sum(dsp.values()),
        "bram36": blocks.bram36,
        "uram": blocks.uram,
        "fits": sum(dsp.values()) <= USABLE_DSP and fits_dies(dsp) and U50_USABLE.fits(blocks),
    }


def _of(rows: Sequence[Row], model: str) -> list[Row]:
    return [row for row in rows if row["model"] == model]


def _fitting(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["fits"]]


def _cycles(row: Row) -> int:
    return row["cycles"]


def _table(title: str, rows: Sequence[Row]) -> Table:
    table = Table(title=title, title_style="", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("tile", "norm", "nonl.", "cycles", "used", "DSP", "BRAM36", "URAM", "fits"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        a = row["accelerator"]
        table.add_row(
            row["model"],
            f"{a['tile_rows']} × {a['tile_lanes']}",
            str(a["norm_lanes"]),
            str(a["nonlinear_lanes"]),
            f"{row['cycles']:,}",
            f"{100 * row['utilisation']:.0f} %",
            str(row["dsp"]),
            f"{row['bram36']:g}",
            str(row["uram"]),
            "yes" if row["fits"] else "no",
        )
    return table


def _draw(accelerators: Sequence[Row], models: Sequence[Row], path: Path) -> None:
    figure, (left, right) = subplots(1, 2, figsize=(13, 5.5))
    for n, name in enumerate(dict.fromkeys(row["model"] for row in accelerators)):
        rows = _of(accelerators, name)
        _points(left, rows, "dsp", 10, f"C{n}", alpha=0.4)
        best = front(_fitting(rows), "dsp")
        of_best = [[row[key] for row in best] for key in ("dsp", "cycles")]
        left.plot(*of_best, "o-", markersize=4, color=f"C{n}", label=f"{name}: none that fits is faster")
    left.axvline(USABLE_DSP, color="crimson", linewidth=1, label="usable DSP, of both dies")
    left.set(
        xlabel="DSP", ylabel="cycles a step of 32 tokens", yscale="log", title="sizes of the accelerator"
    )
    _legend(left, "doesn't fit: DSP beyond the line or not to be split\non two dies, BRAM36 or URAM")
    lengths, blocks = ([*dict.fromkeys(row[key] for row in models)] for key in ("tokens", "blocks"))
    for row in models:
        marker, color = MARKERS[blocks.index(row["blocks"])], f"C{lengths.index(row['tokens'])}"
        _points(right, [row], "bram36", 8 + 2 * row["rank"], color, marker=marker)
    for n, length in enumerate(lengths):
        right.plot([], [], "s", color=f"C{n}", label=f"{length} tokens")
    for marker, of_model in zip(MARKERS, blocks, strict=False):
        right.plot([], [], marker, color="black", label=f"{of_model} blocks")
    right.axvline(U50_USABLE.bram36, color="crimson", linewidth=1, label="usable BRAM36")
    ranks = sorted({row["rank"] for row in models})
    title = f"default accelerator\nthe larger a point, the higher the rank: {', '.join(map(str, ranks))}"
    right.set(xlabel="BRAM36", xscale="log", ylabel="cycles a step", yscale="log", title=title)
    _legend(right, "doesn't fit: left of the line, URAM")
    save(figure, path)


def _points(
    axes: Any, rows: Sequence[Row], cost: str, size: int, color: str, marker: str = "o", alpha: float = 0.9
) -> None:
    """Filled where they fit, else hollow."""
    for fits in (True, False):
        shown = [row for row in rows if row["fits"] == fits]
        places = [[row[key] for row in shown] for key in (cost, "cycles")]
        face = {"facecolors": color if fits else "none", "edgecolors": color}
        axes.scatter(*places, s=size, marker=marker, alpha=alpha, linewidths=0.8, **face)


def _legend(axes: Any, hollow: str) -> None:
    axes.plot([], [], "o", markerfacecolor="none", color="black", label=hollow)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(CycleSweep, prog="python -m experiments.cycle_sweep").run())


if __name__ == "__main__":
    sys.exit(main())
