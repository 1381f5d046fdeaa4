"""What training shows: times by a clock of the test's own, lines and tables to the letter."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from ttjax import cli_progress
from ttjax.cli_progress import Watch, epoch_line, results_table
from ttjax.data import Sentence
from ttjax.data.corpus import Corpus

SPLIT = (Sentence(("fly",), ("O",), "go"),)
DEV = {"intent_accuracy": 0.1, "slot_f1": 0.2, "token_accuracy": 0.3, "sentence_accuracy": 0.4}
TEST = {"intent_accuracy": 0.5, "slot_f1": 0.6, "token_accuracy": 0.7, "sentence_accuracy": 0.8}
ROW = {"epoch": 3, "loss": 0.25, "train_seconds": 61.26, "ms_per_step": 12.346, "dev": DEV}


class Clock:
    """A clock that the test sets; ``Watch`` reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(cli_progress, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def watch(self, sentences: int, *, compiles: bool) -> Watch:
        bars = Progress(console=Console(file=StringIO()), disable=True)
        return Watch(bars, sentences, compiles=compiles)

    def epoch(self, watch: Watch, *reports: tuple[float, int], end: float) -> tuple[float, float | None]:
        """An epoch's seconds and ms per step, with reports of (seconds since the last, sentences done)."""
        watch.begin("an epoch")
        for seconds, done in reports:
            self.now += seconds
            watch.on_steps(done, 1.0)
        self.now += end
        watch.end()
        return watch.seconds, watch.ms_per_step


def test_a_median_leaves_the_compilation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = clock.watch(250, compiles=True)
    seconds, ms = clock.epoch(watch, (10.0, 100), (1.0, 200), end=0.75)
    assert (seconds, ms) == (pytest.approx(11.75), pytest.approx(15.0))
    seconds, ms = clock.epoch(watch, (2.0, 100), (2.0, 200), end=0.5)
    assert (seconds, ms) == (pytest.approx(4.5), pytest.approx(20.0))


@pytest.mark.parametrize("report", [(), ((6.0, 4),)])
def test_a_first_epoch_that_is_all_compilation_has_no_time_per_step(
    report: tuple[tuple[float, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    end = 0.0 if report else 6.0
    watch = clock.watch(4, compiles=True)
    assert clock.epoch(watch, *report, end=end) == (pytest.approx(6.0), None)
    assert clock.epoch(watch, *report, end=end)[1] == pytest.approx(1500.0)
    assert clock.epoch(clock.watch(4, compiles=False), *report, end=end)[1] == pytest.approx(1500.0)


def test_what_is_left_out_counts_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    watch = clock.watch(4, compiles=False)
    watch.begin("an epoch")
    clock.now += 9.0
    watch.leave_out()
    clock.now += 2.0
    watch.on_steps(4, 1.0)
    watch.end()
    assert (watch.seconds, watch.ms_per_step) == (pytest.approx(2.0), pytest.approx(500.0))


def test_a_line_for_an_epoch() -> None:
    line = "epoch 3: loss 0.2500, 61.3 s, {} ms/step, dev intent 10.00, slot F1 20.00"
    assert epoch_line(ROW) == line.format("12.35")
    assert epoch_line({**ROW, "ms_per_step": None}) == line.format("–")


def table(name: str = "small", rows: list[dict[str, Any]] | None = None) -> Any:
    corpus = Corpus(name, False, SPLIT, SPLIT, SPLIT)
    return results_table("tiny", corpus, [ROW] if rows is None else rows, {"3 test": TEST})


def test_a_table_of_all_scores() -> None:
    columns = {str(column.header): list(column.cells) for column in table().columns}
    assert columns == {
        "epoch": ["3 dev", "3 test"],
        "loss": ["0.2500", ""],
        "ms/step": ["12.35", ""],
        "intent": ["10.00", "50.00"],
        "slot F1": ["20.00", "60.00"],
        "token": ["30.00", "70.00"],
        "sentence": ["40.00", "80.00"],
    }
    untimed = table(rows=[{**ROW, "ms_per_step": None}])
    assert list(untimed.columns[2].cells) == ["–", ""]


def test_a_corpus_named_like_markup_keeps_its_name() -> None:
    shown = StringIO()
    Console(file=shown, width=100).print(table("[bold]x"))
    assert "tiny on [bold]x, scores in %" in shown.getvalue()
