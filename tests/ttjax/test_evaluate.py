"""Prediction in chunks, and scores against the corpus's own strings."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ttjax.batch import Batch
from ttjax.config import preset
from ttjax.data import Sentence, build_vocabulary, config_for, encode, travel_corpus
from ttjax.data.corpus import Corpus
from ttjax.errors import UserError
from ttjax.evaluate import Predictions, decode, evaluate, predict
from ttjax.model import forward
from ttjax.params import init_params

TINY = preset("tiny")


def corpus_of_unseen_labels() -> Corpus:
    train = (Sentence(("to", "rome"), ("O", "B-city"), "go"), Sentence(("how", "far"), ("O", "O"), "ask"))
    test = (
        Sentence(("to", "rome"), ("O", "B-city"), "go"),
        Sentence(("to", "oslo"), ("O", "B-harbour"), "sail"),
        Sentence(("a",) * 10 + ("rome", "rome"), ("O",) * 10 + ("B-city", "O"), "ask"),
    )
    return Corpus("small", synthetic=True, train=train, dev=test[:1], test=test)


def test_predictions_are_the_highest_logits_of_each_example() -> None:
    corpus = travel_corpus()
    vocabulary = build_vocabulary(corpus, TINY.vocab_size)
    config = config_for(TINY, vocabulary)
    batch = encode(corpus.dev[:37], vocabulary, config.seq_len).batch
    params = init_params(jax.random.key(0), config)
    done: list[int] = []
    predictions = predict(params, batch, config, on_chunk=done.append)
    assert done == [32, 37]
    assert predictions.intents.shape == (37,) and predictions.slots.shape == (37, config.seq_len)
    one = jax.jit(lambda example: forward(params, example, config))
    for i in (0, 31, 32, 36):
        logits = one(jax.tree.map(lambda field, i=i: field[i], batch))
        assert predictions.intents[i] == np.argmax(logits.intent)
        np.testing.assert_array_equal(predictions.slots[i], np.argmax(logits.slots, axis=-1))


def test_sentences_padded_to_another_length_are_refused() -> None:
    config = preset("tiny")
    three, tokens = np.full(2, 3, np.int32), np.zeros((2, 8), np.int32)
    batch = Batch(tokens, three, three, tokens)
    with pytest.raises(UserError, match="expected them padded to the model's 10 tokens, found 8"):
        predict({}, batch, config)


def test_nothing_to_predict_gives_nothing() -> None:
    none = encode((), build_vocabulary(corpus_of_unseen_labels(), TINY.vocab_size), TINY.seq_len).batch
    predictions = predict({}, none, TINY)
    assert predictions.intents.shape == (0,) and predictions.slots.shape == (0, TINY.seq_len)


def test_unk_slots_and_words_cut_are_outside() -> None:
    vocabulary = build_vocabulary(corpus_of_unseen_labels(), TINY.vocab_size)
    city, unk = vocabulary.slot_ids["B-city"], 0
    slots = np.full((2, TINY.seq_len), city, np.int32)
    slots[0, 1] = unk
    intents = np.asarray([0, vocabulary.intent_ids["go"]], np.int32)
    names, tags = decode(Predictions(intents, slots), [3, 12], vocabulary)
    assert tags[0] == ("O", "B-city", "B-city")
    assert tags[1] == ("B-city",) * 9 + ("O",) * 3
    assert names[0] not in ("go", "ask") and names[1] == "go"


def test_unseen_labels_count_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor that knows every id there is still can't name what training lacks or what was cut."""
    corpus = corpus_of_unseen_labels()
    vocabulary = build_vocabulary(corpus, TINY.vocab_size)
    encoded = encode(corpus.test, vocabulary, TINY.seq_len).batch
    perfect = Predictions(np.asarray(encoded.intent), np.asarray(encoded.slots))
    monkeypatch.setattr("ttjax.evaluate.predict", lambda *args, **kwargs: perfect)
    scores = evaluate({}, corpus.test, vocabulary, config_for(TINY, vocabulary))
    assert scores["intent_accuracy"] == pytest.approx(2 / 3)
    assert (scores["slots_expected"], scores["slots_predicted"], scores["slots_correct"]) == (3, 1, 1)
    assert (scores["slot_precision"], scores["slot_recall"]) == (1, pytest.approx(1 / 3))
    assert scores["slot_f1"] == pytest.approx(0.5)
    assert scores["token_accuracy"] == pytest.approx(14 / 16)
    assert scores["sentence_accuracy"] == pytest.approx(1 / 3)
    assert (scores["sentences"], scores["words"], scores["words_cut"]) == (3, 16, 3)
