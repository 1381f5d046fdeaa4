"""ATIS epochs on the kernel in C simulation, with JAX's own training beside it: accuracy of both, and drift.

python -m experiments.train_on_kernel --seeds 0 1 2 3 4 --out experiments/results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.table import Table

from experiments.files import check_replaceable, options_of
from experiments.processes import Job, other_code
from experiments.runs import RunOptions, extent, mean
from fpga_bridge.cli import main as fpga_bridge_command
from fpga_bridge.training.report import NAME as TRAINING
from fpga_bridge.training.report import POINTS, SCORES, passes
from ttjax.cli import exit_status
from ttjax.data import load_corpus
from ttjax.errors import UserError
from ttjax.output import Output, replace_file, user_cache, write_json
from ttjax.picture import check_results_folder

MINUTES = 40.0  # five seeds, one at a time
NAME = "train_on_kernel"


@dataclass(frozen=True)
class TrainOnKernel:
    """Train the same epochs on the kernel and on JAX, with each seed; scores of both after the last epoch.

    Two trainings in float32 part as soon as a rounding differs: a single pair of them shows noise, the mean
    over seeds whether one is worse. Seeds that are done are not done again.

    Examples: python -m experiments.train_on_kernel --seeds 0 1 2 3 4
              python -m experiments.train_on_kernel --preset tiny --data travel --seeds 0 --epochs 2 --out .
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each is one training on the kernel and one on JAX, from the same start on the same sentences."""
    preset: str = "enc2"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    epochs: int = 10
    """Epochs of each training, the length of its schedule."""
    data: str | None = None
    """Corpus, as for `ttjax train`."""
    limit: int | None = None
    """Train on the first so many training sentences only."""
    out: Path = Path("experiments/results")
    """Existing folder for train_on_kernel.json: every seed's differences and their mean, and the first seed's
    drift and scores as train_on_kernel.png."""
    runs: Path | None = None
    """Folder for each seed's own files. Default: ttjax/train_on_kernel in the user's cache."""

    def run(self) -> int:
        """Train, print, write; returns exit status 0."""
        out = Output(None)
        check_results_folder(self.out)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise UserError(f"--seeds: expected different numbers, found {' '.join(map(str, self.seeds))}")
        corpus = load_corpus(self.data, notify=out.say)
        options = options_of(self, corpus)
        check_replaceable(self.out / f"{NAME}.json", options)
        trainings = RunOptions(self.seeds, (f"epochs={self.epochs}",), self.data, self.limit)
        # What `fpga-bridge train` makes of these: another recipe, model or corpus is another job.
        jobs = trainings.jobs_for(self.preset, corpus)
        done = [folder for job in jobs if _done(folder := self._folder(job))]
        by = other_code(_result(folder)["commit"] for folder in done)
        out.say(f"trainings: {len(jobs)}, of which {len(done)} are done{by}")
        folders = [self._trained(job) for job in jobs]
        found = [_result(folder) for folder in folders]
        replace_file(self.out / f"{NAME}.png", (folders[0] / f"{TRAINING}.png").read_bytes())
        summary = {"options": options, **summarised(found)}
        write_json(self.out / f"{NAME}.json", summary)
        out.console.print(table(summary))
        out.say(f"written: {self.out / NAME}.json, {self.out / NAME}.png")
        return 0

    def _folder(self, job: Job) -> Path:
        return (self.runs or user_cache() / NAME) / job.name

    def _trained(self, job: Job) -> Path:
        """The folder with what `fpga-bridge train` writes, after it has run unless it had before."""
        folder = self._folder(job)
        if not _done(folder):
            folder.mkdir(parents=True, exist_ok=True)
            options = ["--preset", self.preset, "--epochs", str(self.epochs), "--device", "csim"]
            options += [] if self.data is None else ["--data", self.data]
            options += [] if self.limit is None else ["--limit", str(self.limit)]
            seed = job.recipe.seed
            status = fpga_bridge_command(["train", *options, "--seed", str(seed), "--out", str(folder)])
            if status == 130:
                raise KeyboardInterrupt
            if status:
                raise UserError(f"the training with seed {seed} ended with status {status}, see above")
        return folder


def _done(folder: Path) -> bool:
    return (folder / f"{TRAINING}.png").exists()  # the last that is written


def _result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / f"{TRAINING}.json").read_text())


def summarised(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Scores of each seed's trainings in %, the device's minus JAX's, and whether their means pass.

    Raises:
        UserError: the trainings are not of one kind, such as of other versions.
    """
    common, *others = map(_common, found)
    for one, other in zip(found[1:], others, strict=True):
        if differ := [name for name in common if common[name] != other[name]]:
            raise UserError(
                f"trainings with the seeds {found[0]['seed']} and {one['seed']}: expected the same"
                f" {', '.join(differ)}, found different ones: train all anew, with another --runs"
            )
    seeds = [
        {
            "seed": one["seed"],
            "commit": one["commit"],
            "device": {name: round(100 * one["test"][name], 4) for name in SCORES},
            "jax": {name: round(100 * one["jax"]["test"][name], 4) for name in SCORES},
            "difference": {split: one["compared"][split] for split in ("dev", "test")},
            "epochs": one["epochs"],
        }
        for one in found
    ]
    means: dict[str, Any] = {}
    for split in ("dev", "test"):
        points = {name: [seed["difference"][split][name] for seed in seeds] for name in SCORES}
        means[split] = {name: mean(values) for name, values in points.items()}
        means[split]["passed"] = passes(means[split])
        means[split] |= {f"{name}_range": extent(values) for name, values in points.items()}
    return {**common, "difference": means, "seeds": seeds}


def _common(one: dict[str, Any]) -> dict[str, Any]:
    """What all seeds' trainings have in common: the recipe too, but for the seed."""
    names = ("preset", "data", "recipe", "config", "versions", "device", "simulated")
    common = {name: one[name] for name in names}
    return common | {"recipe": {name: value for name, value in one["recipe"].items() if name != "seed"}}


def table(summary: dict[str, Any]) -> Table:
    """The device's scores minus JAX's: a row for each seed, and their mean."""
    title = f"{summary['preset']}: {summary['device']} − JAX after the last epoch, in points"
    shown = Table("seed", title=title, title_style="", box=box.SIMPLE_HEAD)
    shown.caption = f"passed: both means are within {POINTS:g} points"
    shown.caption_style = ""
    for split in summary["difference"]:
        for name in SCORES.values():
            shown.add_column(f"{split} {name}", justify="right")
    rows = [(str(seed["seed"]), seed["difference"]) for seed in summary["seeds"]]
    for name, of_row in [*rows, ("mean", summary["difference"])]:
        shown.add_row(name, *(f"{of_row[split][score]:+.2f}" for split in of_row for score in SCORES))
    shown.add_section()
    verdicts = [
        "passed" if of_split["passed"] else "not passed" for of_split in summary["difference"].values()
    ]
    shown.add_row("", *(cell for verdict in verdicts for cell in (verdict, "")))
    return shown


def main(args: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return exit_status(
        lambda: tyro.cli(TrainOnKernel, prog="python -m experiments.train_on_kernel", args=args).run()
    )


if __name__ == "__main__":
    sys.exit(main())
