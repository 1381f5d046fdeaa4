"""The command `ttjax train`: train from scratch, score dev after each epoch and test at the end.

The functions it calls are pure; this file holds the loop, the progress bar, the tables and the JSON.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from dataclasses import dataclass, field
from importlib import metadata
from typing import Annotated, Any

import jax
import numpy as np
import optax
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ttjax.cli_model import ModelArgs, checked_flow
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.costs import model_costs
from ttjax.data import Corpus, Vocabulary, build_vocabulary, config_for, encode, load_corpus
from ttjax.errors import UserError
from ttjax.evaluate import evaluate
from ttjax.output import Output
from ttjax.params import Params, init_params
from ttjax.train import (
    PEAK_LEARNING_RATE,
    WORD_DROPOUT,
    epoch_batches,
    learning_rate_schedule,
    seed_keys,
    train_epoch,
)

SCORES = ("intent_accuracy", "slot_f1", "token_accuracy", "sentence_accuracy")


@dataclass(frozen=True)
class Train:
    """Train a model from scratch by SGD at batch 1, scoring dev after each epoch and test at the end.

    Examples: ttjax train --preset enc2 --epochs 16 --json results.json
              ttjax train --preset enc2 --format dense --data travel --epochs 1 --limit 300
    """

    model: Annotated[ModelArgs, tyro.conf.arg(name="")] = field(default_factory=ModelArgs)
    data: str | None = None
    """Corpus: a folder, "atis" or "travel". Default: $TTJAX_DATA, else ATIS if it is cached or can be
    fetched, else travel, which is synthetic."""
    flow: str = "bidirectional"
    """Contraction flow of the TT layers: bidirectional, right_to_left or dense."""
    epochs: int = 16
    """Passes over the training sentences."""
    lr: float | None = None
    """Peak learning rate, reached after half an epoch and then falling to 0. Default: 8e-3, dense 2e-3."""
    word_dropout: float = WORD_DROPOUT
    """Share of the words replaced by the unknown word, drawn anew in each epoch."""
    seed: int = 0
    """Of the parameters' start, the order of sentences and the words replaced. Same seed, same result."""
    limit: int | None = None
    """Train on the first so many training sentences only."""
    json: str | None = None
    """File for the results as JSON; - for standard output."""

    def run(self) -> int:
        """Train, print, write the JSON; returns exit status 0."""
        out = Output(self.json)
        flow, start = checked_flow(self.flow), self.model.config()
        if self.epochs < 1:
            raise UserError(f"--epochs: expected a whole number from 1 up, found {self.epochs}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit: expected a whole number from 1 up, found {self.limit}")
        peak = PEAK_LEARNING_RATE[start.format] if self.lr is None else self.lr
        of_params, of_epochs = seed_keys(self.seed)

        corpus = load_corpus(self.data, notify=out.say)
        sentences = corpus.train[: self.limit]
        # From the whole training split also under --limit: the model's outputs don't depend on it.
        vocabulary = build_vocabulary(corpus, start.vocab_size)
        config = config_for(start, vocabulary)
        batches = encode(sentences, vocabulary, config.seq_len).batch
        optimizer = optax.sgd(learning_rate_schedule(peak, len(sentences), self.epochs))
        epoch_batches(of_epochs, 0, batches, self.word_dropout)  # checks it before the work
        for line in _facts(self, corpus, vocabulary, config, len(sentences), peak):
            out.say(line)

        params = init_params(of_params, config)
        opt_state = optimizer.init(params)
        rows: list[dict[str, Any]] = []
        table = _table(self.model.preset, corpus)
        with _progress(out) as progress:
            for epoch in range(self.epochs):
                examples = epoch_batches(of_epochs, epoch, batches, self.word_dropout)
                watch = _Watch(progress, f"epoch {epoch + 1}/{self.epochs}", len(sentences))
                params, opt_state, losses = train_epoch(
                    params, opt_state, examples, optimizer, config, flow, on_chunk=watch.on_chunk
                )
                row = {
                    "epoch": epoch + 1,
                    "loss": float(losses.mean()),
                    "train_seconds": watch.seconds,
                    "ms_per_step": watch.ms_per_step,
                    "dev": _score(progress, params, corpus, "dev", vocabulary, config, flow),
                }
                rows.append(row)
                _add_row(table, f"{row['epoch']} dev", row["loss"], row["ms_per_step"], row["dev"])
                out.say(_line(row))
            test = _score(progress, params, corpus, "test", vocabulary, config, flow)
        table.add_section()
        _add_row(table, "test", None, None, test)
        out.console.print(table)
        out.write_json(
            {
                "preset": self.model.preset,
                "format": config.format,
                "flow": flow,
                "parameters": model_costs(config).parameters,
                "data": {
                    "name": corpus.name,
                    "synthetic": corpus.synthetic,
                    "digest": corpus.digest,
                    "train_sentences": len(sentences),
                    "limited": len(sentences) < len(corpus.train),
                },
                "seed": self.seed,
                "peak_learning_rate": peak,
                "word_dropout": self.word_dropout,
                "config": dataclasses.asdict(config),
                "versions": versions(),
                "epochs": rows,
                "test": test,
            }
        )
        return 0


