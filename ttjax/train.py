"""Training at batch 1: one SGD step, a whole epoch under ``lax.scan``, and what varies with the epoch.

Pure: parameters in, parameters out, and all randomness from a seed and the epoch's number.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ttjax.batch import Batch
from ttjax.config import Format, ModelConfig
from ttjax.contraction import Flow
from ttjax.data.vocabulary import UNK
from ttjax.errors import UserError
from ttjax.params import Params
from ttjax.step import scan_steps

# Peak learning rates at which the two formats train well; from 1.2e-2 the tensor model collapses.
PEAK_LEARNING_RATE: dict[Format, float] = {"tt": 8e-3, "dense": 2e-3}
WORD_DROPOUT = 0.05
# Sentences between two reports of progress: compiled as one scan, so a size of its own costs a compilation.
CHUNK = 100


def learning_rate_schedule(peak: float, steps_per_epoch: int, epochs: int) -> optax.Schedule:
    """Learning rate by step: half an epoch of linear warm-up to ``peak``, then a straight line to 0.

    Neither end is 0 itself: the first step and the last both learn.

    Raises:
        UserError: a peak that isn't above 0, or nothing to train on.
    """
    if not (peak > 0 and np.isfinite(peak)):
        raise UserError(f"learning rate: expected a finite number above 0, found {peak}")
    if epochs < 1 or steps_per_epoch < 1:
        raise UserError(
            f"expected at least one epoch of one sentence, found {epochs} epochs of {steps_per_epoch}"
        )
    warm_up = max(1, steps_per_epoch // 2)
    rest = max(1, epochs * steps_per_epoch - warm_up)
    rise = optax.linear_schedule(peak / warm_up, peak, max(1, warm_up - 1))
    fall = optax.linear_schedule(peak, 0.0, rest)
    return optax.join_schedules([rise, fall], [warm_up])


def train_epoch(
    params: Params,
    opt_state: optax.OptState,
    batches: Batch,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
    flow: Flow = "bidirectional",
    *,
    chunk: int = CHUNK,
    on_chunk: Callable[[int, Float[np.ndarray, " n"]], None] = lambda done, losses: None,
) -> tuple[Params, optax.OptState, Float[np.ndarray, " n"]]:
    """Batch-1 SGD over n examples (leading axis n) in their order; see ``epoch_batches`` for the order.

    After each ``chunk`` of examples ``on_chunk(examples done, the chunk's losses)`` is called. ``params``
    and ``opt_state`` are donated, as in ``scan_steps``.

    Returns:
        parameters, optimizer state, and the n losses, each before its step.

    Raises:
        UserError: a loss isn't finite.
    """
    n = batches.length.shape[0]
    losses: list[np.ndarray] = []
    for start in range(0, n, chunk):
        part = jax.tree.map(lambda field, a=start: field[a : a + chunk], batches)
        params, opt_state, values = scan_steps(params, opt_state, part, optimizer, config, flow)
        losses.append(np.asarray(values))
        if not np.isfinite(losses[-1]).all():
            bad = start + int(np.argmin(np.isfinite(losses[-1])))
            raise UserError(
                f"training diverged: expected a finite loss, found {losses[-1][bad - start]} at sentence"
                f" {bad + 1} of {n}: lower the learning rate"
            )
        on_chunk(min(start + chunk, n), losses[-1])
    return params, opt_state, np.concatenate(losses)


def seed_keys(seed: int) -> tuple[Array, Array]:
    """Two independent keys: one for the parameters' start, one for ``epoch_batches``.

    Raises:
        UserError: a seed outside 0 to 2^32 - 1, which jax.random would silently fold.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed: expected a whole number from 0 to 2^32 - 1, found {seed}")
    of_params, of_epochs = jax.random.split(jax.random.key(seed))
    return of_params, of_epochs


def epoch_batches(key: Array, epoch: int, batches: Batch, word_dropout: float) -> Batch:
    """The n examples of ``batches`` as epoch ``epoch`` sees them: shuffled, some words replaced by unk.

    Depends on the key and the epoch's number alone, not on the epochs before. Each word is replaced with
    probability ``word_dropout``; [CLS], padding and labels stay.

    Raises:
        UserError: a word_dropout outside 0 to 1.
    """
    if not 0 <= word_dropout < 1:
        raise UserError(f"word dropout: expected a probability from 0 to below 1, found {word_dropout}")
    of_order, of_words = jax.random.split(jax.random.fold_in(key, epoch))
    order = jax.random.permutation(of_order, batches.length.shape[0])
    shuffled: Batch = jax.tree.map(lambda field: jnp.asarray(field)[order], batches)
    position = jnp.arange(shuffled.tokens.shape[-1], dtype=jnp.int32)[None]
    is_word = (position > 0) & (position < shuffled.length[:, None])
    dropped = jax.random.bernoulli(of_words, word_dropout, shuffled.tokens.shape) & is_word
    return shuffled._replace(tokens=jnp.where(dropped, jnp.full_like(shuffled.tokens, UNK), shuffled.tokens))
