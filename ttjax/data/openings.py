"""Training sentences with another opening: "show me flights to boston" for "please list flights to boston".

Which openings say the same is read off the sentences: those of many intents that the same words follow.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from ttjax.data.chunks import OUTSIDE
from ttjax.data.corpus import Sentence, Split
from ttjax.data.exchange import Phrase

# An opening has at most so many words, and begins sentences of at least so many intents: it tells of none.
LONGEST = 6
INTENTS = 4
# Two say the same if the distributions of the word after them overlap by at least this much.
OVERLAP = 0.4


def openings(split: Split) -> dict[Phrase, tuple[Phrase, ...]]:
    """What each opening may be exchanged for, in the alphabet's order; for some that is nothing."""
    after: dict[Phrase, Counter[str]] = defaultdict(Counter)
    intents: dict[Phrase, set[str]] = defaultdict(set)
    for sentence in split:
        for opening in _openings_of(sentence):
            after[opening][sentence.words[len(opening)]] += 1
            intents[opening].add(sentence.intent)
    common = sorted(opening for opening in after if len(intents[opening]) >= INTENTS)
    return {
        one: tuple(
            other for other in common if other != one and _overlap(after[one], after[other]) >= OVERLAP
        )
        for one in common
    }


def exchange_openings(
    split: Split,
    alike: Mapping[Phrase, tuple[Phrase, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Split:
    """The split with the opening of each sentence exchanged, with probability ``share``, as ``alike`` says.

    A sentence's opening is the longest that it begins with, any other of the same meaning is as likely.
    Where there is none the sentence stays, and so does one that would grow beyond ``max_words``.
    """
    if share == 0:
        return split
    return tuple(_reopened(sentence, alike, share, max_words, rng) for sentence in split)


def _reopened(
    sentence: Sentence,
    alike: Mapping[Phrase, tuple[Phrase, ...]],
    share: float,
    max_words: int,
    rng: np.random.Generator,
) -> Sentence:
    before = next((opening for opening in reversed(_openings_of(sentence)) if opening in alike), ())
    others = alike.get(before, ())
    if not others or rng.random() >= share:
        return sentence
    opening, end = others[rng.integers(len(others))], len(before)
    words = opening + sentence.words[end:]
    if len(words) > max_words:
        return sentence
    return Sentence(words, (OUTSIDE,) * len(opening) + sentence.slots[end:], sentence.intent)


def _openings_of(sentence: Sentence) -> list[Phrase]:
    """The sentence's first words, one to LONGEST, as far as they are in no slot and a word follows."""
    most = min(LONGEST, len(sentence.words) - 1)
    inside = (i for i, slot in enumerate(sentence.slots[:most]) if slot != OUTSIDE)
    return [sentence.words[:n] for n in range(1, next(inside, most) + 1)]


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    """The sum of each word's lesser share: 1 for the same distribution, 0 with nothing in common."""
    shares = ((count / one.total(), other[word] / other.total()) for word, count in one.items())
    return sum(min(pair) for pair in shares)