class _Watch:
    """Shows one epoch's progress, and keeps the time of each chunk."""

    def __init__(self, progress: Progress, title: str, total: int) -> None:
        self._progress, self._total = progress, total
        self._task = progress.add_task(title, total=total, note="compiling")
        self._start = self._last = time.perf_counter()
        self._of_chunks: list[float] = []

    def on_chunk(self, done: int, losses: np.ndarray) -> None:
        """Note that ``done`` sentences are done, the last chunk of them with these losses."""
        now = time.perf_counter()
        self._of_chunks.append((now - self._last) / len(losses))
        self._last = now
        note = f"loss {losses.mean():.3f}  {1 / self._of_chunks[-1]:.0f} sentences/s"
        self._progress.update(self._task, completed=done, note=note, visible=done < self._total)

    @property
    def seconds(self) -> float:
        """From the epoch's start to its last step, compilation included."""
        return self._last - self._start

    @property
    def ms_per_step(self) -> float:
        """Median over the chunks, so that a compilation in one of them doesn't count."""
        return 1e3 * float(np.median(self._of_chunks))


def versions() -> dict[str, str]:
    """What a result depends on besides the code: versions, device and the precision of products."""
    packages = {name: metadata.version(name) for name in ("jax", "jaxlib", "optax", "numpy")}
    return {
        "python": platform.python_version(),
        **packages,
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
    }


def _progress(out: Output) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=out.console, transient=True, disable=not out.console.is_terminal)


def _score(
    progress: Progress,
    params: Params,
    corpus: Corpus,
    name: str,
    vocabulary: Vocabulary,
    config: ModelConfig,
    flow: Flow,
) -> dict[str, Any]:
    split = corpus.split(name)
    task = progress.add_task(f"scoring {name}", total=len(split), note="")
    scores = evaluate(
        params, split, vocabulary, config, flow, on_chunk=lambda done: progress.update(task, completed=done)
    )
    progress.remove_task(task)
    return scores


def _facts(
    args: Train, corpus: Corpus, vocabulary: Vocabulary, config: ModelConfig, sentences: int, peak: float
) -> list[str]:
    """What is trained on what, where it isn't obvious: said before the work begins."""
    size = model_costs(config)
    flow = f", flow {args.flow}" if config.format == "tt" else ""
    lines = [
        f"model: {args.model.preset}, {config.format}{flow}, {size.parameters:,} parameters"
        f" ({size.bytes / 1e6:.2f} MB), peak learning rate {peak:g}, word dropout {args.word_dropout:g},"
        f" seed {args.seed}"
    ]
    if sentences < len(corpus.train):
        lines.append(f"limit: training on the first {sentences} of {len(corpus.train)} sentences")
    if vocabulary.dropped:
        shown = ", ".join(vocabulary.dropped[:5])
        lines.append(
            f"vocabulary: {len(vocabulary.dropped)} rare training words beyond {config.vocab_size} read as"
            f" unknown ({shown}, …)"
        )
    return lines


def _line(row: dict[str, Any]) -> str:
    dev = row["dev"]
    return (
        f"epoch {row['epoch']}: loss {row['loss']:.4f}, {row['train_seconds']:.1f} s,"
        f" {row['ms_per_step']:.2f} ms/step, dev intent {100 * dev['intent_accuracy']:.2f},"
        f" slot F1 {100 * dev['slot_f1']:.2f}"
    )


def _table(preset: str, corpus: Corpus) -> Table:
    synthetic = " (SYNTHETIC data)" if corpus.synthetic else ""
    table = Table(title=f"{preset} on {corpus.name}{synthetic}, scores in %")
    table.add_column("epoch")
    for heading in ("loss", "ms/step", "intent", "slot F1", "token", "sentence"):
        table.add_column(heading, justify="right")
    return table


def _add_row(
    table: Table, title: str, loss: float | None, ms_per_step: float | None, scores: dict[str, Any]
) -> None:
    figures = ["" if loss is None else f"{loss:.4f}", "" if ms_per_step is None else f"{ms_per_step:.2f}"]
    table.add_row(title, *figures, *(f"{100 * scores[name]:.2f}" for name in SCORES))
