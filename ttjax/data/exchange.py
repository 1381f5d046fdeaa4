"""Training sentences with the values of their slots exchanged for others of the same kind.

"to boston" trains "to salt lake city" as well: what a slot is shows in the words around its value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ttjax.data.chunks import chunks
from ttjax.data.corpus import Sentence, Split

Phrase = tuple[str, ...]


def values_by_slot(split: Split) -> dict[str, tuple[Phrase, ...]]:
    """What each slot's value may be exchanged for: the different values of its kind, in the alphabet's order.

    The kind is the last part of the slot's name, so that ``fromloc.city_name`` and ``toloc.city_name``
    share their values. Left out are values for which the slot lacks a label: one that is always a single
    word here has no ``I-`` label, and no value of several words.
    """
    labels = {label for sentence in split for label in sentence.slots}
    found: dict[str, set[Phrase]] = defaultdict(set)
    slots = set()
    for sentence in split:
        for chunk in chunks(sentence.slots):
            slots.add(chunk.kind)
            found[_kind(chunk.kind)].add(sentence.words[chunk.start : chunk.end])
    return {
        slot: tuple(value for value in sorted(found[_kind(slot)]) if labels.issuperset(_labels(slot, value)))
        for slot in sorted(slots)
    }


def exchange_values(
    split: Split,
    values: Mapping[str, tuple[Phrase, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Split:
    """The split with each slot's value replaced, with probability ``share``, by one of ``values``, by slot.

    Every value of the slot is as likely as any other, so that rare ones are seen as often as frequent ones.
    A sentence that would grow beyond ``max_words`` stays as it was, and so does the intent.
    """
    if share == 0:
        return split
    return tuple(_exchanged(sentence, values, share, max_words, rng) for sentence in split)


def _exchanged(
    sentence: Sentence,
    values: Mapping[str, tuple[Phrase, ...]],
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
        others = values[chunk.kind]
        if others and rng.random() < share:
            value = others[rng.integers(len(others))]
            words += value
            slots += _labels(chunk.kind, value)
        else:
            words += sentence.words[chunk.start : end]
            slots += sentence.slots[chunk.start : end]
    words += sentence.words[end:]
    slots += sentence.slots[end:]
    if len(words) > max_words:
        return sentence
    return Sentence(tuple(words), tuple(slots), sentence.intent)


def _labels(slot: str, value: Phrase) -> list[str]:
    return [f"B-{slot}", *[f"I-{slot}"] * (len(value) - 1)]


def _kind(slot: str) -> str:
    return slot.rpartition(".")[2]
