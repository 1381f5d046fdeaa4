"""A run's wiring, without training: what is scored, kept, seen, said and saved, by a scripted trainer."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from ttjax import training_run
from ttjax.checkpoint import Best, Checkpoint
from ttjax.cli_progress import Watch
from ttjax.config import preset
from ttjax.data import Sentence, Vocabulary, encode
from ttjax.data.corpus import Corpus, Split
from ttjax.data.exchange import exchange_values, values_by_slot
from ttjax.data.openings import exchange_openings, openings
from ttjax.data.recombine import joints_by_kind, recombine
from ttjax.data.vocabulary import CLS, UNK
from ttjax.errors import UserError
from ttjax.output import Output
from ttjax.params import Params
from ttjax.recipe import Recipe
from ttjax.train import TrainState
from ttjax.training_run import Epoch, JaxTrainer, Run, TrainingPlan

TINY = preset("tiny").replace(n_blocks=1)
WORDS = ("rome", "oslo", "lima", "riga", "bonn", "kyiv")
SENTENCES = tuple(Sentence(("to", word), ("O", "B-city"), "go") for word in WORDS)
# Splits of different sizes, so that one in the place of another shows.
SMALL = Corpus("small", False, SENTENCES, SENTENCES[:3], SENTENCES[:2])
QUIET = {"exchange": 0.0, "recombine": 0.0, "reopen": 0.0, "word_dropout": 0.0}


def plan(epochs: int, limit: int | None = None, **fields: Any) -> TrainingPlan:
    recipe = Recipe(epochs=epochs, **{**QUIET, **fields})
    return TrainingPlan("tiny", TINY, recipe, epochs, None, limit, None, resumed=None)


def after(epoch: int) -> TrainState:
    """After so many epochs; parameters and their average say which and of when they are."""
    params, average = ({"of": np.asarray([epoch, kind], np.float32)} for kind in (0, 1))
    return TrainState(params, average, (), jax.random.key(0), epoch, 6 * epoch)


class Scripted:
    """A trainer that does nothing, scores with (intent accuracy, slot F1) by epoch, and notes what."""

    def __init__(self, scores: list[tuple[float, float]]) -> None:
        self.scores = scores
        self.asked: list[tuple[int, str, int]] = []

    def train_epoch(self, state: TrainState, watch: Watch) -> Epoch:
        return Epoch(after(state.epoch + 1), np.array([1, 1, 1, 1, 1, 4], np.float32), {})

    def evaluate(self, params: Params, split: Split, on_chunk: Callable[[int], None]) -> dict[str, Any]:
        epoch, average = map(int, params["of"])
        self.asked.append((epoch, "average" if average else "params", len(split)))
        intent, slots = self.scores[epoch - 1]
        scores = {
            "intent_accuracy": intent,
            "slot_f1": slots,
            "token_accuracy": 0.0,
            "sentence_accuracy": 0.0,
        }
        return {**scores, "sentences": len(split)}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> Output:
    monkeypatch.setattr(Run, "start", lambda run: after(0))
    return Output(None)


def test_averages_are_scored_on_dev_each_epoch_and_on_test_at_the_end(quiet: Output) -> None:
    trainer = Scripted([(0.5, 0.5), (0.25, 0.25)])
    results = Run.of(plan(2), SMALL).train(quiet, trainer)
    dev, test = len(SMALL.dev), len(SMALL.test)
    # The last: the best on dev, which is the first epoch's average.
    assert trainer.asked == [
        (1, "average", dev),
        (2, "average", dev),
        (2, "average", test),
        (1, "average", test),
    ]
    assert results["test"]["sentences"] == results["best"]["test"]["sentences"] == test
    assert [row["dev"]["sentences"] for row in results["epochs"]] == [dev, dev]
    assert (results["test"]["slot_f1"], results["best"]["test"]["slot_f1"]) == (0.25, 0.5)
    # The mean over the epoch's sentences, which are all there are.
    assert [row["loss"] for row in results["epochs"]] == [1.5, 1.5]
    assert (results["data"]["train_sentences"], results["data"]["limited"]) == (6, False)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.5, 0.5), (0.5, 0.5)], 1),  # as good: the first stays
        ([(0.5, 0.5), (0.4, 0.7)], 2),
        ([(0.5, 0.5), (0.6, 0.3)], 1),
        ([(0.1, 0.1), (0.3, 0.3), (0.2, 0.2)], 2),
    ],
)
def test_the_best_is_the_first_with_the_highest_sum_of_both_scores(
    scores: list[tuple[float, float]], best: int, quiet: Output
) -> None:
    results = Run.of(plan(len(scores)), SMALL).train(quiet, Scripted(scores))
    assert results["best"]["epoch"] == best
    assert results["best"]["dev"] == results["epochs"][best - 1]["dev"]


def test_the_average_is_over_the_epochs_that_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def train_epoch(before: TrainState, *args: Any, averaged: int, **options: Any) -> Any:
        told.append(averaged)
        return after(before.epoch + 1), np.ones(6, np.float32)

    monkeypatch.setattr(training_run, "train_epoch", train_epoch)
    run = Run.of(plan(4, average=0.5), SMALL)
    watch = Watch(Progress(console=Console(quiet=True), disable=True), 6, compiles=True)
    for epoch in range(4):
        JaxTrainer(run).train_epoch(after(epoch), watch)
    assert told == [1, 1, 1, 2]


def test_a_model_is_trained_and_scored_by_the_recipe_s_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[Any, ...]] = []

    def train_epoch(before: TrainState, *args: Any, **options: Any) -> Any:
        told.append(args[2:])
        return after(1), np.ones(6, np.float32)

    monkeypatch.setattr(training_run, "train_epoch", train_epoch)
    monkeypatch.setattr(training_run, "evaluate", lambda *args, **_: told.append(args[3:]) or {})
    run = Run.of(plan(1, flow="right_to_left"), SMALL)
    trainer = JaxTrainer(run)
    trainer.train_epoch(
        after(0), Watch(Progress(console=Console(quiet=True), disable=True), 6, compiles=True)
    )
    trainer.evaluate(after(1).params, SMALL.dev, lambda done: None)
    assert told == [(run.config, "right_to_left")] * 2


def varied() -> Corpus:
    """Openings of one meaning, values of one to three words, two ends: all that a share can vary.

    None has too many words; with another opening, value or end some would have one too many.
    """
    train = []
    for number, opening, city in product(
        range(4),
        ("show me", "i would like", "please list the"),
        ("rome", "oslo", "new york", "salt lake city"),
    ):
        for end in ("at noon", "with two bags"):
            words = (*opening.split(), f"things{number}", "to", *city.split(), *end.split())
            of_city = ["B-city", *["I-city"] * city.count(" ")]
            slots = ["O"] * (len(opening.split()) + 2) + of_city + ["O"] * len(end.split())
            if len(words) < TINY.seq_len:
                train.append(Sentence(words, tuple(slots), f"intent{number}"))
    return Corpus("varied", False, tuple(train), SENTENCES[:1], SENTENCES[:1])


VARIED = varied()


def seen(run: Run, epoch: int) -> Counter[tuple[bytes, ...]]:
    """The examples of an epoch, in whatever order."""
    return rows(run.examples(after(epoch)))


def rows(batch: Any) -> Counter[tuple[bytes, ...]]:
    fields = [np.asarray(field) for field in batch]
    return Counter(tuple(field[i].tobytes() for field in fields) for i in range(len(fields[1])))


@pytest.mark.parametrize("share", ["recombine", "reopen", "exchange"])
def test_each_share_has_its_own_effect_anew_in_each_epoch(share: str) -> None:
    run, split = Run.of(plan(2, None, **{"seed": 5, share: 1.0}), VARIED), VARIED.train
    most = TINY.seq_len - 1
    found = []
    for epoch in (0, 1):
        rng = np.random.default_rng([5, epoch])
        if share == "recombine":
            expected = recombine(split, joints_by_kind(split), 1.0, most, rng)
        elif share == "reopen":
            expected = exchange_openings(split, openings(split), 1.0, most, rng)
        else:
            expected = exchange_values(split, values_by_slot(split), 1.0, most, rng)
        encoded = encode(expected, run.vocabulary, TINY.seq_len)
        assert encoded.truncated == 0
        assert seen(run, epoch) == rows(encoded.batch)
        found.append(rows(encoded.batch))
    assert found[0] != found[1] != rows(encode(split, run.vocabulary, TINY.seq_len).batch)


def test_without_shares_each_epoch_has_the_sentences_themselves() -> None:
    run = Run.of(plan(2), VARIED)
    assert seen(run, 0) == seen(run, 1) == rows(encode(VARIED.train, run.vocabulary, TINY.seq_len).batch)


def test_each_epoch_has_an_order_of_its_own_and_drops_words() -> None:
    run = Run.of(plan(2), VARIED)
    first, again, second = (np.asarray(run.examples(after(epoch)).tokens) for epoch in (0, 0, 1))
    assert (first == again).all() and (first != second).any()
    dropped = np.asarray(Run.of(plan(2, word_dropout=0.5), VARIED).examples(after(0)).tokens)
    assert not (first == UNK).any() and 0.4 < (dropped == UNK).sum() / (first > CLS).sum() < 0.6


def test_under_a_limit_nothing_of_the_other_sentences_is_trained_on() -> None:
    """Neither their openings, nor their values, nor their ends."""
    others = {"show": "kindly", "me": "give", "rome": "paris", "noon": "dawn", "two": "three"}
    sentences = tuple(
        Sentence(tuple(others.get(word, word) for word in s.words), s.slots, s.intent) for s in VARIED.train
    )
    whole = dataclasses.replace(VARIED, train=(*VARIED.train, *sentences))
    every = {"exchange": 1.0, "recombine": 1.0, "reopen": 1.0}
    for limit, expected in ((len(VARIED.train), set()), (None, set(others.values()))):
        run = Run.of(plan(1, limit, **every), whole)
        tokens = np.asarray(run.examples(after(0)).tokens)
        assert len(tokens) == run.data.train_sentences == len(whole.train[:limit])
        assert {word for word in others.values() if run.vocabulary.word_id(word) in tokens} == expected


def test_the_vocabulary_is_the_whole_splits_also_under_a_limit() -> None:
    run = Run.of(plan(1, limit=1), SMALL)
    assert set(WORDS) < set(run.vocabulary.words)
    assert run.data.train_sentences == 1


def checkpoint(run: Run, versions: dict[str, str]) -> Checkpoint:
    """Of ``run`` after one epoch, written under those versions."""
    scores = {name: 0.0 for name in ("intent_accuracy", "slot_f1", "token_accuracy", "sentence_accuracy")}
    row = {"epoch": 1, "loss": 1.0, "train_seconds": 1.0, "ms_per_step": 1.0, "dev": scores}
    last = after(1)
    records = (run.plan.preset, run.config, run.plan.recipe, run.data, run.vocabulary)
    return Checkpoint(last, Best(last.average, 1, scores), *records, [row], versions)


def test_other_versions_than_the_checkpoints_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"jax": "2", "numpy": "1", "device": "cpu"}
    monkeypatch.setattr(training_run, "versions", lambda: here)
    run = Run.of(plan(2), SMALL)
    before = checkpoint(run, {**here, "jax": "1"})
    resumed = Run.of(run.plan._replace(config=run.config, resumed=("run.ckpt", before)), SMALL)
    lines = [line for line in resumed.facts() if line.startswith("resume: ")]
    assert lines == [
        "resume: run.ckpt, 1 epochs done",
        "resume: jax was 1, is 2: the same bits are not certain",
    ]


def test_a_resumed_run_writes_over_no_file_begun_meanwhile(tmp_path: Path, quiet: Output) -> None:
    """The options are checked before the data is read: that takes long enough for another run to begin."""
    run, target, resumed = Run.of(plan(2), SMALL), tmp_path / "b", tmp_path / "a"
    before = checkpoint(run, {})
    resumed.write_bytes(b"the checkpoint")
    target.write_bytes(b"another's")
    again = Run.of(run.plan._replace(config=run.config, target=target, resumed=(str(resumed), before)), SMALL)
    with pytest.raises(UserError, match=r"expected no file at .* another run has begun meanwhile"):
        again.train(quiet, Scripted([(0.5, 0.5)] * 2))
    assert target.read_bytes() == b"another's"


@pytest.mark.parametrize(("dropped", "shown"), [(5, "a, b, c, d, e)"), (6, "a, b, c, d, e, …)")])
def test_words_left_out_are_shown_with_dots_where_there_are_more(dropped: int, shown: str) -> None:
    run = Run.of(plan(1), SMALL)
    vocabulary = Vocabulary(("<pad>",), ("<unk>",), ("<unk>", "O"), tuple("abcdef"[:dropped]))
    lines = dataclasses.replace(run, vocabulary=vocabulary).facts()
    assert lines[-1].endswith(f"read as unknown ({shown}")
