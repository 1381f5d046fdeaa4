"""Prediction for many sentences, and the scores of the predictions against the corpus's own strings.

An intent or slot that training lacks can't be predicted, so it counts as wrong, never as left out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.data.chunks import OUTSIDE
from ttjax.data.corpus import Split
from ttjax.data.vocabulary import Vocabulary, encode
from ttjax.metrics import intent_accuracy, sentence_accuracy, slot_score, token_accuracy
from ttjax.model import forward, other_padding
from ttjax.params import Params

# Examples computed at once: enough to fill the processor, few enough for its cache.
CHUNK = 32


class Predictions(NamedTuple):
    """Ids of the highest logits: intents (n,), slots (n, seq_len), of which only words have a meaning."""

    intents: Int[np.ndarray, " n"]
    slots: Int[np.ndarray, "n seq"]


@partial(jax.jit, static_argnames=("config", "flow"))
def _predict_chunk(params: Params, batch: Batch, config: ModelConfig, flow: Flow) -> tuple[Array, Array]:
    logits = jax.vmap(lambda example: forward(params, example, config, flow=flow))(batch)
    return jnp.argmax(logits.intent, axis=-1), jnp.argmax(logits.slots, axis=-1)


def predict(
    params: Params,
    batch: Batch,
    config: ModelConfig,
    flow: Flow = "bidirectional",
    *,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Predicted ids for n examples (leading axis n), computed CHUNK at a time.

    ``on_chunk(examples done)`` is called after each chunk.

    Raises:
        UserError: the sentences are padded to another length than the model's; or as ``forward``.
    """
    n, tokens = batch.tokens.shape
    if tokens != config.seq_len:
        raise other_padding(tokens, config)
    intents, slots = np.zeros(n, np.int32), np.zeros((n, config.seq_len), np.int32)
    for start in range(0, n, CHUNK):
        # A short last chunk is filled up from the beginning: one shape is compiled, for all splits.
        rows, end = np.arange(start, start + CHUNK) % n, min(start + CHUNK, n)
        part = jax.tree.map(lambda field, rows=rows: np.asarray(field)[rows], batch)
        of_intents, of_slots = _predict_chunk(params, part, config, flow)
        intents[start:end] = np.asarray(of_intents)[: end - start]
        slots[start:end] = np.asarray(of_slots)[: end - start]
        on_chunk(end)
    return Predictions(intents, slots)


def evaluate(
    params: Params,
    split: Split,
    vocabulary: Vocabulary,
    config: ModelConfig,
    flow: Flow = "bidirectional",
    *,
    on_chunk: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Scores of the model on a split, for a table or JSON; see ``score_predictor`` for the keys."""
    return score_predictor(
        lambda batch: predict(params, batch, config, flow, on_chunk=on_chunk), split, vocabulary, config
    )


def score_predictor(
    predictor: Callable[[Batch], Predictions], split: Split, vocabulary: Vocabulary, config: ModelConfig
) -> dict[str, Any]:
    """Scores on a split of whatever predicts ids for n examples (leading axis n).

    Keys: intent_accuracy, slot_f1, slot_precision, slot_recall, token_accuracy, sentence_accuracy (shares
    from 0 to 1), and the counts sentences, words, words_cut, slots_expected, slots_predicted, slots_correct.
    """
    encoded = encode(split, vocabulary, config.seq_len)
    predictions = predictor(encoded.batch)
    intents, tags = decode(predictions, [len(s.words) for s in split], vocabulary)
    true_intents, true_tags = [s.intent for s in split], [s.slots for s in split]
    score = slot_score(true_tags, tags)
    return {
        "intent_accuracy": intent_accuracy(true_intents, intents),
        "slot_f1": score.f1,
        "slot_precision": score.precision,
        "slot_recall": score.recall,
        "token_accuracy": token_accuracy(true_tags, tags),
        "sentence_accuracy": sentence_accuracy(true_intents, intents, true_tags, tags),
        "sentences": len(split),
        "words": sum(map(len, true_tags)),
        "words_cut": encoded.truncated_words,
        "slots_expected": score.expected,
        "slots_predicted": score.predicted,
        "slots_correct": score.correct,
    }


def decode(
    predictions: Predictions, n_words: list[int], vocabulary: Vocabulary
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Intents, and one tag for each of a sentence's ``n_words``.

    A predicted unk slot is O, and so is each word beyond seq_len - 1, which the model never saw. A
    predicted unk intent keeps its name, which is no intent's.
    """
    names = (OUTSIDE, *vocabulary.slot_names[1:])
    tags = []
    for row, n in zip(predictions.slots, n_words, strict=True):
        seen = tuple(names[i] for i in row[1 : n + 1])
        tags.append(seen + (OUTSIDE,) * (n - len(seen)))
    return [vocabulary.intent_names[i] for i in predictions.intents], tags
