"""The command `ttjax train`: its options, and what a checkpoint to go on from makes of them.

The run itself is in ``training_run``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ttjax.checkpoint import check_same, read_checkpoint
from ttjax.cli_model import ModelArgs
from ttjax.contraction import checked_flow
from ttjax.data import load_corpus
from ttjax.errors import UserError, check_count
from ttjax.output import Output, check_apart, check_file
from ttjax.picture import check_picture
from ttjax.recipe import Recipe
from ttjax.training_picture import draw_training
from ttjax.training_run import Run, TrainingPlan

# Options whose field of the recipe has another name.
_RECIPE_NAMES = {"lr": "peak_learning_rate", "schedule_epochs": "epochs"}
_RECIPE_OPTIONS = (
    "optimizer",
    "schedule",
    "lr",
    "schedule_epochs",
    "warm_up",
    "hide_digits",
    "exchange",
    "recombine",
    "reopen",
    "word_dropout",
    "average",
    "seed",
    "flow",
)
# Options of the model that say how its tensors are factored, with --flow.
_TENSOR_ONLY = ("in_modes", "out_modes", "rank", "tt_ranks", "embed_modes", "embedding_rank", "ttm_ranks")


@dataclass(frozen=True)
class Train:
    """Train a model at batch 1, scoring dev after each epoch and test at the end.

    Examples: ttjax train --preset enc2 --epochs 16 --json results.json
              ttjax train --preset enc2 --format dense --data travel --epochs 1 --limit 300
              ttjax train --epochs 1 --schedule-epochs 2 --checkpoint run.safetensors
              ttjax train --resume run.safetensors --epochs 2
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=lambda: ModelArgs(preset=""))
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS if it is cached or can be
    fetched, else travel, which is synthetic."""
    flow: str | None = None
    """Contraction flow of the TT layers: bidirectional (default), planned, right_to_left or dense."""
    optimizer: str | None = None
    """sgd (default), momentum, nesterov, adam, adamw, nadam, rmsprop, adagrad or lion."""
    schedule: str | None = None
    """Learning rate after the warm-up: linear (to 0, default), cosine (to 0) or constant."""
    lr: float | None = None
    """Peak learning rate. Default: 7e-3, dense 2e-3; for other optimizers than sgd a usual value."""
    warm_up: float | None = None
    """Epochs in which the learning rate rises to its peak. Default: 2, or half of them if that is less."""
    epochs: int | None = None
    """Train until so many epochs are done. Default: 40; resuming, all that the schedule is made for."""
    schedule_epochs: int | None = None
    """Epochs that the schedule is made for, where that is more than --epochs, the default."""
    hide_digits: bool | None = None
    """Read words with # for each digit. Default: yes."""
    exchange: float | None = None
    """Share of the slots' values replaced by others of their kind, drawn anew in each epoch. Default: 0.5."""
    recombine: float | None = None
    """Share of the sentences that end as another one of their intent does, drawn anew in each epoch.
    Default: 0.25."""
    reopen: float | None = None
    """Share of the sentences that begin in another way of the same meaning, drawn anew in each epoch.
    Default: 0.5."""
    word_dropout: float | None = None
    """Share of the words replaced by the unknown word, drawn anew in each epoch. Default: 0.05."""
    average: float | None = None
    """The last epochs, as a share of all, whose parameters are averaged into those that are scored.
    Default: 0.1."""
    seed: int | None = None
    """Of the parameters' start, the order of sentences and the words replaced. Same seed, same result.
    Default: 0."""
    limit: int | None = None
    """Train on the first so many training sentences only."""
    checkpoint: str | None = None
    """File to save the run to after each epoch, with the parameters best on dev (by intent accuracy plus
    slot F1). Default: none; resuming, the file resumed."""
    resume: str | None = None
    """Checkpoint to go on from, to the same bits as without a break. The model, the data and every other
    option are the checkpoint's; those that are given must be the same."""
    picture: Path | None = None
    """File for loss and scores by epoch as a picture (.png, .svg or .pdf)."""
    json: str | None = None
    """File for the results as JSON; - for standard output."""

    def run(self) -> int:
        """Train, print, write the JSON, draw; returns exit status 0."""
        out = Output(self.json)
        plan = self.plan()
        run = Run.of(plan, load_corpus(plan.data, notify=out.say))
        for line in run.facts():
            out.say(line)
        self._finish(run.train(out), out)
        return 0

    def _finish(self, results: dict[str, Any], out: Output) -> None:
        """Writes what was asked for, the figures first."""
        out.write_json(results)
        if self.picture is not None:
            draw_training(results, self.picture)
            out.say(f"picture: {self.picture}")

    def plan(self) -> TrainingPlan:
        """The options, checked as far as they can be without the data.

        Raises:
            UserError: a number out of range, options that don't fit together or the checkpoint resumed, or a
                picture that can't be drawn.
        """
        if self.picture is not None:
            check_picture(self.picture, "--picture")
        for name in ("epochs", "schedule_epochs", "limit"):
            if (value := getattr(self, name)) is not None:
                check_count(f"--{name.replace('_', '-')}", value)
        check_apart(self._results(), self._inputs())
        return self._resumed(self.resume) if self.resume is not None else self._fresh()

    def _results(self) -> list[tuple[str, str | Path | None]]:
        """The files that are written at the end, with the option that names each."""
        return [("--json", self.json), ("--picture", self.picture)]

    def _inputs(self) -> list[tuple[str, str | Path | None]]:
        """The files that results must leave alone, with the option that names each."""
        return [("--checkpoint", self.checkpoint), ("--resume", self.resume)]

    def _given(self) -> dict[str, Any]:
        """The recipe's fields that options give."""
        if self.flow is not None:
            checked_flow(self.flow)
        given = {_RECIPE_NAMES.get(name, name): getattr(self, name) for name in _RECIPE_OPTIONS}
        return {name: value for name, value in given.items() if value is not None}

    def _fresh(self) -> TrainingPlan:
        """What to do without a checkpoint to go on from."""
        model = self.model if self.model.preset else dataclasses.replace(self.model, preset="enc2")
        config, epochs = model.config(), Recipe.epochs if self.epochs is None else self.epochs
        if config.format == "dense":
            self._check_dense()
        recipe = Recipe(**{"epochs": epochs, **self._given()})
        if recipe.epochs < epochs:
            raise UserError(
                f"--schedule-epochs: expected at least {epochs}, the epochs to train, found {recipe.epochs}"
            )
        # Written down, so that a run made longer or resumed by a later version keeps what it began with.
        written = recipe.written_out(config.format)
        return TrainingPlan(
            model.preset, config, written, epochs, self.data, self.limit, self._target(None), resumed=None
        )

    def _check_dense(self) -> None:
        """Nothing of a dense model depends on these: who gives one expects a tensor model."""
        given = [name for name in _TENSOR_ONLY if getattr(self.model, name) is not None]
        given += [] if self.flow is None else ["flow"]
        if given:
            raise UserError(
                f"--{given[0].replace('_', '-')}: expected a tensor model, found --format dense: leave"
                " one out"
            )

    def _resumed(self, path: str) -> TrainingPlan:
        """What is left to do of the checkpoint's run."""
        before = read_checkpoint(path)
        asked = self.model.config(None if self.model.preset else before.config)
        # The labels come with the data, which is compared when it is there.
        labels = {"n_intents": before.config.n_intents, "n_slots": before.config.n_slots}
        check_same(path, "model", before.config, asked.replace(**labels))
        check_same(path, "recipe", before.recipe, dataclasses.replace(before.recipe, **self._given()))
        epochs = before.recipe.epochs if self.epochs is None else self.epochs
        if epochs < before.state.epoch:
            raise UserError(
                f"--epochs: expected at least {before.state.epoch}, which {path} has done, found {epochs}"
            )
        if self.checkpoint is None and epochs > before.state.epoch:
            check_file(Path(path))  # a run that is done is scored wherever it lies
        return TrainingPlan(
            self.model.preset or before.preset,
            before.config,
            before.recipe.until(epochs),
            epochs,
            before.data.given if self.data is None else self.data,
            before.data.train_sentences if self.limit is None else self.limit,
            self._target(path),
            resumed=(path, before),
        )

    def _target(self, resumed: str | None) -> Path | None:
        """The file to save to; another's is not written over."""
        if self.checkpoint is None:
            return None if resumed is None else Path(resumed)
        target = check_file(Path(self.checkpoint))
        if target.exists() and (resumed is None or not target.samefile(resumed)):
            raise UserError(
                f"--checkpoint: expected no file at {self.checkpoint} yet, found one: go on from it with"
                " --resume, remove it, or choose another path"
            )
        return target
