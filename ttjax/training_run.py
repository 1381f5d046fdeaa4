"""A training run from its checked options to its results: the loop, its checkpoints, what it reports.

The functions it calls are pure. A ``Trainer`` does the steps: JAX, or something else in its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import optax
from rich.progress import Progress

from ttjax.batch import Batch
from ttjax.checkpoint import Best, Checkpoint, TrainingData, check_same, save_checkpoint
from ttjax.cli_progress import Watch, epoch_line, progress_bars, results_table
from ttjax.config import ModelConfig
from ttjax.costs import MEGABYTE, model_costs
from ttjax.data import Corpus, Split, Vocabulary, build_vocabulary, config_for, encode
from ttjax.data.exchange import Phrase, exchange_values, values_by_slot
from ttjax.data.openings import exchange_openings, openings
from ttjax.data.recombine import Joint, joints_by_kind, recombine
from ttjax.errors import UserError
from ttjax.evaluate import evaluate
from ttjax.output import Output
from ttjax.params import Params
from ttjax.provenance import code_version, versions
from ttjax.recipe import Recipe
from ttjax.train import TrainState, epoch_batches, start_training, train_epoch


class TrainingPlan(NamedTuple):
    """Checked options. data, limit: as the options; target: where to save; epochs: to have in the end."""

    preset: str
    config: ModelConfig
    recipe: Recipe
    epochs: int
    data: str | None
    limit: int | None
    target: Path | None
    resumed: tuple[str, Checkpoint] | None


class Epoch(NamedTuple):
    """What came of an epoch: the state after it, its losses, and what else is to stand in its row."""

    state: TrainState
    losses: np.ndarray
    more: dict[str, Any]


@runtime_checkable  # for who checks types at run time, as the tests do
class Trainer(Protocol):
    """What does a run's steps and scores its parameters."""

    def train_epoch(self, state: TrainState, watch: Watch) -> Epoch:
        """The run's next epoch, which ``watch`` is told of; the leaves of ``state`` may be donated."""
        ...

    def evaluate(self, params: Params, split: Split, on_chunk: Callable[[int], None]) -> dict[str, Any]:
        """Scores on a split, as ``ttjax.evaluate.evaluate`` gives them."""
        ...


