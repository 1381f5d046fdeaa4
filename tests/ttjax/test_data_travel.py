"""The synthetic corpus: always the same, large and varied enough, and free of overlap."""

import re
from collections import Counter

import pytest

from ttjax.config import PRESETS
from ttjax.data import travel
from ttjax.data.corpus import SPLITS, Corpus
from ttjax.data.statistics import statistics
from ttjax.data.travel import travel_corpus
from ttjax.data.travel_grammar import INTENTS, RULES
from ttjax.data.travel_words import VALUES

# A new digest means that everybody's synthetic results change: only with an edited grammar.
DIGEST = "afa7a0daa982dabab7149d66d91421d845d94b7091840769acb2756a85c37d26"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return travel_corpus()


def test_same_seed_same_corpus(corpus: Corpus):
    assert corpus.digest == DIGEST
    assert travel_corpus(seed=0) == corpus


def test_other_seed_other_corpus(corpus: Corpus):
    assert travel_corpus(seed=1).digest != corpus.digest


def test_it_says_that_it_is_synthetic(corpus: Corpus):
    assert corpus.synthetic
    assert corpus.name == "travel (synthetic)"


def test_sizes(corpus: Corpus):
    assert [len(corpus.split(name)) for name in SPLITS] == [2000, 250, 400]
    assert len({s.intent for s in corpus.train}) == len(INTENTS) >= 15
    assert len({slot for s in corpus.train for slot in s.slots}) == 119
    assert len({word for s in corpus.train for word in s.words}) == 823


def test_no_sentence_stands_twice(corpus: Corpus):
    words = [s.words for name in SPLITS for s in corpus.split(name)]
    assert len(set(words)) == len(words)


def test_lengths(corpus: Corpus):
    lengths = [len(s.words) for name in SPLITS for s in corpus.split(name)]
    assert max(lengths) <= 31
    assert sum(5 <= length <= 20 for length in lengths) > 0.9 * len(lengths)


def test_it_fits_the_paper_sized_presets(corpus: Corpus):
    numbers = statistics(corpus, PRESETS["enc2"])
    assert numbers["dropped_words"] == 0
    assert [split["over_length"] for split in numbers["splits"].values()] == [0, 0, 0]
    assert [split["unseen_slots"] for split in numbers["splits"].values()] == [0, 0, 0]
    assert numbers["slot_outputs"] <= PRESETS["enc2"].n_slots


def test_slots_are_iob2(corpus: Corpus):
    for name in SPLITS:
        for sentence in corpus.split(name):
            for before, slot in zip(("O", *sentence.slots), sentence.slots, strict=False):
                assert slot == "O" or slot[:2] in ("B-", "I-")
                if slot.startswith("I-"):
                    assert before in (f"B-{slot[2:]}", slot), sentence


def test_the_same_words_take_several_slots(corpus: Corpus):
    """A city's role is in the words around it, so a table of words can't solve the task."""
    roles = Counter(
        slot for s in corpus.train for word, slot in zip(s.words, s.slots, strict=True) if word == "denver"
    )
    assert {"B-from_city", "B-to_city", "B-city"} <= set(roles)


def test_articles(corpus: Corpus):
    for sentence in corpus.train:
        for word, following in zip(sentence.words, sentence.words[1:], strict=False):
            if word in ("a", "an") and following != "one":
                assert (word == "an") == (following[0] in "aeiou"), sentence


def test_no_value_stands_twice_in_a_sentence(corpus: Corpus):
    for sentence in corpus.train:
        cities = [
            word
            for word, slot in zip(sentence.words, sentence.slots, strict=True)
            if slot in ("B-from_city", "B-to_city", "B-via_city") and word in VALUES["city"]
        ]
        assert len(set(cities)) == len(cities), sentence


def test_nothing_of_the_grammar_is_left_in_a_sentence(corpus: Corpus):
    words = {word for name in SPLITS for s in corpus.split(name) for word in s.words}
    assert [word for word in words if not re.fullmatch(r"[a-z0-9':]+", word)] == []


def test_every_list_and_rule_is_used():
    templates = " ".join([*RULES.values(), *(template for _, template in INTENTS.values())])
    assert [name for name in VALUES if f"={name}>" not in templates] == []
    assert [name for name in RULES if f"{{{name}}}" not in templates] == []


@pytest.mark.parametrize("template", ["a (b|c", "a b)", "[a|b) c", "a ]"])
def test_unbalanced_template(template: str):
    with pytest.raises(ValueError, match="unbalanced bracket"):
        travel._parse(template)
