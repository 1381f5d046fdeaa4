"""Counts that describe a corpus as the model of one configuration sees it.

The same numbers feed the table and the JSON of `ttjax data`.
"""

from __future__ import annotations

from typing import Any

from ttjax.config import ModelConfig
from ttjax.data.chunks import OUTSIDE
from ttjax.data.corpus import SPLITS, Corpus, Split
from ttjax.data.vocabulary import Vocabulary, build_vocabulary, encode


def statistics(corpus: Corpus, config: ModelConfig) -> dict[str, Any]:
    """A dictionary for JSON: facts of the corpus, and under "splits" those of each split.

    over_length counts sentences of more than seq_len - 1 words; unknown words and unseen slots are
    counted in the words kept, in_train counts sentences whose words also stand in train.
    """
    vocabulary = build_vocabulary(corpus, config.vocab_size)
    everything = corpus.train + corpus.dev + corpus.test
    return {
        **corpus.identity,
        "seq_len": config.seq_len,
        "vocabulary_limit": config.vocab_size,
        "vocabulary": len(vocabulary.words),
        "dropped_words": len(vocabulary.dropped),
        "intents_in_train": len({s.intent for s in corpus.train}),
        "intents_in_all": len({s.intent for s in everything}),
        "intent_outputs": len(vocabulary.intent_names),
        "slots_in_train": len({slot for s in corpus.train for slot in s.slots}),
        "slots_in_all": len({slot for s in everything for slot in s.slots}),
        "slot_outputs": len(vocabulary.slot_names),
        "splits": {name: _split_statistics(corpus, name, vocabulary, config.seq_len) for name in SPLITS},
    }


def _split_statistics(corpus: Corpus, name: str, vocabulary: Vocabulary, seq_len: int) -> dict[str, Any]:
    split: Split = corpus.split(name)
    encoded = encode(split, vocabulary, seq_len)
    lengths = [len(s.words) for s in split]
    outside = sum(s.slots.count(OUTSIDE) for s in split)
    trained = {s.words for s in corpus.train}
    return {
        "sentences": len(split),
        "words": sum(lengths),
        "longest": max(lengths),
        "mean_length": sum(lengths) / len(split),
        "over_length": encoded.truncated,
        "words_cut": encoded.truncated_words,
        "unknown_words": encoded.unknown_words,
        "unseen_intents": encoded.unseen_intents,
        "unseen_slots": encoded.unseen_slots,
        "in_train": sum(s.words in trained for s in split),
        "share_of_O": outside / sum(lengths),
    }
