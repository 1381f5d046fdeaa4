"""What each choice of the training recipe is worth: each one switched off alone, scored on dev.

python -m experiments.ablation --seeds 0 1 2 --jobs 2 --out experiments/results
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.table import Table

from experiments.files import Row, check_replaceable, options_of
from experiments.processes import Result
from experiments.runs import RunOptions, describe, draw, extent, mean, mean_scores, seeds_told
from ttjax.cli import exit_status
from ttjax.config import Format
from ttjax.data import load_corpus
from ttjax.errors import UserError
from ttjax.output import Output, write_json
from ttjax.picture import check_results_folder

MINUTES = 220.0  # one training at a time, estimated from the time of an epoch

# What is changed, by field of ttjax.recipe.Recipe or ttjax.ModelConfig. A line more is a variant more.
VARIANTS: dict[str, dict[str, Any]] = {
    "no exchanged values": {"exchange": 0.0},
    "no recombined sentences": {"recombine": 0.0},
    "no other openings": {"reopen": 0.0},
    "digits as they are": {"hide_digits": False},
    "no word dropout": {"word_dropout": 0.0},
    "sentences as they are": {"exchange": 0.0, "recombine": 0.0, "reopen": 0.0, "word_dropout": 0.0},
    "no average of epochs": {"average": 0.0},
    "no warm-up": {"warm_up": 0.0},
    "constant learning rate": {"schedule": "constant"},
    "slot weight 1": {"slot_weight": 1.0},
}
FULL = "full recipe"
SCORES = {"intent": "intent_accuracy", "slot_f1": "slot_f1"}


@dataclass(frozen=True)
class Ablation:
    """Train the full recipe and each variant of it with the same seeds; scores are on dev, test is not used.

    Differences are between trainings of the same seed, after the last epoch. Each run of the same options
    writes the files anew; trainings that are done are not done again.

    Examples: python -m experiments.ablation --seeds 0
              python -m experiments.ablation --variants "no warm-up" "slot weight 1" --jobs 2 --out .
    """

    preset: str = "enc2"
    """Model: enc2, enc4, enc6 (the paper's) or tiny."""
    format: Format = "tt"
    """tt or dense."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Names of the variants, as in VARIANTS at the top of the module."""
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = field(default_factory=RunOptions)
    out: Path = Path("experiments/results")
    """Existing folder for ablation.json and ablation.png."""

    def run(self) -> int:
        """Train, print, draw, write; returns exit status 0.

        Raises:
            UserError: trainings failed; the other variants are written, unless the full recipe's failed.
        """
        out = Output(None)
        check_results_folder(self.out)
        for name in self.variants:
            if name not in VARIANTS:
                raise UserError(f"--variants: expected some of {', '.join(VARIANTS)}, found {name!r}")
        corpus = load_corpus(self.options.data, notify=out.say)
        options = options_of(self, corpus)
        check_replaceable(self.out / "ablation.json", options)
        changes = {FULL: {}} | {name: VARIANTS[name] for name in self.variants}
        jobs = {
            name: self.options.jobs_for(self.preset, corpus, {"format": self.format} | of_name, name)
            for name, of_name in changes.items()
        }
        same = [name for name in self.variants if jobs[name] == jobs[FULL]]
        if same:
            out.say(f"left out, since the recipe is so already: {', '.join(same)}")
        jobs = {name: of_name for name, of_name in jobs.items() if name not in same}
        trained = self.options.train([job for of_name in jobs.values() for job in of_name], out)
        full = trained.of(jobs[FULL])
        if not full:
            trained.check()
        rows = [
            {"variant": name, "changes": changes[name]} | _row(results, full)
            for name, of_name in jobs.items()
            if (results := trained.of(of_name))
        ]
        title = f"{self.preset} {self.format} on {corpus.name}"
        out.console.print(_table(rows, title))
        write_json(self.out / "ablation.json", {"options": options, "rows": rows})
        _draw(rows, title, self.out / "ablation.png")
        out.say(f"written: {self.out / 'ablation.json'}, {self.out / 'ablation.png'}")
        trained.check()
        return 0


def _row(results: Sequence[Result], full: Sequence[Result]) -> Row:
    """A variant's scores on dev, and what they are more than the full recipe's with the same seed."""
    of_seeds, of_full = ([result["epochs"][-1]["dev"] for result in rs] for rs in (results, full))
    row = describe(results) | mean_scores(of_seeds, "dev_")
    for name, key in SCORES.items():
        more = [100 * (a[key] - b[key]) for a, b in zip(of_seeds, of_full, strict=True)]
        row |= {f"{name}_difference": mean(more), f"{name}_difference_range": extent(more)}
    return row


def _table(rows: Sequence[Row], title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("recipe", no_wrap=True)
    for column in ("intent", "more", "F1", "more"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for name in SCORES:
            low, high = row[f"{name}_difference_range"]
            difference = f"{row[f'{name}_difference']:+.2f} {low:+.2f}…{high:+.2f}"
            cells += [f"{row[f'dev_{name}']:.2f}", "" if row["variant"] == FULL else difference]
        table.add_row(row["variant"], *cells)
    table.title = (
        f"{title}, dev, in %: mean over seeds {', '.join(map(str, rows[0]['seeds']))};\n"
        "and more than the full recipe with the same seed, lowest…highest"
    )
    table.title_style = ""
    return table


def _draw(rows: Sequence[Row], title: str, path: Path) -> None:
    variants = [row for row in rows if row["variant"] != FULL][::-1]

    def fill(panels: Any) -> None:
        for axes, (name, label) in zip(
            panels, (("intent", "intent accuracy"), ("slot_f1", "slot F1")), strict=True
        ):
            differences = [row[f"{name}_difference"] for row in variants]
            spans = [row[f"{name}_difference_range"] for row in variants]
            low = [max(0.0, d - span[0]) for d, span in zip(differences, spans, strict=True)]
            high = [max(0.0, span[1] - d) for d, span in zip(differences, spans, strict=True)]
            # One seed has no range: whiskers of no length would look like certainty.
            several = any(len(row["seeds"]) > 1 for row in variants)
            whiskers = {"xerr": [low, high], "capsize": 3} if several else {}
            axes.barh([row["variant"] for row in variants], differences, **whiskers)
            axes.locator_params(axis="x", nbins=6)
            axes.axvline(0, color="gray", linewidth=0.8)
            axes.set_xlabel(f"{label} on dev, points more than the full recipe")
        panels[1].set_yticklabels([])

    draw(path, len(SCORES), fill, f"{title}, {seeds_told(rows)}")


def main() -> int:
    """Run the study; returns the exit status."""
    return exit_status(lambda: tyro.cli(Ablation, prog="python -m experiments.ablation").run())


if __name__ == "__main__":
    sys.exit(main())
