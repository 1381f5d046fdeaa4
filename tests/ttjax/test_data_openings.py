"""Exchanged openings: of the same following words, at the asked share, everything else untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.data import Sentence, travel_corpus
from ttjax.data.openings import exchange_openings, openings

SENTENCES = travel_corpus().train[:400]
ALIKE = openings(SENTENCES)
INTENTS = ("flight", "fare", "meal", "city")


def plain(words: str, intent: str) -> Sentence:
    return Sentence(tuple(words.split()), ("O",) * len(words.split()), intent)


def asked(*starts: str) -> tuple[Sentence, ...]:
    """Each start, with a word after it, once with each intent."""
    return tuple(plain(f"{start} {intent}s", intent) for start in starts for intent in INTENTS)


def phrases(alike: dict[tuple[str, ...], tuple[tuple[str, ...], ...]]) -> dict[str, list[str]]:
    return {" ".join(one): [" ".join(other) for other in others] for one, others in alike.items()}


@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_only_the_opening_changes_and_only_to_one_alike(seed: int, share: float) -> None:
    few = SENTENCES[:50]
    new = exchange_openings(few, ALIKE, share, 31, np.random.default_rng(seed))
    for before, after in zip(few, new, strict=True):
        known = [opening for opening in ALIKE if before.words[: len(opening)] == opening]
        longest = max(known, key=len, default=())
        ways = {(*other, *before.words[len(longest) :]) for other in ALIKE.get(longest, ())}
        assert after.words in ways or after == before
        assert after.intent == before.intent and len(after.words) == len(after.slots)
        grown = len(after.words) - len(before.words)
        assert after.slots[len(longest) + grown :] == before.slots[len(longest) :]
        assert set(after.slots[: len(longest) + grown]) <= {"O"}


def test_what_the_same_words_follow_is_alike() -> None:
    # After "show" there is always "me", and after nothing else.
    assert phrases(openings(asked("show me", "list"))) == {
        "list": ["show me"],
        "show": [],
        "show me": ["list"],
    }


def test_a_word_that_often_follows_counts_as_often() -> None:
    # Of the four words after x and after y one is the same, but it follows each of them six times in nine.
    def after(start: str, words: str) -> tuple[Sentence, ...]:
        return tuple(plain(f"{start} {word}", INTENTS[i % 4]) for i, word in enumerate(words))

    assert phrases(openings((*after("x", "aaaaaabcd"), *after("y", "aaaaaaefg")))) == {"x": ["y"], "y": ["x"]}


def test_openings_with_other_words_after_them_are_not_alike() -> None:
    # Two words in five are the same after both: an overlap of 0.4 is enough, 0.3 and 0.2 are not.
    def after(start: str, words: str) -> tuple[Sentence, ...]:
        return tuple(plain(f"{start} {word}", INTENTS[i % 4]) for i, word in enumerate(words))

    assert phrases(openings((*after("x", "abcde"), *after("y", "defgh")))) == {"x": ["y"], "y": ["x"]}
    assert phrases(openings((*after("x", "abcde"), *after("y", "efghi")))) == {"x": [], "y": []}
    assert phrases(openings((*after("x", "abcdefghij"), *after("y", "hijklmnopq")))) == {"x": [], "y": []}


def test_an_opening_has_at_most_six_words() -> None:
    starts = [" ".join("abcdefg"[:n]) for n in range(1, 8)]
    assert [*phrases(openings(asked(starts[-1])))] == starts[:6]


def test_an_opening_tells_of_no_intent_and_ends_before_a_slot() -> None:
    few = asked("show me", "list")
    assert openings(tuple(s for s in few if s.intent != "city")) == {}
    slots = tuple(Sentence(s.words, ("B-name", *s.slots[1:]), s.intent) for s in few)
    assert openings(slots) == {}


def test_the_longest_opening_counts_though_nothing_is_like_it() -> None:
    alike = {("show",): (("give",),), ("show", "me"): ()}
    sentence = plain("show me flights", "flight")
    rng = np.random.default_rng(0)
    assert exchange_openings((sentence,), alike, 1.0, 31, rng) == (sentence,)
    assert exchange_openings((plain("show flights", "flight"),), alike, 1.0, 31, rng) == (
        plain("give flights", "flight"),
    )


def test_a_sentence_that_would_grow_too_long_stays() -> None:
    alike = {("list",): (("show", "me"),)}
    sentence = plain("list flights", "flight")
    rng = np.random.default_rng(0)
    assert exchange_openings((sentence,), alike, 1.0, 2, rng) == (sentence,)
    assert exchange_openings((sentence,), alike, 1.0, 3, rng) == (plain("show me flights", "flight"),)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_openings_drawn_anew(share: float) -> None:
    # With an opening that occurs nowhere else a change is sure to show.
    alike = dict.fromkeys(ALIKE, (("elsewhere",),))
    new = exchange_openings(SENTENCES, alike, share, 99, np.random.default_rng(0))
    changed = sum("elsewhere" in sentence.words for sentence in new)
    known = sum(any(s.words[: len(opening)] == opening for opening in ALIKE) for s in SENTENCES)
    # Six standard deviations of a binomial count.
    assert known > 100 and abs(changed - share * known) <= 6 * (share * (1 - share) * known) ** 0.5


def test_draws_repeat() -> None:
    first, second = (
        exchange_openings(SENTENCES, ALIKE, 0.5, 31, np.random.default_rng([3, 1])) for _ in range(2)
    )
    assert first == second != exchange_openings(SENTENCES, ALIKE, 0.5, 31, np.random.default_rng([3, 2]))
