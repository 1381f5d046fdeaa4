"""The scores: conlleval's rules by hand, and seqeval, which follows conlleval, on random tags."""

from __future__ import annotations

import pytest
import seqeval.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ttjax.data.chunks import Chunk, chunks
from ttjax.metrics import (
    intent_accuracy,
    sentence_accuracy,
    slot_score,
    token_accuracy,
)

TAGS: tuple[str, ...] = ("O", "B-city", "I-city", "B-from.day-name", "I-from.day-name")


@st.composite
def tagged(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    """True and predicted tags of one to four sentences."""
    true = draw(st.lists(st.lists(st.sampled_from(TAGS), min_size=1, max_size=7), min_size=1, max_size=4))
    # Half of the predicted tags are right, so that correct chunks are common.
    predicted = [[draw(st.sampled_from((tag, *TAGS))) for tag in tags] for tags in true]
    return true, predicted


@settings(max_examples=150)
@given(tagged())
@example(([["O"]], [["O"]]))
@example(([["B-city"]], [["O"]]))
@example(([["O"]], [["I-city"]]))
def test_slot_scores_are_seqevals(both: tuple[list[list[str]], list[list[str]]]) -> None:
    true, predicted = both
    score = slot_score(true, predicted)
    for name, value in (("precision", score.precision), ("recall", score.recall), ("f1", score.f1)):
        oracle = getattr(seqeval.metrics, f"{name}_score")(true, predicted, zero_division=0)
        assert value == pytest.approx(oracle, abs=1e-12), name
    assert token_accuracy(true, predicted) == pytest.approx(seqeval.metrics.accuracy_score(true, predicted))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-a I-a O", [Chunk("a", 0, 2)]),
        ("B-a B-a", [Chunk("a", 0, 1), Chunk("a", 1, 2)]),
        ("O I-a I-a", [Chunk("a", 1, 3)]),
        ("I-a I-b", [Chunk("a", 0, 1), Chunk("b", 1, 2)]),
        ("B-a I-b I-b O I-b", [Chunk("a", 0, 1), Chunk("b", 1, 3), Chunk("b", 4, 5)]),
        ("I-a B-a I-a", [Chunk("a", 0, 1), Chunk("a", 1, 3)]),
    ],
)
def test_chunks_by_conllevals_rules(tags: str, expected: list[Chunk]) -> None:
    assert chunks(tags.split()) == expected


def test_chunks_do_not_run_over_a_sentences_end() -> None:
    score = slot_score([["B-a"], ["I-a"]], [["B-a"], ["I-a"]])
    assert (score.expected, score.predicted, score.correct) == (2, 2, 2)


def test_f1_is_over_all_sentences_together() -> None:
    true = [["B-a", "O"], ["B-a", "B-a", "B-b"]]
    predicted = [["B-a", "B-b"], ["B-a", "O", "B-a"]]
    score = slot_score(true, predicted)
    assert (score.expected, score.predicted, score.correct) == (4, 4, 2)
    assert score.f1 == score.precision == score.recall == 0.5


def test_accuracies() -> None:
    intents, predicted_intents = ["x", "y", "z"], ["x", "y", "x"]
    tags = [["O", "B-a"], ["O"], ["O"]]
    predicted = [["O", "O"], ["O"], ["O"]]
    assert intent_accuracy(intents, predicted_intents) == pytest.approx(2 / 3)
    assert token_accuracy(tags, predicted) == pytest.approx(3 / 4)
    # The first has a wrong tag, the third a wrong intent.
    assert sentence_accuracy(intents, predicted_intents, tags, predicted) == pytest.approx(1 / 3)
    # The same tags at other words.
    assert sentence_accuracy(["x"], ["x"], [["O", "B-a"]], [["B-a", "O"]]) == 0.0


def test_predictions_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="sentence 1: expected 2 predicted tags, found 1"):
        slot_score([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="expected predictions for 2 sentences, found 1"):
        token_accuracy([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="sentence 0: expected 2 predicted tags, found 1"):
        sentence_accuracy(["a"], ["a"], [["O", "O"]], [["O"]])
    with pytest.raises(ValueError):
        intent_accuracy(["a", "b"], ["a"])
