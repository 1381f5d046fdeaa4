"""Training at batch 1: a run's state, a whole epoch under one ``lax.scan``, and what varies with the epoch.

Pure: state in, state out, and all randomness from a seed and the epoch's number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.data.vocabulary import UNK
from ttjax.errors import UserError
from ttjax.params import Params, init_params
from ttjax.step import scan_steps

# Sentences between two reports of progress.
REPORT_EVERY = 100


class TrainState(NamedTuple):
    """All that the rest of a run depends on, between two epochs.

    average: of the parameters after the last epochs (see ``Recipe.average``), the model to use. key: of
    ``epoch_batches``, the same in all epochs. epoch, step: how many of them are complete.
    """

    params: Params
    average: Params
    opt_state: optax.OptState
    key: Array
    epoch: int
    step: int


def start_training(seed: int, config: ModelConfig, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first epoch."""
    of_params, of_epochs = seed_keys(seed)
    params = init_params(of_params, config)
    return TrainState(params, jax.tree.map(jnp.copy, params), optimizer.init(params), of_epochs, 0, 0)


def train_epoch(
    state: TrainState,
    batches: Batch,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
    flow: Flow = "bidirectional",
    *,
    averaged: int = 1,
    on_steps: Callable[[Array, Array], None] | None = None,
    every: int = REPORT_EVERY,
) -> tuple[TrainState, Float[np.ndarray, " n"]]:
    """Batch-1 training on n examples (leading axis n) in their order; see ``epoch_batches`` for the order.

    Parameters and optimizer state of ``state`` are donated. ``averaged``: over how many epochs, this one
    included, the state's average is then the mean. ``on_steps``, ``every``: as in ``scan_steps``.

    Returns:
        the state after the epoch, and the n losses, each before its step.

    Raises:
        UserError: a loss isn't finite, or a parameter after the last step.
    """
    params, opt_state, values = scan_steps(
        state.params, state.opt_state, batches, optimizer, config, flow, on_steps=on_steps, every=every
    )
    losses = np.asarray(values)
    # Reports that are still under way would reach the next epoch.
    jax.effects_barrier()
    return complete_epoch(state, params, opt_state, losses, averaged), losses


def complete_epoch(
    state: TrainState,
    params: Params,
    opt_state: optax.OptState,
    losses: Float[np.ndarray, " n"],
    averaged: int = 1,
) -> TrainState:
    """The state after an epoch from ``state`` whose n steps, wherever they were done, ended in ``params``.

    ``averaged``: as for ``train_epoch``.

    Raises:
        UserError: a loss isn't finite, or a parameter after the last step.
    """
    n = len(losses)
    check_finite(losses, n)
    # A loss is the one before its step: the last step's shows nowhere else.
    if not _all_finite(params):
        raise UserError(
            f"training diverged: expected finite parameters after sentence {n} of {n}, found others: lower"
            " the learning rate"
        )
    average = _mean_with(state.average, params, jnp.asarray(1 / averaged, jnp.float32))
    return TrainState(params, average, opt_state, state.key, state.epoch + 1, state.step + n)


def check_finite(losses: Float[np.ndarray, " n"], sentences: int, done: int = 0) -> None:
    """Refuses to go on from a loss that isn't finite, of ``sentences`` of which ``done`` came before these.

    Raises:
        UserError: names the first such sentence.
    """
    finite = np.isfinite(losses)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise UserError(
            f"training diverged: expected a finite loss, found {losses[bad]} at sentence {done + bad + 1} of"
            f" {sentences}: lower the learning rate"
        )


@jax.jit
def _all_finite(params: Params) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(params)]))


@jax.jit
def _mean_with(mean: Params, params: Params, weight: Float[Array, ""]) -> Params:
    """The mean with ``params`` as one more, which has that weight; with weight 1, ``params`` to the bit."""
    return jax.tree.map(lambda m, p: (1 - weight) * m + weight * p, mean, params)


def check_seed(seed: int) -> None:
    """Refuses what jax.random would silently fold.

    Raises:
        UserError: a seed outside 0 to 2^32 - 1.
    """
    if not 0 <= seed < 2**32:
        raise UserError(f"seed: expected a whole number from 0 to 2^32 - 1, found {seed}")


def seed_keys(seed: int) -> tuple[Array, Array]:
    """Two independent keys: one for the parameters' start, one for ``epoch_batches``.

    Raises:
        UserError: as ``check_seed``.
    """
    check_seed(seed)
    of_params, of_epochs = jax.random.split(jax.random.key(seed))
    return of_params, of_epochs


def epoch_batches(key: Array, epoch: int, batches: Batch, word_dropout: float) -> Batch:
    """The n examples of ``batches`` as epoch ``epoch`` sees them: shuffled, some words replaced by unk.

    Depends on the key and the epoch's number alone, not on the epochs before. Each word is replaced with
    probability ``word_dropout``; [CLS], padding and labels stay.
    """
    of_order, of_words = jax.random.split(jax.random.fold_in(key, epoch))
    order = jax.random.permutation(of_order, batches.length.shape[0])
    shuffled: Batch = jax.tree.map(lambda field: jnp.asarray(field)[order], batches)
    position = jnp.arange(shuffled.tokens.shape[-1], dtype=jnp.int32)[None]
    is_word = (position > 0) & (position < shuffled.length[:, None])
    dropped = jax.random.bernoulli(of_words, word_dropout, shuffled.tokens.shape) & is_word
    return shuffled._replace(tokens=jnp.where(dropped, jnp.full_like(shuffled.tokens, UNK), shuffled.tokens))
