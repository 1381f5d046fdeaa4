"""Accuracy on ATIS by epoch, of tensor and dense models of 2, 4 and 6 blocks, and against the TT rank.

python -m experiments.accuracy --formats tt --blocks 2 --jobs 2 --out experiments/results
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich import box
from rich.table import Table

from experiments.files import Row, RowFile, recipe_changes
from experiments.processes import Job, Result
from experiments.runs import RunOptions, describe, draw, extent, mean, mean_scores, seeds_told
from ttjax.cli import exit_status
from ttjax.config import Format
from ttjax.data import Corpus, load_corpus
from ttjax.errors import UserError
from ttjax.output import Output
from ttjax.picture import check_results_folder

MINUTES = 215.0  # one training at a time, estimated from the time of an epoch

POINTS_SHOWN = 20  # percentage points below the best that the plot by epoch reaches down to
SCORES = {"intent": "intent accuracy", "slot_f1": "slot F1"}
Study = Literal["epoch", "rank"]


@dataclass(frozen=True)
class Accuracy:
    """Train with each seed, score dev after each epoch and test after the last.

    The epoch scored on test is the last one, whatever its scores on dev; beside it stands the epoch that
    is best on dev. Rows of other models and of other recipes stay in the files; the plots
    are of the recipe of this run.

    Examples: python -m experiments.accuracy --studies epoch --blocks 2 --jobs 2
              python -m experiments.accuracy --preset tiny --data travel --seeds 0 --ranks 2 3 --out .
    """

    studies: tuple[Study, ...] = ("epoch", "rank")
    """epoch: each of --blocks in each of --formats, by epoch. rank: the first of --blocks in the tensor
    format, at each of --ranks."""
    formats: tuple[Format, ...] = ("tt",)
    """tt, dense or both. Dense takes several times as long."""
    blocks: tuple[int, ...] = (2, 4, 6)
    """Encoder blocks: those of the paper's models, 2, 4 and 6."""
    preset: str | None = None
    """One preset in place of those of --blocks, such as tiny for a trial."""
    ranks: tuple[int, ...] = (4, 8, 12, 24)
    """TT ranks of the linear layers; the embedding keeps its own. At 48 the recipe's peak diverges."""
    options: Annotated[RunOptions, tyro.conf.arg(name="")] = field(default_factory=RunOptions)
    out: Path = Path("experiments/results")
    """Existing folder for accuracy.json, accuracy_by_epoch.* and accuracy_by_rank.*."""

    def run(self) -> int:
        """Train, print, draw, write; returns exit status 0.

        Raises:
            UserError: trainings failed; the models all of whose seeds are trained have been written.
        """
        out, options = Output(None), self.options
        check_results_folder(self.out)
        for name in ("studies", "formats", "blocks", "ranks"):
            if not getattr(self, name):
                raise UserError(f"--{name}: expected one or more, found none")
        corpus = load_corpus(options.data, notify=out.say)
        files = self._files(corpus)
        by_epoch, by_rank = self._models(corpus)
        trained = options.train([job for jobs in [*by_epoch, *by_rank.values()] for job in jobs], out)
        final = files["accuracy"].rows()
        if models := [results for jobs in by_epoch if (results := trained.of(jobs))]:
            rows = [_row(results) for results in models]
            final = files["accuracy"].add(rows, out)
            curves = [row | {"by_epoch": _curve(results)} for row, results in zip(rows, models, strict=True)]
            curves = files["accuracy_by_epoch"].add(curves, out)
            _draw_epochs(curves, recipe_changes(rows[0]), self.out / "accuracy_by_epoch.png")
            out.console.print(_table(final, corpus))
        if ranks := {rank: results for rank, jobs in by_rank.items() if (results := trained.of(jobs))}:
            rows = [{"rank": rank} | _row(results) for rank, results in ranks.items()]
            recipe = recipe_changes(rows[0])
            rows = files["accuracy_by_rank"].add(rows, out)
            _draw_ranks(rows, final, recipe, self.out / "accuracy_by_rank.png")
            out.console.print(_table(rows, corpus))
        trained.check()
        return 0

    def _files(self, corpus: Corpus) -> dict[str, RowFile]:
        """Read before the training: what can't be added to is refused then."""
        keys = {
            "accuracy": ("preset", "format"),
            "accuracy_by_epoch": ("preset", "format"),
            "accuracy_by_rank": ("preset", "rank"),
        }
        return {
            name: RowFile(self.out / f"{name}.json", of_name, corpus, self.options.limit)
            for name, of_name in keys.items()
        }

    def _models(self, corpus: Corpus) -> tuple[list[list[Job]], dict[int, list[Job]]]:
        """The trainings by epoch, and those by rank; in each list one model, with all seeds."""
        presets = [f"enc{n}" for n in self.blocks] if self.preset is None else [self.preset]
        by_epoch = [
            self.options.jobs_for(preset, corpus, {"format": form})
            for form in self.formats
            for preset in presets
        ]
        tensor = self.options.jobs_for(presets[0], corpus, {"format": "tt"})[0].config
        by_rank = {
            rank: self.options.jobs_for(presets[0], corpus, {"tt_ranks": tensor.with_rank(rank).tt_ranks})
            for rank in sorted(set(self.ranks))
        }
        return by_epoch if "epoch" in self.studies else [], by_rank if "rank" in self.studies else {}


