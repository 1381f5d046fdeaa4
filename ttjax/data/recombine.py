"""Training sentences joined from two: one up to the end of a slot, and what follows that slot in another.

"flights from boston | to denver on monday" and "show me fares from dallas | with delta" have four in them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from ttjax.data.chunks import chunks
from ttjax.data.corpus import Sentence, Split

# Where a slot ends: number of its sentence, and the first position after it.
Joint = tuple[int, int]


def joints_by_kind(split: Split) -> dict[tuple[str, str], tuple[Joint, ...]]:
    """The joints of each intent and slot, in the sentences' order."""
    found: dict[tuple[str, str], list[Joint]] = defaultdict(list)
    for number, sentence in enumerate(split):
        for chunk in chunks(sentence.slots):
            found[sentence.intent, chunk.kind].append((number, chunk.end))
    return {kind: tuple(joints) for kind, joints in found.items()}


def recombine(
    split: Split,
    joints: Mapping[tuple[str, str], tuple[Joint, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Split:
    """The split with each sentence, with probability ``share``, ended as another one of its intent ends.

    After one of its slots, any of them as likely, it goes on as a sentence does after the same slot; all
    such places in ``joints``, which are those of this split, are as likely. Intent and slots stay true as far
    as they don't depend on both sides of the joint. Sentences without a slot stay, and so does one that would
    grow beyond ``max_words``. Kin to the data recombination of Jia and Liang (2016).
    """
    if share == 0:
        return split
    return tuple(_ended(sentence, split, joints, share, max_words, rng) for sentence in split)


def _ended(
    sentence: Sentence,
    split: Split,
    joints: Mapping[tuple[str, str], tuple[Joint, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Sentence:
    slots = chunks(sentence.slots)
    if not slots or rng.random() >= share:
        return sentence
    slot = slots[rng.integers(len(slots))]
    others = joints[sentence.intent, slot.kind]
    number, start = others[rng.integers(len(others))]
    rest = split[number]
    words = sentence.words[: slot.end] + rest.words[start:]
    if len(words) > max_words:
        return sentence
    return Sentence(words, sentence.slots[: slot.end] + rest.slots[start:], sentence.intent)
