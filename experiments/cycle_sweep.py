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
from rich.progress import track
from rich.table import Table

from fpga_bridge.cycles.model import USABLE_DSP, StepModel, fits_dies, make_step_model
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.memory.blocks import U50_USABLE
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from ttjax import PRESETS, ModelConfig
from ttjax.cli import exit_status
from ttjax.output import Output, write_json
from ttjax.picture import check_results_folder, save, subplots
from ttjax.provenance import code_version

MINUTES = 3

MODELS = ("enc2", "enc4", "enc6")
RANKS, LENGTHS = (4, 8, 12, 16, 24, 32, 48), (32, 64, 128, 256, 512)
TILE_ROWS, TILE_LANES, NORM_LANES, NONLINEAR_LANES = range(4, 17, 2), (8, 16, 32), (8, 16, 32), (4, 8, 16)
CLOCK_CLASS = "typical"


@dataclass(frozen=True)
class CycleSweep:
    """Try accelerators on the paper's models, and models on the default accelerator; typical clock class."""

    out: Path = Path("experiments/results")
    """Folder for cycle_sweep.json and cycle_sweep.png."""
    quick: bool = False
    """A few of each, to see that it runs."""

    def run(self) -> int:
        """Print the tables, draw, write; returns the exit status."""
        out = Output(None)
        check_results_folder(self.out)
        commit = code_version()
        models = MODELS[:1] if self.quick else MODELS
        tiles = list(_tiles())[::8] if self.quick else list(_tiles())
        sizes = list(_models())[::40] if self.quick else list(_models())
        console = out.console
        jobs = [(name, tile) for name in models for tile in tiles]
        by_accelerator = [row for job in track(jobs, "accelerators", console=console) for row in _lanes(*job)]
        by_model = [
            _row(label, make_step_model(config)) for label, config in track(sizes, "models", console=console)
        ]
        best = {name: min(_fitting(by_accelerator, name), key=_cycles) for name in models}
        console.print(_table("fastest accelerator that fits", list(best.values())))
        for name in models:
            console.print(
                _table(f"{name}: no other is faster with fewer DSP", front(_of(by_accelerator, name), "dsp"))
            )
        fitting = [row for row in by_model if row["fits"]]
        console.print(
            _table(
                "models that fit, default accelerator: none faster with less BRAM", front(fitting, "bram36")
            )
        )
        found = {
            "commit": commit,
            "accelerators": by_accelerator,
            "fastest": best,
            "models": by_model,
        }
        write_json(self.out / "cycle_sweep.json", found)
        _draw(by_accelerator, by_model, self.out / "cycle_sweep.png")
        out.say(f"written: {self.out / 'cycle_sweep.json'}, {self.out / 'cycle_sweep.png'}")
        return 0


def front(rows: Sequence[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """Rows than which no other has both fewer cycles and no more of ``cost``, the cheapest first."""
    kept: list[dict[str, Any]] = []
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


def _lanes(name: str, tile: Accelerator) -> Iterator[dict[str, Any]]:
    for norm in NORM_LANES:
        for nonlinear in NONLINEAR_LANES:
            accelerator = replace(tile, norm_lanes=norm, nonlinear_lanes=nonlinear)
            yield _row(name, make_step_model(PRESETS[name], accelerator))


def _row(model: str, step: StepModel) -> dict[str, Any]:
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


def _of(rows: Sequence[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["model"] == model]


def _fitting(rows: Sequence[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    """Those of a model that fit; all that fit in DSP where its memory plan fits with none of them."""
    of_model = _of(rows, model)
    return [row for row in of_model if row["fits"]] or [row for row in of_model if row["dsp"] <= USABLE_DSP]


def _cycles(row: dict[str, Any]) -> int:
    return row["cycles"]


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
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
            f"{row['cycles']:,}".replace(",", " "),
            f"{100 * row['utilisation']:.0f} %",
            str(row["dsp"]),
            f"{row['bram36']:g}",
            str(row["uram"]),
            "yes" if row["fits"] else "no",
        )
    return table


def _draw(accelerators: Sequence[dict[str, Any]], models: Sequence[dict[str, Any]], path: Path) -> None:
    figure, (left, right) = subplots(1, 2, figsize=(12, 5))
    for n, name in enumerate(dict.fromkeys(row["model"] for row in accelerators)):
        rows = _of(accelerators, name)
        left.scatter(
            [row["dsp"] for row in rows], [row["cycles"] for row in rows], s=6, alpha=0.3, color=f"C{n}"
        )
        best = front(rows, "dsp")
        left.plot(
            [row["dsp"] for row in best], [row["cycles"] for row in best], "o-", color=f"C{n}", label=name
        )
    left.axvline(USABLE_DSP, color="crimson", linewidth=1, label="usable DSP")
    left.set(
        xlabel="DSP", ylabel="cycles a step of 32 tokens", yscale="log", title="sizes of the accelerator"
    )
    for n, tokens in enumerate(dict.fromkeys(row["tokens"] for row in models)):
        rows = [row for row in models if row["tokens"] == tokens]
        right.scatter(
            [row["bram36"] for row in rows],
            [row["cycles"] for row in rows],
            s=20,
            color=f"C{n}",
            label=f"{tokens} tokens",
        )
        inside = [row for row in rows if row["fits"]]
        right.scatter(
            [row["bram36"] for row in inside],
            [row["cycles"] for row in inside],
            s=60,
            facecolors="none",
            edgecolors="black",
        )
    right.axvline(U50_USABLE.bram36, color="crimson", linewidth=1, label="usable BRAM36")
    title = "2, 4, 6 blocks, ranks 4 to 48, default accelerator (ringed: fits)"
    right.set(xlabel="BRAM36", xscale="log", ylabel="cycles a step", yscale="log", title=title)
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    save(figure, path)


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(CycleSweep, prog="python -m experiments.cycle_sweep").run())


if __name__ == "__main__":
    sys.exit(main())
