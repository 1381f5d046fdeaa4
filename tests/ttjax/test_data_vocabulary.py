"""Vocabulary and encoding: order, limits, and what is counted because it doesn't fit."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.config import PRESETS
from ttjax.data.corpus import Corpus, Sentence, Split, read_corpus
from ttjax.data.statistics import statistics
from ttjax.data.vocabulary import UNK, Vocabulary, build_vocabulary, config_for, encode
from ttjax.errors import UserError


def sentence(text: str, slots: str | None = None, intent: str = "flight") -> Sentence:
    words = tuple(text.split())
    return Sentence(words, tuple(slots.split()) if slots else ("O",) * len(words), intent)


def corpus_of(train: Split, test: Split | None = None) -> Corpus:
    return Corpus("small", synthetic=False, train=train, dev=train[:1], test=test or train[:1])


TRAIN = (
    sentence("to rome to oslo", "O B-to O B-from", "fare"),
    sentence("to oslo at noon", "O B-to O B-time", "flight"),
    sentence("at rome", "O B-from", "city"),
)


def test_words_by_frequency_then_alphabet():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 100)
    assert vocabulary.words == ("<pad>", "<unk>", "<cls>", "to", "at", "oslo", "rome", "noon")
    assert vocabulary.dropped == ()
    assert vocabulary.word_ids["to"] == 3


def test_labels_sorted_after_unk_and_outside():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 100)
    assert vocabulary.intent_names == ("<unk>", "city", "fare", "flight")
    assert vocabulary.slot_names == ("<unk>", "O", "B-from", "B-time", "B-to")


def test_only_training_words_and_labels_count():
    test = (sentence("paris", "B-new", "weather"),)
    assert build_vocabulary(corpus_of(TRAIN, test), 100) == build_vocabulary(corpus_of(TRAIN), 100)


def test_rarest_words_are_dropped_and_named():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 6)
    assert vocabulary.words == ("<pad>", "<unk>", "<cls>", "to", "at", "oslo")
    assert vocabulary.dropped == ("rome", "noon")
    assert encode(TRAIN, vocabulary, 10).unknown_words == 3


def test_no_room_for_a_word():
    with pytest.raises(UserError, match=r"vocab_size: expected at least 4 \(.*\), found 3"):
        build_vocabulary(corpus_of(TRAIN), 3)


def test_special_names_in_the_text_are_unknown():
    train = (sentence("<pad> <cls> go", "O <unk> O", "<unk>"),)
    vocabulary = build_vocabulary(corpus_of(train), 100)
    assert vocabulary.words == ("<pad>", "<unk>", "<cls>", "go")
    assert vocabulary.intent_names == ("<unk>",)
    assert vocabulary.slot_names == ("<unk>", "O")
    encoded = encode(train, vocabulary, 5)
    assert encoded.batch.tokens.tolist() == [[2, 1, 1, 3, 0]]
    assert (encoded.unknown_words, encoded.unseen_slots, encoded.unseen_intents) == (2, 1, 1)


def test_encoded_arrays():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 100)
    encoded = encode(TRAIN[1:], vocabulary, 6)
    assert encoded.batch.tokens.tolist() == [[2, 3, 5, 4, 7, 0], [2, 4, 6, 0, 0, 0]]
    assert encoded.batch.slots.tolist() == [[0, 1, 4, 1, 3, 0], [0, 1, 2, 0, 0, 0]]
    assert encoded.batch.length.tolist() == [5, 3]
    assert encoded.batch.intent.tolist() == [3, 1]
    assert {(field.dtype, type(field)) for field in encoded.batch} == {(np.dtype(np.int32), np.ndarray)}


def test_what_does_not_fit_is_counted():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 100)
    # Cut to three words: the unknown word and the unseen slot behind the cut don't count.
    split = (
        sentence("to paris at noon lima", "B-new O O O B-new", "weather"),
        sentence("to rome oslo", "O O B-new", "fare"),
    )
    encoded = encode(split, vocabulary, 4)
    assert encoded.batch.tokens.tolist() == [[2, 3, UNK, 4], [2, 3, 6, 5]]
    assert encoded.batch.slots.tolist() == [[0, 0, 1, 1], [0, 1, 1, 0]]
    assert encoded.batch.intent.tolist() == [0, 2]
    assert (encoded.truncated, encoded.truncated_words) == (1, 2)
    assert (encoded.unknown_words, encoded.unseen_intents, encoded.unseen_slots) == (1, 1, 2)


TEXT = st.lists(st.sampled_from(list("abcdefg")), min_size=1, max_size=12).map(" ".join)


@given(
    train_texts=st.lists(TEXT, min_size=1, max_size=5),
    split_texts=st.lists(TEXT, min_size=1, max_size=5),
    vocab_size=st.integers(4, 12),
    seq_len=st.integers(2, 14),
)
def test_ids_read_back_as_the_words(
    train_texts: list[str], split_texts: list[str], vocab_size: int, seq_len: int
):
    # Sentences are made here: the run-time type checks draw random numbers, which a strategy may not.
    train, split = (tuple(map(sentence, texts)) for texts in (train_texts, split_texts))
    vocabulary = build_vocabulary(corpus_of(train), vocab_size)
    assert len(vocabulary.words) <= vocab_size
    encoded = encode(split, vocabulary, seq_len)
    unknown = 0
    for row, (tokens, length) in enumerate(zip(encoded.batch.tokens, encoded.batch.length, strict=True)):
        kept = split[row].words[: seq_len - 1]
        assert length == len(kept) + 1
        assert not tokens[length:].any()
        for word, token in zip(kept, tokens[1:length], strict=True):
            assert vocabulary.words[token] == (word if word in vocabulary.words else "<unk>")
            unknown += word not in vocabulary.words
    assert encoded.unknown_words == unknown


def test_config_for_takes_the_counts():
    vocabulary = build_vocabulary(corpus_of(TRAIN), 100)
    config = config_for(PRESETS["tiny"], vocabulary)
    assert (config.n_intents, config.n_slots) == (4, 5)
    assert config == PRESETS["tiny"].replace(n_intents=4, n_slots=5)


def test_statistics_of_a_small_corpus():
    test = (sentence("at rome", "O B-from"), sentence("to paris in may now", "O B-new O O O", "weather"))
    config = PRESETS["tiny"].replace(seq_len=5)
    numbers = statistics(corpus_of(TRAIN, test), config)
    assert json.loads(json.dumps(numbers, allow_nan=False)) == numbers
    assert (numbers["intents_in_train"], numbers["intents_in_all"], numbers["intent_outputs"]) == (3, 4, 4)
    assert (numbers["slots_in_train"], numbers["slots_in_all"], numbers["slot_outputs"]) == (4, 5, 5)
    assert (numbers["vocabulary"], numbers["dropped_words"], numbers["synthetic"]) == (8, 0, False)
    assert numbers["splits"]["test"] == {
        "sentences": 2,
        "words": 7,
        "longest": 5,
        "mean_length": 3.5,
        "over_length": 1,
        "words_cut": 1,
        "unknown_words": 3,
        "unseen_intents": 1,
        "unseen_slots": 1,
        "in_train": 1,
        "share_of_O": 5 / 7,
    }


def test_digits_are_hidden_on_request() -> None:
    corpus = corpus_of((Sentence(("at", "730", "b52"), ("O", "O", "O"), "flight"),))
    test = (Sentence(("at", "945", "730"), ("O", "O", "O"), "flight"),)
    hidden, shown = (build_vocabulary(corpus, 100, hide_digits=hide) for hide in (True, False))
    assert (set(hidden.word_ids), set(shown.word_ids)) == ({"at", "###", "b##"}, {"at", "730", "b52"})
    assert encode(test, hidden, 5).unknown_words == 0
    assert encode(test, shown, 5).unknown_words == 1


def test_statistics_of_atis(atis_folder: Path):
    numbers = statistics(read_corpus(atis_folder, "atis"), PRESETS["enc2"])
    splits = numbers["splits"]
    assert (numbers["vocabulary"], numbers["dropped_words"]) == (727, 0)
    assert (numbers["intent_outputs"], numbers["slot_outputs"]) == (22, 121)
    assert (numbers["intents_in_train"], numbers["intents_in_all"]) == (21, 26)
    assert (numbers["slots_in_train"], numbers["slots_in_all"]) == (120, 127)
    assert [split["over_length"] for split in splits.values()] == [13, 3, 0]
    assert [split["unseen_intents"] for split in splits.values()] == [0, 1, 5]
    assert splits["test"]["unseen_slots"] == 6
    assert splits["test"]["in_train"] == 13
    assert splits["train"]["unknown_words"] == 0
    assert splits["test"]["share_of_O"] == pytest.approx(0.60, abs=0.005)
    assert splits["train"]["mean_length"] == pytest.approx(11.3, abs=0.05)
    assert splits["dev"]["unknown_words"] / splits["dev"]["words"] == pytest.approx(0.0044, abs=5e-5)
    assert splits["test"]["unknown_words"] / splits["test"]["words"] == pytest.approx(0.0057, abs=5e-5)


def test_atis_fits_the_presets_as_they_are(atis_folder: Path):
    vocabulary: Vocabulary = build_vocabulary(read_corpus(atis_folder, "atis"), 1000)
    assert config_for(PRESETS["enc2"], vocabulary) == PRESETS["enc2"]
