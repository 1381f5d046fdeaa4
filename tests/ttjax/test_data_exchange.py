"""Exchanged slot values: of the same kind, at the asked share, everything else untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.data import Sentence, travel_corpus
from ttjax.data.exchange import exchange_values, phrases_by_kind
from ttjax.metrics import chunks

SENTENCES = travel_corpus().train[:200]
PHRASES = phrases_by_kind(SENTENCES)


def outside(sentence: Sentence) -> list[str]:
    """What no slot covers, with a mark where a slot stands."""
    words = list(sentence.words)
    for chunk in reversed(chunks(sentence.slots)):
        words[chunk.start : chunk.end] = [f"<{chunk.kind}>"]
    return words


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_only_values_change_and_only_to_others_of_their_kind(seed: int, share: float) -> None:
    new = exchange_values(SENTENCES, PHRASES, share, 31, np.random.default_rng(seed))
    for before, after in zip(SENTENCES, new, strict=True):
        assert outside(before) == outside(after) and before.intent == after.intent
        for chunk in chunks(after.slots):
            kind = chunk.kind.split(".")[-1]
            assert after.words[chunk.start : chunk.end] in PHRASES[kind]


def test_kinds_are_shared_by_the_roles_of_a_slot() -> None:
    fly = Sentence(("to", "new", "york"), ("O", "B-toloc.city_name", "I-toloc.city_name"), "flight")
    leave = Sentence(("from", "boston"), ("O", "B-fromloc.city_name"), "flight")
    phrases = phrases_by_kind((fly, leave))
    assert phrases == {"city_name": (("boston",), ("new", "york"))}
    seen = {exchange_values((leave,), phrases, 1.0, 31, np.random.default_rng(i)) for i in range(20)}
    longer = Sentence(("from", "new", "york"), ("O", "B-fromloc.city_name", "I-fromloc.city_name"), "flight")
    assert seen == {(leave,), (longer,)}


def test_a_sentence_that_would_grow_too_long_stays() -> None:
    phrases = {"city_name": (("new", "york"),)}
    leave = Sentence(("from", "boston"), ("O", "B-fromloc.city_name"), "flight")
    rng = np.random.default_rng(0)
    assert exchange_values((leave,), phrases, 1.0, 2, rng) == (leave,)
    assert exchange_values((leave,), phrases, 1.0, 3, rng) != (leave,)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_values_drawn_anew(share: float) -> None:
    # With values that occur nowhere else a change is sure to show.
    phrases = {kind: (("elsewhere",),) for kind in PHRASES}
    new = exchange_values(SENTENCES, phrases, share, 31, np.random.default_rng(0))
    changed = sum(sentence.words.count("elsewhere") for sentence in new)
    slots = sum(len(chunks(sentence.slots)) for sentence in SENTENCES)
    # Six standard deviations of a binomial count.
    assert abs(changed - share * slots) <= 6 * (share * (1 - share) * slots) ** 0.5


def test_draws_repeat() -> None:
    first, second = (
        exchange_values(SENTENCES, PHRASES, 0.5, 31, np.random.default_rng([3, 1])) for _ in range(2)
    )
    assert first == second != exchange_values(SENTENCES, PHRASES, 0.5, 31, np.random.default_rng([3, 2]))
