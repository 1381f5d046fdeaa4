"""Training sentences with the values of their slots exchanged for others of the same kind.

"to boston" trains "to salt lake city" as well: what a slot is shows in the words around its value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ttjax.data.corpus import Sentence, Split
from ttjax.metrics import chunks

Phrase = tuple[str, ...]


def phrases_by_kind(split: Split) -> dict[str, tuple[Phrase, ...]]:
    """The different values of each kind of slot, in order of the alphabet.

    The kind is the last part of the slot's name, so that ``fromloc.city_name`` and ``toloc.city_name``
    share their values.
    """
    found: dict[str, set[Phrase]] = defaultdict(set)
    for sentence in split:
        for chunk in chunks(sentence.slots):
            found[_kind(chunk.kind)].add(sentence.words[chunk.start : chunk.end])
    return {kind: tuple(sorted(phrases)) for kind, phrases in found.items()}


def exchange_values(
    split: Split,
    phrases: Mapping[str, tuple[Phrase, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Split:
    """The split with each slot's value replaced, with probability ``share``, by one of ``phrases``.

    Every phrase of the kind is as likely as any other, so that rare values are seen as often as frequent
    ones. A sentence that would grow beyond ``max_words`` stays as it was, and so does the intent.
    """
    if share == 0:
        return split
    return tuple(_exchanged(sentence, phrases, share, max_words, rng) for sentence in split)


def _exchanged(
    sentence: Sentence,
    phrases: Mapping[str, tuple[Phrase, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Sentence:
    words: list[str] = []
    slots: list[str] = []
    end = 0
    for chunk in chunks(sentence.slots):
        words += sentence.words[end : chunk.start]
        slots += sentence.slots[end : chunk.start]
        end = chunk.end
        value = sentence.words[chunk.start : end]
        if rng.random() < share:
            others = phrases[_kind(chunk.kind)]
            value = others[rng.integers(len(others))]
        words += value
        slots += [f"B-{chunk.kind}", *[f"I-{chunk.kind}"] * (len(value) - 1)]
    words += sentence.words[end:]
    slots += sentence.slots[end:]
    if len(words) > max_words:
        return sentence
    return Sentence(tuple(words), tuple(slots), sentence.intent)


def _kind(slot: str) -> str:
    return slot.rpartition(".")[2]
