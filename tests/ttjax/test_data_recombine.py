"""Recombined sentences: a beginning and an end of one intent, joined after the same slot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.data import Sentence, travel_corpus
from ttjax.data.chunks import chunks
from ttjax.data.recombine import joints_by_kind, recombine

SENTENCES = travel_corpus().train[:200]
JOINTS = joints_by_kind(SENTENCES)


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_a_sentence_ends_as_one_of_its_intent_does_after_the_same_slot(seed: int, share: float) -> None:
    new = recombine(SENTENCES, JOINTS, share, 31, np.random.default_rng(seed))
    assert len(new) == len(SENTENCES)
    for before, after in zip(SENTENCES, new, strict=True):
        assert after.intent == before.intent and len(after.words) == len(after.slots) <= 31
        ends = {
            (before.words[: slot.end] + other.words[end:], before.slots[: slot.end] + other.slots[end:])
            for slot in chunks(before.slots)
            for other, end in ((SENTENCES[number], end) for number, end in JOINTS[before.intent, slot.kind])
        }
        assert (after.words, after.slots) in ends or after == before


def test_two_sentences_have_four_in_them() -> None:
    fly = Sentence(("flights", "from", "boston", "today"), ("O", "O", "B-from", "B-day"), "flight")
    go = Sentence(("from", "new", "york", "please"), ("O", "B-from", "I-from", "O"), "flight")
    cost = Sentence(("fares", "from", "dallas"), ("O", "O", "B-from"), "fare")
    split = (fly, go, cost)
    seen = {recombine(split, joints_by_kind(split), 1.0, 31, np.random.default_rng(i)) for i in range(40)}
    assert {sentences[2] for sentences in seen} == {cost}
    words = {" ".join(sentence.words) for sentences in seen for sentence in sentences[:2]}
    assert words == {
        "flights from boston today",
        "flights from boston please",
        "from new york today",
        "from new york please",
    }
    assert Sentence(("from", "new", "york", "today"), ("O", "B-from", "I-from", "B-day"), "flight") in {
        sentences[1] for sentences in seen
    }


def test_the_joint_is_after_any_of_the_slots() -> None:
    trip = Sentence(("boston", "to", "denver", "now"), ("B-from", "O", "B-to", "O"), "flight")
    other = Sentence(("to", "reno", "please"), ("O", "B-to", "O"), "flight")
    start = Sentence(("dallas", "please"), ("B-from", "O"), "flight")
    split = (trip, other, start)
    seen = {recombine(split, joints_by_kind(split), 1.0, 31, np.random.default_rng(i))[0] for i in range(40)}
    assert {" ".join(sentence.words) for sentence in seen} == {
        "boston to denver now",
        "boston please",  # after the first slot
        "boston to denver please",  # after the second
    }


def test_every_end_is_as_likely() -> None:
    ends = ("now", "today", "please", "tomorrow")
    split = tuple(Sentence(("to", "denver", end), ("O", "B-to", "O"), "flight") for end in ends)
    joints, rng = joints_by_kind(split), np.random.default_rng(0)
    new = [sentence for _ in range(200) for sentence in recombine(split, joints, 1.0, 31, rng)]
    for end in ends:
        # Six standard deviations of a binomial count.
        assert abs(sum(sentence.words[-1] == end for sentence in new) - 200) < 6 * (800 * 0.25 * 0.75) ** 0.5


def test_a_sentence_that_would_grow_too_long_stays() -> None:
    short = Sentence(("to", "denver"), ("O", "B-to"), "flight")
    long = Sentence(("to", "denver", "on", "a", "monday"), ("O", "B-to", "O", "O", "B-day"), "flight")
    split = (short, long)
    seen = {
        most: {
            recombine(split, joints_by_kind(split), 1.0, most, np.random.default_rng(i))[0] for i in range(20)
        }
        for most in (4, 5)
    }
    assert seen == {4: {short}, 5: {short, long}}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_sentences_joined_anew(share: float) -> None:
    # With an end that occurs nowhere else a change is sure to show.
    split = (*SENTENCES, Sentence(("elsewhere",), ("O",), "none"))
    joints = {kind: ((len(SENTENCES), 0),) for kind in JOINTS}
    new = recombine(split, joints, share, 99, np.random.default_rng(0))
    changed = sum("elsewhere" in sentence.words for sentence in new[:-1])
    with_slots = sum(bool(chunks(sentence.slots)) for sentence in SENTENCES)
    # Six standard deviations of a binomial count.
    assert abs(changed - share * with_slots) <= 6 * (share * (1 - share) * with_slots) ** 0.5


def test_draws_repeat() -> None:
    first, second = (recombine(SENTENCES, JOINTS, 0.5, 31, np.random.default_rng([3, 1])) for _ in range(2))
    assert first == second != recombine(SENTENCES, JOINTS, 0.5, 31, np.random.default_rng([3, 2]))