def _row(results: Sequence[Result]) -> Row:
    """Scores on test of one model trained with several seeds, after the last epoch and at the best on dev."""
    best = [result["best"] for result in results]
    return {
        **describe(results),
        **mean_scores([result["test"] for result in results]),
        **mean_scores([result["epochs"][-1]["dev"] for result in results], "dev_"),
        "best_on_dev": {
            "epochs": [of_seed["epoch"] for of_seed in best],
            **mean_scores([of_seed["test"] for of_seed in best]),
            **mean_scores([of_seed["dev"] for of_seed in best], "dev_"),
        },
    }


def _curve(results: Sequence[Result]) -> list[Row]:
    """For each epoch what all seeds have in the mean: the loss, and scores on dev."""
    return [
        {
            "epoch": epochs[0]["epoch"],
            "loss": mean([epoch["loss"] for epoch in epochs]),
            "loss_range": extent([epoch["loss"] for epoch in epochs]),
            **mean_scores([epoch["dev"] for epoch in epochs], "dev_"),
        }
        for epochs in zip(*(result["epochs"] for result in results), strict=True)
    ]


def _table(rows: Sequence[Row], corpus: Corpus) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for column in ("params", "intent", "slot F1", "best on dev"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        best = row["best_on_dev"]
        rank = f" rank {row['rank']}" if "rank" in row else ""
        table.add_row(
            "\n  ".join([f"{row['preset']} {row['format']}{rank}", *recipe_changes(row).split()]),
            f"{row['parameters']:,}",
            *(f"{row[name]:.2f}{_span(row, name)}" for name in SCORES),
            f"{best['intent']:.2f} {best['slot_f1']:.2f}",
        )
    table.title = (
        f"test of {corpus.name} after the last epoch, in %: mean over seeds,\n"
        "lowest to highest; beside it the epoch best on dev"
    )
    table.title_style = ""
    return table


def _span(row: Row, name: str) -> str:
    """Lowest to highest, where there are several seeds."""
    low, high = row[f"{name}_range"]
    return f" {low:.1f}–{high:.1f}" if len(row["seeds"]) > 1 else ""


def _drawn(rows: Sequence[Row], recipe: str) -> list[Row]:
    """A plot is of one recipe, as ``recipe_changes`` tells it: several would cover each other."""
    return [row for row in rows if recipe_changes(row) == recipe]


def _title(rows: Sequence[Row], split: str, recipe: str) -> str:
    changes = f", recipe with {recipe}" if recipe else ""
    return f"{rows[0]['data']['name']}, {split}, {seeds_told(rows)}{changes}"


def _draw_epochs(rows: Sequence[Row], recipe: str, path: Path) -> None:
    rows = _drawn(rows, recipe)

    def fill(panels: Any) -> None:
        colors = {preset: f"C{i}" for i, preset in enumerate(dict.fromkeys(row["preset"] for row in rows))}
        for axes, (name, title) in zip(panels, SCORES.items(), strict=True):
            for row in rows:
                epochs = [point["epoch"] for point in row["by_epoch"]]
                low, high = zip(*(point[f"dev_{name}_range"] for point in row["by_epoch"]), strict=True)
                of_seeds = seeds_told([row]) + (", shaded: their range" if len(row["seeds"]) > 1 else "")
                axes.fill_between(epochs, low, high, color=colors[row["preset"]], alpha=0.15, linewidth=0)
                axes.plot(
                    epochs,
                    [point[f"dev_{name}"] for point in row["by_epoch"]],
                    "-" if row["format"] == "tt" else "--",
                    color=colors[row["preset"]],
                    label=f"{row['preset']} {row['format']} ({of_seeds}): test {row[name]:.2f}",
                )
            # The first epochs are far below: what the models differ in would be a line's width.
            best = max(point[f"dev_{name}_range"][1] for row in rows for point in row["by_epoch"])
            axes.set_ylim(bottom=max(axes.get_ylim()[0], best - POINTS_SHOWN))
            axes.set_xlabel("epoch")
            axes.set_ylabel(f"{title} on dev in %")
            axes.legend(fontsize=8)

    draw(path, len(SCORES), fill, _title(rows, "dev", recipe))


def _draw_ranks(rows: Sequence[Row], final: Sequence[Row], recipe: str, path: Path) -> None:
    """``final``: where the dense models are, if they have been trained."""
    rows = _drawn(rows, recipe)
    presets = dict.fromkeys(row["preset"] for row in rows)
    dense = [row for row in _drawn(final, recipe) if row["format"] == "dense" and row["preset"] in presets]

    def fill(panels: Any) -> None:
        for axes, (name, title) in zip(panels, SCORES.items(), strict=True):
            for n, preset in enumerate(presets):
                for of_format, style in ((rows, "o-"), (dense, "s")):
                    if shown := [row for row in of_format if row["preset"] == preset]:
                        _points(axes, shown, name, f"{style}C{n}")
            for n, row in enumerate(rows):
                # By turns above and below, as neighbours are close; upon a steep line, on white.
                place, aside = (row["parameters"], row[name]), (0, 6 if n % 2 else -14)
                options = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
                options["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
                axes.annotate(str(row["rank"]), place, aside, **options)
            axes.margins(y=0.12)
            axes.set_xscale("log")
            axes.set_xlabel("parameters (at each point: TT rank)")
            axes.set_ylabel(f"{title} on test in %")
            # Below, where no point can be.
            axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)

    draw(path, len(SCORES), fill, _title([*rows, *dense], "test", recipe))


def _points(axes: Any, rows: Sequence[Row], name: str, style: str) -> None:
    """The means of one preset and format; of several seeds with whiskers to the lowest and the highest."""
    label = f"{rows[0]['preset']} {rows[0]['format']}"
    axes.plot([row["parameters"] for row in rows], [row[name] for row in rows], style, label=label)
    for row in rows:
        if len(row["seeds"]) > 1:
            low, high = row[f"{name}_range"]
            whiskers = [[max(0.0, row[name] - low)], [max(0.0, high - row[name])]]
            axes.errorbar(
                row["parameters"], row[name], yerr=whiskers, fmt="none", capsize=3, ecolor=style[-2:]
            )


def main() -> int:
    """Run the studies; returns the exit status."""
    return exit_status(lambda: tyro.cli(Accuracy, prog="python -m experiments.accuracy").run())


if __name__ == "__main__":
    sys.exit(main())
