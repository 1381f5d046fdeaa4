"""Words and labels as ids, both ways, and whole splits as padded id arrays for the step.

What doesn't fit (rare words, long sentences, labels unseen in training) is counted, never an error.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.data.chunks import OUTSIDE
from ttjax.data.corpus import Corpus, Split
from ttjax.errors import UserError

PAD, UNK, CLS = 0, 1, 2
SPECIAL_WORDS = ("<pad>", "<unk>", "<cls>")
UNK_LABEL = "<unk>"  # class 0 of intents and slots: stands for every label that training lacks


@dataclass(frozen=True)
class Vocabulary:
    """Names by id, of words, intents and slots.

    words: pad, unk and cls, then the training words, most frequent first, ties by alphabet. hide_digits:
    words are read with # for each digit, so that one flight number or hour is as good as another.
    intent_names: the unk class, then the training intents sorted. slot_names: the unk class, "O",
    then the other training labels sorted. dropped: training words beyond the vocabulary's size,
    in the same order; they read as unk.
    """

    words: tuple[str, ...]
    intent_names: tuple[str, ...]
    slot_names: tuple[str, ...]
    dropped: tuple[str, ...]
    hide_digits: bool = True

    @cached_property
    def word_ids(self) -> dict[str, int]:
        """Id of each training word. The special words aren't in it: as text they are unknown words."""
        return {word: i for i, word in enumerate(self.words) if i >= len(SPECIAL_WORDS)}

    def word_id(self, word: str) -> int:
        """Id of a word as it stands in a sentence, that of unk if training lacks it."""
        return self.word_ids.get(_read(word, self.hide_digits), UNK)

    @cached_property
    def intent_ids(self) -> dict[str, int]:
        """Id of each training intent, without the unk class."""
        return {name: i for i, name in enumerate(self.intent_names) if i > 0}

    @cached_property
    def slot_ids(self) -> dict[str, int]:
        """Id of each training slot label, without the unk class."""
        return {name: i for i, name in enumerate(self.slot_names) if i > 0}


@dataclass(frozen=True)
class EncodedSplit:
    """A split as ids, and what the ids don't say.

    batch: numpy int32, leading axis n sentences; tokens and slots (n, seq_len). Position 0 is cls
    with slot 0, padding is word 0 and slot 0. truncated: sentences longer than seq_len - 1 words,
    truncated_words: their words cut off. The other counts are of what was kept: unknown_words and
    unseen_slots in words, unseen_intents in sentences.
    """

    batch: Batch
    truncated: int
    truncated_words: int
    unknown_words: int
    unseen_intents: int
    unseen_slots: int


def build_vocabulary(corpus: Corpus, vocab_size: int, *, hide_digits: bool = True) -> Vocabulary:
    """The vocabulary of the training split, of at most ``vocab_size`` words with pad, unk and cls.

    ``hide_digits``: see ``Vocabulary``.

    Raises:
        UserError: vocab_size leaves no room for a word.
    """
    room = vocab_size - len(SPECIAL_WORDS)
    if room < 1:
        raise UserError(
            f"vocab_size: expected at least {len(SPECIAL_WORDS) + 1} (pad, unk, cls and one word), found"
            f" {vocab_size}: raise it in the configuration"
        )
    counts = Counter(_read(word, hide_digits) for sentence in corpus.train for word in sentence.words)
    for special in SPECIAL_WORDS:
        counts.pop(special, None)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    slots = {slot for sentence in corpus.train for slot in sentence.slots}
    return Vocabulary(
        words=(*SPECIAL_WORDS, *ranked[:room]),
        intent_names=_label_names((), (sentence.intent for sentence in corpus.train)),
        slot_names=_label_names((OUTSIDE,), slots),
        dropped=tuple(ranked[room:]),
        hide_digits=hide_digits,
    )


def config_for(config: ModelConfig, vocabulary: Vocabulary) -> ModelConfig:
    """A copy of ``config`` with as many intents and slots as the vocabulary has names for."""
    return config.replace(n_intents=len(vocabulary.intent_names), n_slots=len(vocabulary.slot_names))


def encode(split: Split, vocabulary: Vocabulary, seq_len: int) -> EncodedSplit:
    """The split as one Batch of numpy int32 with n = len(split), sentences in their order."""
    n = len(split)
    tokens = np.full((n, seq_len), PAD, np.int32)
    slots = np.zeros((n, seq_len), np.int32)
    length = np.zeros(n, np.int32)
    intent = np.zeros(n, np.int32)
    truncated = truncated_words = unknown_words = unseen_slots = 0
    for row, sentence in enumerate(split):
        kept = min(len(sentence.words), seq_len - 1)
        word_ids = [vocabulary.word_id(word) for word in sentence.words[:kept]]
        slot_ids = [vocabulary.slot_ids.get(slot, 0) for slot in sentence.slots[:kept]]
        tokens[row, 0] = CLS
        tokens[row, 1 : kept + 1] = word_ids
        slots[row, 1 : kept + 1] = slot_ids
        length[row] = kept + 1
        intent[row] = vocabulary.intent_ids.get(sentence.intent, 0)
        truncated += kept < len(sentence.words)
        truncated_words += len(sentence.words) - kept
        unknown_words += word_ids.count(UNK)
        unseen_slots += slot_ids.count(0)
    return EncodedSplit(
        batch=Batch(tokens=tokens, length=length, intent=intent, slots=slots),
        truncated=truncated,
        truncated_words=truncated_words,
        unknown_words=unknown_words,
        unseen_intents=int(np.count_nonzero(intent == 0)),
        unseen_slots=unseen_slots,
    )


def _label_names(first: tuple[str, ...], labels: Iterable[str]) -> tuple[str, ...]:
    head = (UNK_LABEL, *first)
    return (*head, *sorted(set(labels) - set(head)))


def _read(word: str, hide_digits: bool) -> str:
    return re.sub("[0-9]", "#", word) if hide_digits else word
