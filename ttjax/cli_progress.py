"""What `ttjax train` shows while it works and at the end.

A bar with rate and loss on a terminal, a line for each epoch, a table of all scores.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from jaxtyping import Array
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ttjax.data import Corpus
from ttjax.data.corpus import title_of
from ttjax.output import Output

SCORES = ("intent_accuracy", "slot_f1", "token_accuracy", "sentence_accuracy")


def progress_bars(out: Output) -> Progress:
    """Bars for a terminal, of tasks with a field ``note``; elsewhere nothing."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return out.progress(*columns)


class Watch:
    """Shows the progress of one epoch after the other, and keeps the time between two reports.

    One for all epochs of a run: a step that reports to another is compiled anew. compiles: whether the first
    report's time is mostly that of a compilation.
    """

    def __init__(self, progress: Progress, sentences: int, *, compiles: bool) -> None:
        self._progress, self._total = progress, sentences
        self._task = progress.add_task("preparing", total=sentences, note="compiling")
        self._done, self._compiling = 0, compiles
        self._of_steps: list[float] = []
        self._start = self._last = time.perf_counter()

    def begin(self, title: str) -> None:
        """A new epoch begins."""
        self._progress.reset(self._task, description=title)
        self._compiling = self._compiling and self._done == 0
        self._done, self._of_steps = 0, []
        self._start = self._last = time.perf_counter()

    def on_steps(self, done: Array | int, loss: Array | float) -> None:
        """Note that ``done`` sentences of the epoch are done, the last of them with this mean loss."""
        now, count = time.perf_counter(), int(done)
        self._of_steps.append((now - self._last) / (count - self._done))
        self._last, self._done = now, count
        note = f"loss {float(loss):.3f}  {1 / self._of_steps[-1]:.0f} sentences/s"
        self._progress.update(self._task, completed=count, note=note)

    def leave_out(self) -> None:
        """The time since the last report is no part of the epoch's."""
        now = time.perf_counter()
        self._start += now - self._last
        self._last = now

    def end(self) -> None:
        """The epoch's last sentence is done."""
        if self._done < self._total:
            now = time.perf_counter()
            self._of_steps.append((now - self._last) / (self._total - self._done))
            self._last, self._done = now, self._total
        self._progress.update(self._task, completed=self._total)

    def close(self) -> None:
        """No epoch will follow."""
        self._progress.remove_task(self._task)

    @property
    def seconds(self) -> float:
        """From the epoch's start to its last step, compilation included."""
        return self._last - self._start

    @property
    def ms_per_step(self) -> float | None:
        """Median over the epoch's reports, in which a compilation before the first of several doesn't count.

        None without a report, or if the only one includes the compilation: such an epoch tells nothing.
        """
        if len(self._of_steps) <= self._compiling:
            return None
        return 1e3 * float(np.percentile(self._of_steps, 50, method="lower"))


def epoch_line(row: dict[str, Any]) -> str:
    """An epoch's results in one line."""
    dev = row["dev"]
    return (
        f"epoch {row['epoch']}: loss {row['loss']:.4f}, {row['train_seconds']:.1f} s,"
        f" {_ms(row)} ms/step, dev intent {100 * dev['intent_accuracy']:.2f},"
        f" slot F1 {100 * dev['slot_f1']:.2f}"
    )


def results_table(
    preset: str, corpus: Corpus, rows: list[dict[str, Any]], tests: dict[str, dict[str, Any]]
) -> Table:
    """A row for dev after each epoch and, below, one for each of ``tests``, which are scores by title."""
    table = Table(title=f"{preset} on {escape(title_of(corpus.identity))}, scores in %")
    table.add_column("epoch")
    for heading in ("loss", "ms/step", "intent", "slot F1", "token", "sentence"):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = (f"{row['loss']:.4f}", _ms(row))
        table.add_row(f"{row['epoch']} dev", *figures, *_percent(row["dev"]))
    table.add_section()
    for title, scores in tests.items():
        table.add_row(title, "", "", *_percent(scores))
    return table


def _ms(row: dict[str, Any]) -> str:
    """A row's time per step, which not every epoch can tell."""
    return "–" if row["ms_per_step"] is None else f"{row['ms_per_step']:.2f}"


def _percent(scores: dict[str, Any]) -> list[str]:
    return [f"{100 * scores[name]:.2f}" for name in SCORES]
