"""Training: one step, a scan and a loop are the same, bits repeat, the loss falls."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import assert_tree_close, assert_tree_equal
from ttjax.batch import Batch
from ttjax.config import ModelConfig, preset
from ttjax.data import Vocabulary, build_vocabulary, config_for, encode, travel_corpus
from ttjax.data.vocabulary import CLS, PAD, UNK
from ttjax.errors import UserError
from ttjax.model import loss
from ttjax.params import Params, init_params
from ttjax.step import scan_steps, sgd_step
from ttjax.train import (
    epoch_batches,
    learning_rate_schedule,
    seed_keys,
    train_epoch,
)


@pytest.fixture(scope="module")
def travel() -> tuple[Batch, ModelConfig, Vocabulary]:
    """60 training sentences of the travel corpus, and tiny, of one block, with as many labels as it has."""
    corpus, tiny = travel_corpus(), preset("tiny").replace(n_blocks=1)
    vocabulary = build_vocabulary(corpus, tiny.vocab_size)
    batches = encode(corpus.train[:60], vocabulary, tiny.seq_len).batch
    return batches, config_for(tiny, vocabulary), vocabulary


def some(batches: Batch, n: int) -> Batch:
    return jax.tree.map(lambda field: field[:n], batches)


def at(batches: Batch, i: int) -> Batch:
    return jax.tree.map(lambda field: field[i], batches)


def fresh(config: ModelConfig, seed: int = 0) -> Params:
    return init_params(jax.random.key(seed), config)


def test_a_scan_a_loop_and_the_formula_are_the_same(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    schedule = learning_rate_schedule(5e-3, 12, 1)
    optimizer = optax.sgd(schedule)
    by_scan, _, scan_losses = scan_steps(
        fresh(config), optimizer.init(fresh(config)), some(batches, 12), optimizer, config
    )
    by_loop = by_hand = fresh(config)
    state = optimizer.init(by_loop)
    gradient = jax.jit(jax.grad(lambda p, b: loss(p, b, config)))
    loop_losses = []
    for i in range(12):
        by_loop, state, value = sgd_step(by_loop, state, at(batches, i), optimizer, config)
        loop_losses.append(value)
        g = gradient(by_hand, at(batches, i))
        rate = float(np.asarray(schedule(i)))
        by_hand = jax.tree.map(lambda p, g, rate=rate: p - rate * g, by_hand, g)
    assert_tree_close(by_loop, by_hand, 1e-5, atol=1e-6)
    assert_tree_close(by_scan, by_hand, 1e-5, atol=1e-6)
    np.testing.assert_allclose(scan_losses, loop_losses, rtol=1e-5)
    # The comparison would notice: training moved the parameters by far more than it tolerates.
    moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), by_loop, fresh(config))
    assert max(jax.tree.leaves(moved)) > 1e-2


def test_chunks_of_an_epoch_are_one_scan(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    batches = some(batches, 25)
    optimizer = optax.sgd(learning_rate_schedule(5e-3, 25, 1))
    reports: list[tuple[int, int]] = []
    chunked = train_epoch(
        fresh(config),
        optimizer.init(fresh(config)),
        batches,
        optimizer,
        config,
        chunk=10,
        on_chunk=lambda done, losses: reports.append((done, len(losses))),
    )
    whole = scan_steps(fresh(config), optimizer.init(fresh(config)), batches, optimizer, config)
    assert reports == [(10, 10), (20, 10), (25, 5)]
    assert_tree_close(chunked[0], whole[0], 1e-5, atol=1e-6)
    np.testing.assert_allclose(chunked[2], whole[2], rtol=1e-4)
    assert int(optax.tree_utils.tree_get(chunked[1], "count")) == 25


def train(
    travel: tuple[Batch, ModelConfig, Vocabulary], seed: int, epochs: int
) -> tuple[Params, list[float]]:
    batches, config, _ = travel
    of_params, of_epochs = seed_keys(seed)
    params = init_params(of_params, config)
    optimizer = optax.sgd(learning_rate_schedule(1e-2, 60, epochs))
    state = optimizer.init(params)
    means = []
    for epoch in range(epochs):
        examples = epoch_batches(of_epochs, epoch, batches, 0.05)
        params, state, losses = train_epoch(params, state, examples, optimizer, config, chunk=60)
        means.append(float(losses.mean()))
    return params, means


def test_same_seed_same_bits_and_the_loss_falls(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    params, losses = train(travel, 3, 4)
    again, losses_again = train(travel, 3, 4)
    assert losses == losses_again
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(again), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert train(travel, 4, 1)[1][0] != losses[0]
    assert losses[-1] < 0.8 * losses[0]


def test_divergence_is_said_in_one_line(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    optimizer = optax.sgd(1e30)
    params = fresh(config)
    with pytest.raises(UserError, match=r"expected a finite loss, found \S+ at sentence \d+ of 60: lower"):
        train_epoch(params, optimizer.init(params), batches, optimizer, config, chunk=60)


def test_the_learning_rate_rises_for_half_an_epoch_and_falls_to_the_end() -> None:
    schedule = learning_rate_schedule(0.01, 100, 3)
    rates = np.asarray([schedule(step) for step in range(300)])
    assert rates.argmax() in (49, 50)
    assert rates[50] == np.float32(0.01)
    np.testing.assert_allclose(rates[0], 0.01 / 50, rtol=1e-4)
    assert 0 < rates[-1] < 1e-4
    assert (np.diff(rates[:50]) > 0).all() and (np.diff(rates[50:]) < 0).all()
    np.testing.assert_allclose(np.diff(rates[50:]), -0.01 / 250, rtol=1e-3)
    assert 0 < np.asarray(learning_rate_schedule(0.01, 1, 1)(0)) <= 0.01


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan"), float("inf")])
def test_a_useless_learning_rate_is_refused(peak: float) -> None:
    with pytest.raises(UserError, match="learning rate: expected a finite number above 0"):
        learning_rate_schedule(peak, 10, 1)


@settings(max_examples=10)
@given(st.integers(0, 5), st.sampled_from([0.0, 0.05, 0.5]))
def test_an_epoch_is_the_same_sentences_in_another_order(epoch: int, dropout: float) -> None:
    rng = np.random.default_rng(0)
    n, seq_len = 50, 10
    length = rng.integers(2, seq_len + 1, n).astype(np.int32)
    is_token = np.arange(seq_len) < length[:, None]
    tokens = np.where(is_token, rng.integers(3, 240, (n, seq_len)), PAD).astype(np.int32)
    tokens[:, 0] = CLS
    batches = Batch(tokens, length, np.arange(n, dtype=np.int32), tokens)
    key = jax.random.key(7)
    seen = epoch_batches(key, epoch, batches, dropout)
    order = np.asarray(seen.intent)
    assert sorted(order) == list(range(n)) and list(order) != list(range(n))
    np.testing.assert_array_equal(seen.length, length[order])
    np.testing.assert_array_equal(seen.slots, tokens[order])
    dropped = np.asarray(seen.tokens) != tokens[order]
    assert (np.asarray(seen.tokens)[dropped] == UNK).all()
    assert not dropped[:, 0].any() and not dropped[~is_token[order]].any()
    words = is_token.sum() - n
    assert abs(dropped.sum() / words - dropout) < 0.12
    assert_tree_equal(epoch_batches(key, epoch, batches, dropout), seen)
    assert list(np.asarray(epoch_batches(key, epoch + 1, batches, dropout).intent)) != list(order)


def test_word_dropouts_and_seeds_out_of_range(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches = travel[0]
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match="word dropout: expected a probability from 0 to below 1"):
            epoch_batches(jax.random.key(0), 0, batches, share)
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match="seed: expected a whole number from 0 to"):
            seed_keys(seed)


def test_the_two_keys_of_a_seed_differ() -> None:
    of_params, of_epochs = map(jax.random.key_data, seed_keys(0))
    assert (jnp.asarray(of_params) != of_epochs).any()
