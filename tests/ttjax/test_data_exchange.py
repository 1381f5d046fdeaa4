"""Exchanged slot values: of the same kind, at the asked share, everything else untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.data import Sentence, travel_corpus
from ttjax.data.chunks import chunks
from ttjax.data.corpus import Split
from ttjax.data.exchange import exchange_values, values_by_slot

SENTENCES = travel_corpus().train[:200]
VALUES = values_by_slot(SENTENCES)


def outside(sentence: Sentence) -> list[str]:
    """What no slot covers, with a mark where a slot stands."""
    words = list(sentence.words)
    for chunk in reversed(chunks(sentence.slots)):
        words[chunk.start : chunk.end] = [f"<{chunk.kind}>"]
    return words


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_only_values_change_and_only_to_others_of_their_kind(seed: int, share: float) -> None:
    new = exchange_values(SENTENCES, VALUES, share, 31, np.random.default_rng(seed))
    for before, after in zip(SENTENCES, new, strict=True):
        assert outside(before) == outside(after) and before.intent == after.intent
        for chunk in chunks(after.slots):
            assert after.words[chunk.start : chunk.end] in VALUES[chunk.kind]


def test_kinds_are_shared_by_the_roles_of_a_slot() -> None:
    fly = Sentence(("to", "new", "york"), ("O", "B-toloc.city_name", "I-toloc.city_name"), "flight")
    leave = Sentence(("from", "boston"), ("O", "B-fromloc.city_name"), "flight")
    longer = Sentence(("from", "new", "york"), ("O", "B-fromloc.city_name", "I-fromloc.city_name"), "flight")
    values = values_by_slot((fly, leave, longer))
    assert values == dict.fromkeys(["fromloc.city_name", "toloc.city_name"], (("boston",), ("new", "york")))
    seen = {exchange_values((leave,), values, 1.0, 31, np.random.default_rng(i)) for i in range(20)}
    assert seen == {(leave,), (longer,)}


# Cities of one and of two words in either role; often a role has only short ones.
CITIES = st.builds(
    lambda role, two: Sentence(
        ("new", "york") if two else ("boston",),
        (f"B-{role}.city_name", *[f"I-{role}.city_name"] * two),
        "flight",
    ),
    st.sampled_from(["fromloc", "toloc"]),
    st.booleans(),
)


@given(few=st.lists(CITIES, min_size=1, max_size=5).map(tuple), seed=st.integers(0, 2**32))
def test_no_label_is_made_that_the_sentences_lack(few: Split, seed: int) -> None:
    new = exchange_values(few, values_by_slot(few), 1.0, 31, np.random.default_rng(seed))
    assert {label for s in new for label in s.slots} <= {label for s in few for label in s.slots}


def test_a_slot_of_single_words_gets_no_longer_value() -> None:
    fly = Sentence(("to", "new", "york"), ("O", "B-toloc.city_name", "I-toloc.city_name"), "flight")
    leave = Sentence(("from", "boston"), ("O", "B-fromloc.city_name"), "flight")
    assert values_by_slot((fly, leave))["fromloc.city_name"] == (("boston",),)


def test_a_sentence_that_would_grow_too_long_stays() -> None:
    values = {"fromloc.city_name": (("new", "york"),)}
    leave = Sentence(("from", "boston"), ("O", "B-fromloc.city_name"), "flight")
    rng = np.random.default_rng(0)
    assert exchange_values((leave,), values, 1.0, 2, rng) == (leave,)
    assert exchange_values((leave,), values, 1.0, 3, rng) != (leave,)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_values_drawn_anew(share: float) -> None:
    # With values that occur nowhere else a change is sure to show.
    values = {slot: (("elsewhere",),) for slot in VALUES}
    new = exchange_values(SENTENCES, values, share, 31, np.random.default_rng(0))
    changed = sum(sentence.words.count("elsewhere") for sentence in new)
    slots = sum(len(chunks(sentence.slots)) for sentence in SENTENCES)
    # Six standard deviations of a binomial count.
    assert abs(changed - share * slots) <= 6 * (share * (1 - share) * slots) ** 0.5


def test_draws_repeat() -> None:
    first, second = (
        exchange_values(SENTENCES, VALUES, 0.5, 31, np.random.default_rng([3, 1])) for _ in range(2)
    )
    assert first == second != exchange_values(SENTENCES, VALUES, 0.5, 31, np.random.default_rng([3, 2]))