@dataclass(frozen=True)
class Run:
    """A plan with its data; device: where its steps are done."""

    plan: TrainingPlan
    corpus: Corpus
    vocabulary: Vocabulary
    config: ModelConfig
    data: TrainingData
    device: str

    @staticmethod
    def of(plan: TrainingPlan, corpus: Corpus) -> Run:
        """Joins the plan and the data it is for; what a checkpoint was made with must be the same."""
        sentences = len(corpus.train[: plan.limit])
        data, device = TrainingData(plan.data, corpus.name, corpus.digest, sentences), versions()["device"]
        if plan.resumed is None:
            # From the whole training split also under --limit: the model's outputs don't depend on it.
            vocabulary = build_vocabulary(corpus, plan.config.vocab_size, hide_digits=plan.recipe.hide_digits)
            return Run(plan, corpus, vocabulary, config_for(plan.config, vocabulary), data, device)
        path, before = plan.resumed
        check_same(path, "data", before.data, data)
        return Run(plan, corpus, before.vocabulary, plan.config, data, device)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The recipe's; one object, since a step is compiled for each."""
        return self.plan.recipe.optax(self.config, self.data.train_sentences)

    @cached_property
    def _sentences(self) -> Split:
        return self.corpus.train[: self.data.train_sentences]

    @cached_property
    def _values(self) -> dict[str, tuple[Phrase, ...]]:
        return values_by_slot(self._sentences)

    @cached_property
    def _joints(self) -> dict[tuple[str, str], tuple[Joint, ...]]:
        return joints_by_kind(self._sentences)

    @cached_property
    def _openings(self) -> dict[Phrase, tuple[Phrase, ...]]:
        return openings(self._sentences)

    def start(self) -> TrainState:
        """The state before the first epoch."""
        return start_training(self.plan.recipe.seed, self.config, self.optimizer)

    def train(
        self,
        out: Output,
        trainer: Trainer | None = None,
        line: Callable[[dict[str, Any]], str] = epoch_line,
    ) -> dict[str, Any]:
        """Train to the end, saving after each epoch; returns the results for the JSON.

        ``trainer``: JAX by default. ``line`` tells of an epoch's row.
        """
        # Before the hours in which files may change.
        plan, description = self.plan, self._description()
        trainer = JaxTrainer(self) if trainer is None else trainer
        with progress_bars(out) as progress:
            watch = Watch(progress, len(self._sentences), compiles=isinstance(trainer, JaxTrainer))
            if plan.resumed is None:
                state, best, rows = self.start(), None, []
            else:
                before = plan.resumed[1]
                state, best, rows = before.state, before.best, list(before.rows)
                if not self._goes_on_in(plan.target):
                    self._save(state, best, rows, first=True)  # nothing may be left to train
            while best is None or state.epoch < plan.epochs:
                watch.begin(f"epoch {state.epoch + 1}/{plan.epochs}")
                state, losses, more = trainer.train_epoch(state, watch)
                watch.end()
                row = {
                    "epoch": state.epoch,
                    "loss": float(losses.mean()),
                    "train_seconds": watch.seconds,
                    "ms_per_step": watch.ms_per_step,
                    "dev": self._score(trainer, progress, state.average, "dev"),
                    **more,
                }
                rows.append(row)
                if best is None or _merit(row["dev"]) > _merit(best.scores):
                    best = Best(state.average, state.epoch, row["dev"])
                self._save(state, best, rows, first=plan.resumed is None and len(rows) == 1)
                out.say(line(row))
            watch.close()
            test = of_best = self._score(trainer, progress, state.average, "test")
            if best.epoch != state.epoch:
                of_best = self._score(trainer, progress, best.params, "test")
        tests = {f"{state.epoch} test": test, f"{best.epoch} test, best": of_best}
        out.console.print(results_table(plan.preset, self.corpus, rows, tests))
        best_row = {"epoch": best.epoch, "dev": best.scores, "test": of_best}
        return {**description, "epochs": rows, "test": test, "best": best_row}

    def examples(self, state: TrainState) -> Batch:
        """The training sentences as the next epoch sees them, all draws from the seed and its number."""
        recipe, seq_len = self.plan.recipe, self.config.seq_len
        rng = np.random.default_rng([recipe.seed, state.epoch])
        joined = recombine(self._sentences, self._joints, recipe.recombine, seq_len - 1, rng)
        reopened = exchange_openings(joined, self._openings, recipe.reopen, seq_len - 1, rng)
        varied = exchange_values(reopened, self._values, recipe.exchange, seq_len - 1, rng)
        batches = encode(varied, self.vocabulary, seq_len).batch
        return epoch_batches(state.key, state.epoch, batches, recipe.word_dropout)

    def _goes_on_in(self, target: Path | None) -> bool:
        """Whether that is the file of the run resumed."""
        resumed = self.plan.resumed
        return resumed is not None and target is not None and target.exists() and target.samefile(resumed[0])

    def _save(self, state: TrainState, best: Best, rows: list[dict[str, Any]], *, first: bool) -> None:
        """Saves to the target if there is one; the ``first`` time no file may be there."""
        plan = self.plan
        if plan.target is None:
            return
        if first and plan.target.exists():
            raise UserError(
                f"--checkpoint: expected no file at {plan.target} yet, found one that another run has begun"
                " meanwhile: choose another path"
            )
        save_checkpoint(
            plan.target,
            Checkpoint(
                state,
                best,
                plan.preset,
                self.config,
                plan.recipe,
                self.data,
                self.vocabulary,
                rows,
                self._versions(),
            ),
        )

    def facts(self) -> list[str]:
        """What is trained on what, where it isn't obvious: said before the work begins."""
        recipe, config, size = self.plan.recipe, self.config, model_costs(self.config)
        flow = f", flow {recipe.flow}" if config.format == "tt" else ""
        lines = [
            f"model: {self.plan.preset}, {config.format}{flow}, {size.parameters:,} parameters"
            f" ({size.bytes / MEGABYTE:.2f} MB)",
            f"recipe: {recipe.optimizer}, {recipe.schedule} schedule of {recipe.epochs} epochs, the last"
            f" {recipe.averaged(recipe.epochs)} averaged, peak learning rate"
            f" {recipe.peak(config.format):g}, exchanged values {recipe.exchange:g},"
            f" recombined sentences {recipe.recombine:g}, other openings {recipe.reopen:g},"
            f" word dropout {recipe.word_dropout:g}, seed {recipe.seed}",
        ]
        total, dropped = len(self.corpus.train), self.vocabulary.dropped
        if self.data.train_sentences < total:
            lines.append(f"limit: training on the first {self.data.train_sentences} of {total} sentences")
        if dropped:
            lines.append(
                f"vocabulary: {len(dropped)} rare training words beyond {config.vocab_size} read as"
                f" unknown ({', '.join(dropped[:5])}{', …' if len(dropped) > 5 else ''})"
            )
        if self.plan.resumed is not None:
            path, before = self.plan.resumed
            lines.append(f"resume: {path}, {before.state.epoch} epochs done")
            for name, here in self._versions().items():
                there = before.versions.get(name)
                if there != here:
                    lines.append(f"resume: {name} was {there}, is {here}: the same bits are not certain")
        return lines

    def _description(self) -> dict[str, Any]:
        recipe = self.plan.recipe
        return {
            "preset": self.plan.preset,
            "format": self.config.format,
            "flow": recipe.flow,
            "parameters": model_costs(self.config).parameters,
            "data": {
                **self.corpus.identity,
                "train_sentences": self.data.train_sentences,
                "limited": self.data.train_sentences < len(self.corpus.train),
            },
            "seed": recipe.seed,
            "peak_learning_rate": recipe.peak(self.config.format),
            "word_dropout": recipe.word_dropout,
            "recipe": dataclasses.asdict(recipe),
            "config": dataclasses.asdict(self.config),
            "versions": self._versions(),
            "commit": code_version(),
        }

    def _versions(self) -> dict[str, str]:
        return versions() | {"device": self.device}

    def _score(self, trainer: Trainer, progress: Progress, params: Params, name: str) -> dict[str, Any]:
        split = self.corpus.split(name)
        task = progress.add_task(f"scoring {name}", total=len(split), note="")
        scores = trainer.evaluate(params, split, lambda done: progress.update(task, completed=done))
        progress.remove_task(task)
        return scores


@dataclass(frozen=True)
class JaxTrainer:
    """The ``Trainer`` that is JAX: a whole epoch in one compiled loop."""

    run: Run

    def train_epoch(self, state: TrainState, watch: Watch) -> Epoch:
        """The run's next epoch; parameters and optimizer state of ``state`` are donated."""
        run, recipe = self.run, self.run.plan.recipe
        state, losses = train_epoch(
            state,
            run.examples(state),
            run.optimizer,
            run.config,
            recipe.flow,
            averaged=recipe.averaged(state.epoch + 1),
            on_steps=watch.on_steps,
        )
        return Epoch(state, losses, {})

    def evaluate(self, params: Params, split: Split, on_chunk: Callable[[int], None]) -> dict[str, Any]:
        """Scores on a split."""
        run = self.run
        flow = run.plan.recipe.flow
        return evaluate(params, split, run.vocabulary, run.config, flow, on_chunk=on_chunk)


def _merit(dev: dict[str, Any]) -> float:
    """What the best on dev is the best by."""
    return dev["intent_accuracy"] + dev["slot_f1"]
