"""The four figures of joint intent and slot prediction, from the true and the predicted strings.

Slot F1 as the CoNLL-2000 script conlleval counts it: over whole chunks, all sentences together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ttjax.data.chunks import Tags, chunks


@dataclass(frozen=True)
class SlotScore:
    """Chunks in the truth, in the prediction, and in both with the same type, start and end."""

    expected: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float:
        """Share of the predicted chunks that are right; 0 without any."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true chunks that were found; 0 without any."""
        return self.correct / self.expected if self.expected else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 without a correct chunk."""
        return 2 * self.correct / (self.expected + self.predicted) if self.correct else 0.0


def slot_score(true: Sequence[Tags], predicted: Sequence[Tags]) -> SlotScore:
    """Chunk counts over all sentences.

    Raises:
        ValueError: another number of sentences, or of tags in a sentence.
    """
    _same_lengths(true, predicted)
    expected = [set(chunks(tags)) for tags in true]
    found = [set(chunks(tags)) for tags in predicted]
    return SlotScore(
        expected=sum(map(len, expected)),
        predicted=sum(map(len, found)),
        correct=sum(len(e & f) for e, f in zip(expected, found, strict=True)),
    )


def intent_accuracy(true: Tags, predicted: Tags) -> float:
    """Share of sentences whose intent is right.

    Raises:
        ValueError: another number of sentences.
    """
    return _share([t == p for t, p in zip(true, predicted, strict=True)])


def token_accuracy(true: Sequence[Tags], predicted: Sequence[Tags]) -> float:
    """Share of words whose tag is right, O included.

    Raises:
        ValueError: another number of sentences, or of tags in a sentence.
    """
    _same_lengths(true, predicted)
    return _share(
        [t == p for ts, ps in zip(true, predicted, strict=True) for t, p in zip(ts, ps, strict=True)]
    )


def sentence_accuracy(
    true_intents: Tags, predicted_intents: Tags, true: Sequence[Tags], predicted: Sequence[Tags]
) -> float:
    """Share of sentences whose intent and whose every tag is right.

    Raises:
        ValueError: another number of sentences, or of tags in a sentence.
    """
    _same_lengths(true, predicted)
    rows = zip(true_intents, predicted_intents, true, predicted, strict=True)
    return _share([ti == pi and list(ts) == list(ps) for ti, pi, ts, ps in rows])


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right) if right else 0.0


def _same_lengths(true: Sequence[Tags], predicted: Sequence[Tags]) -> None:
    if len(true) != len(predicted):
        raise ValueError(f"expected predictions for {len(true)} sentences, found {len(predicted)}")
    for number, (t, p) in enumerate(zip(true, predicted, strict=True)):
        if len(t) != len(p):
            raise ValueError(f"sentence {number}: expected {len(t)} predicted tags, found {len(p)}")
