"""What the studies of accuracy share: options of their trainings, and rows of scores.

The trainings themselves are in ``processes``, the files that keep the rows in ``files``.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from experiments.files import Row
from experiments.processes import Job, Result, finished, log_of, other_code, train_all
from ttjax.config import ModelConfig, preset
from ttjax.data import Corpus
from ttjax.errors import UserError, check_count
from ttjax.output import Output, user_cache
from ttjax.picture import save, subplots
from ttjax.recipe import Recipe


class Trained(NamedTuple):
    """What came of a study's trainings; failures: of each that failed its label, log and reason."""

    results: dict[Job, Result]
    failures: list[str]

    def of(self, jobs: Sequence[Job]) -> list[Result]:
        """The results of one model's jobs; none where one of them failed, as a mean would miss that seed."""
        return [self.results[job] for job in jobs] if all(job in self.results for job in jobs) else []

    def check(self) -> None:
        """To be called last, when what was trained is written.

        Raises:
            UserError: names the trainings that failed.
        """
        if self.failures:
            all_of_them = len(self.results) + len(self.failures)
            raise UserError(
                f"{len(self.failures)} of {all_of_them} trainings failed, the others are kept: "
                + "; ".join(self.failures)
            )


@dataclass(frozen=True)
class RunOptions:
    """Options by which every study chooses how its models are trained, and where it can go on."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Each model is trained once for each; scores are means over them."""
    recipe: tuple[str, ...] = ()
    """Changes to the recipe that `ttjax train` has by itself, such as: epochs=8 word_dropout=0.1"""
    data: str | None = None
    """Corpus, as for `ttjax train`."""
    limit: int | None = None
    """Train on the first so many training sentences only."""
    jobs: int = 1
    """Trainings at a time, each on a core of its own."""
    runs: Path | None = None
    """Folder for the trainings; those that are done or begun there are not begun anew. Default:
    ttjax/experiments in the user's cache."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"--seeds: expected one or more different numbers, found {self.seeds}")
        if self.limit is not None:
            check_count("--limit", self.limit)
        cores = len(os.sched_getaffinity(0))
        if not 1 <= self.jobs <= cores:
            raise UserError(f"--jobs: expected 1 to {cores}, the cores there are to use, found {self.jobs}")

    def jobs_for(
        self, name: str, corpus: Corpus, changes: Mapping[str, Any] | None = None, note: str = ""
    ) -> list[Job]:
        """A job for each seed: the preset and the recipe with ``changes``, by field of either.

        Raises:
            UserError: an unknown preset or field, or values that don't fit.
        """
        asked = dict(_parsed(text) for text in self.recipe) | dict(changes or {})
        of_config = {k: v for k, v in asked.items() if k in ModelConfig.__dataclass_fields__}
        of_recipe = {k: v for k, v in asked.items() if k not in of_config}
        config = preset(name).replace(**of_config)
        for field in of_recipe:
            _check_field(field)
        # Written out: with another default, later, it is another job.
        recipe = Recipe(**of_recipe).written_out(config.format)
        sentences = len(corpus.train[: self.limit])
        return [
            Job(name, config, of_seed, self.data, corpus.digest, sentences, note)
            for of_seed in (dataclasses.replace(recipe, seed=seed) for seed in self.seeds)
        ]

    def train(self, jobs: Sequence[Job], out: Output) -> Trained:
        """The results of all jobs, after training those that have none yet; one that fails stops no other."""
        folder = self.runs or user_cache() / "experiments"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--runs: can't make the folder {folder} ({error.strerror}): choose another"
            ) from error
        wanted = list(dict.fromkeys(jobs))
        before = {job: finished(job, folder) for job in wanted}
        missing = [job for job, result in before.items() if result is None]
        by = other_code(commit for result in before.values() if result for commit in result["commits"])
        out.say(f"trainings: {len(wanted)}, of which {len(wanted) - len(missing)} are done{by}, in {folder}")
        failed = train_all(missing, folder, self.jobs, out)
        results = before | {job: finished(job, folder) for job in missing}
        return Trained(
            {job: result for job, result in results.items() if result is not None},
            [f"{job.label} ({log_of(job, folder)}): {why}" for job, why in failed],
        )


def _check_field(name: str) -> dataclasses.Field[Any]:
    fields = Recipe.__dataclass_fields__
    if name == "seed" or name not in fields:
        known = ", ".join(field for field in fields if field != "seed")
        raise UserError(f"recipe: expected one of {known} (and --seeds for seeds), found {name!r}")
    return fields[name]


def _parsed(text: str) -> tuple[str, Any]:
    """A field of the recipe and its value, which is of the kind that the field's default is."""
    name, sign, value = text.partition("=")
    default = _check_field(name).default if sign else None
    kind = float if default is None else type(default)
    try:
        if not sign:
            raise ValueError
        return name, {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"--recipe: expected FIELD=VALUE with a {kind.__name__} for its value, found {text!r}"
        ) from error


def describe(results: Sequence[Result]) -> Row:
    """What trainings of one model with different seeds were: model, recipe, data, code and machines."""
    first = results[0]
    recipe = {name: value for name, value in first["recipe"].items() if name != "seed"}
    machines = [{"cpu": result["cpu"], **result["versions"]} for result in results]
    return {
        "preset": first["preset"],
        "format": first["format"],
        "parameters": first["parameters"],
        "seeds": [result["seed"] for result in results],
        "epochs": len(first["epochs"]),
        "commit": "+".join(dict.fromkeys(commit for result in results for commit in result["commits"])),
        "data": first["data"],
        "recipe": recipe,
        "machines": [machine for i, machine in enumerate(machines) if machine not in machines[:i]],
    }


def mean_scores(scores: Sequence[Mapping[str, Any]], prefix: str = "") -> Row:
    """Of one dict of scores for each seed: means in percent, and the lowest and the highest."""
    row: Row = {}
    for name, key in (("intent", "intent_accuracy"), ("slot_f1", "slot_f1")):
        of_seeds = [100 * score[key] for score in scores]
        row[prefix + name] = mean(of_seeds)
        row[f"{prefix}{name}_range"] = extent(of_seeds)
    return row


def mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def extent(values: Sequence[float]) -> list[float]:
    return [round(min(values), 4), round(max(values), 4)]


def seeds_told(rows: Sequence[Row]) -> str:
    """Which seeds a table's or a plot's rows are means over."""
    found = dict.fromkeys(", ".join(map(str, row["seeds"])) for row in rows)
    return " or ".join(f"seed{'s' if ',' in seeds else ''} {seeds}" for seeds in found)


def draw(path: Path, panels: int, fill: Callable[[Any], None], title: str) -> None:
    """A plot of so many panels side by side, whose axes ``fill`` gets."""
    figure, axes = subplots(1, panels, figsize=(10, 4.5))
    figure.suptitle(title, fontsize=10)
    fill(axes)
    save(figure, path)
