"""Training: one step, a scan and a loop are the same, reports change no bits, bits repeat, the loss falls."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import assert_tree_close, assert_tree_equal
from ttjax.batch import Batch
from ttjax.compiled import QUICK_TO_COMPILE
from ttjax.config import ModelConfig, preset
from ttjax.data import Vocabulary, build_vocabulary, config_for, encode, travel_corpus
from ttjax.data.vocabulary import CLS, PAD, UNK
from ttjax.errors import UserError
from ttjax.model import loss
from ttjax.optimizers import make_optimizer, make_schedule
from ttjax.params import Params, flatten, init_params, layer_of
from ttjax.recipe import Recipe
from ttjax.step import PADDED_LENGTHS, scan_steps, sgd_step
from ttjax.train import (
    TrainState,
    check_finite,
    complete_epoch,
    epoch_batches,
    seed_keys,
    start_training,
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


def test_a_scan_pads_short_sentences_less_and_gets_the_same(
    travel: tuple[Batch, ModelConfig, Vocabulary],
) -> None:
    _, tiny, vocabulary = travel
    config = tiny.replace(seq_len=16)
    batches = some(encode(travel_corpus().train, vocabulary, config.seq_len).batch, 24)
    below, above = batches.length < PADDED_LENGTHS[0], batches.length > PADDED_LENGTHS[0]
    assert below.any() and above.any() and (batches.length == PADDED_LENGTHS[0]).any()
    optimizer = optax.sgd(1e-3)
    start = fresh(config)
    by_loop, state, loop_losses = start, optimizer.init(start), []
    for i in range(24):
        by_loop, state, value = sgd_step(by_loop, state, at(batches, i), optimizer, config)
        loop_losses.append(value)
    by_scan, _, losses = scan_steps(fresh(config), optimizer.init(start), batches, optimizer, config)
    np.testing.assert_allclose(losses, loop_losses, rtol=1e-5)
    assert_tree_close(by_scan, by_loop, 1e-5, atol=1e-6)


def test_a_scan_a_loop_and_the_formula_are_the_same(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    schedule = make_schedule("linear", 5e-3, 12, 1, 0.5)
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


def bits(tree: object) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


# How XLA compiles unless it is told otherwise, whatever tests tell it: only of that are bits promised.
AS_BY_DEFAULT = {"xla_backend_optimization_level": 3, "xla_cpu_use_fusion_emitters": True}


def test_a_frozen_layer_keeps_its_bits_whatever_the_optimizer_does(
    travel: tuple[Batch, ModelConfig, Vocabulary],
) -> None:
    """Weight decay moves a parameter without a gradient."""
    batches, tiny, _ = travel
    optimizer = make_optimizer("adamw", optax.constant_schedule(0.1), tiny)  # that knows of no frozen layer
    config = tiny.replace(frozen=("embed", "block0.norm1"))
    start = fresh(config)
    by_step, _, _ = sgd_step(start, optimizer.init(start), at(batches, 0), optimizer, config)
    by_scan, _, _ = scan_steps(fresh(config), optimizer.init(start), some(batches, 2), optimizer, config)
    for after in (by_step, by_scan):
        before, leaves = flatten(start), flatten(after)
        moved = {layer_of(name) for name, leaf in leaves.items() if not np.array_equal(leaf, before[name])}
        assert moved == set(config.layers) - set(config.frozen)


def test_reports_change_no_bits(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    batches = some(batches, 25)
    optimizer = optax.sgd(5e-3)
    reports: list[int] = []

    def run(**options: Any) -> list[bytes]:
        def steps(params: Params, batches: Batch) -> Any:
            return scan_steps(params, optimizer.init(params), batches, optimizer, config, **options)

        kept = {name: AS_BY_DEFAULT[name] for name in QUICK_TO_COMPILE}
        return bits(jax.jit(steps, compiler_options=kept)(fresh(config), batches))

    assert run(on_steps=lambda done, loss: reports.append(int(done)), every=10) == run()
    assert reports == [10, 20]


def test_reports_come_in_time(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    batches = some(batches, 25)
    optimizer = optax.sgd(make_schedule("linear", 5e-3, 25, 1, 0.5))
    reports: list[tuple[int, float]] = []
    state, losses = train_epoch(
        start_training(0, config, optimizer),
        batches,
        optimizer,
        config,
        on_steps=lambda done, loss: reports.append((int(done), float(loss))),
        every=10,
    )
    silent = start_training(0, config, optimizer)
    whole = scan_steps(silent.params, silent.opt_state, batches, optimizer, config)
    assert [done for done, _ in reports] == [10, 20]
    np.testing.assert_allclose([loss for _, loss in reports], losses[:20].reshape(2, 10).mean(1), rtol=1e-5)
    assert_tree_close((state.params, losses), (whole[0], whole[2]), 1e-5, atol=1e-6)
    assert (state.epoch, state.step) == (1, 25)
    assert int(optax.tree_utils.tree_get(state.opt_state, "count")) == 25


def train(
    travel: tuple[Batch, ModelConfig, Vocabulary], seed: int, epochs: int
) -> tuple[TrainState, list[float]]:
    batches, config, _ = travel
    recipe = Recipe(seed=seed, epochs=epochs, peak_learning_rate=1e-2)
    optimizer = recipe.optax(config, 60)
    state = start_training(recipe.seed, config, optimizer)
    means = []
    for epoch in range(epochs):
        assert state.epoch == epoch
        examples = epoch_batches(state.key, state.epoch, batches, recipe.word_dropout)
        state, losses = train_epoch(state, examples, optimizer, config, recipe.flow)
        means.append(float(losses.mean()))
    return state, means


def test_same_seed_same_bits_and_the_loss_falls(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    state, losses = train(travel, 3, 4)
    again, losses_again = train(travel, 3, 4)
    assert losses == losses_again
    assert bits(state.params) == bits(again.params)
    assert train(travel, 4, 1)[1][0] != losses[0]
    assert losses[-1] < 0.8 * losses[0]


def test_the_average_is_the_mean_of_the_last_epochs(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    optimizer = optax.sgd(1e-2)
    state, ends = start_training(0, config, optimizer), []
    for averaged in (1, 1, 2, 3):
        state, _ = train_epoch(state, some(batches, 10), optimizer, config, averaged=averaged)
        ends.append(jax.tree.map(np.asarray, state.params))
        if averaged == 1:
            assert bits(state.average) == bits(state.params)
    mean = jax.tree.map(lambda *p: np.mean(p, axis=0), *ends[1:])
    assert_tree_close(state.average, mean, 1e-6, atol=1e-7)
    assert bits(state.average) != bits(state.params)


def test_divergence_is_said_in_one_line(travel: tuple[Batch, ModelConfig, Vocabulary]) -> None:
    batches, config, _ = travel
    optimizer = optax.sgd(1e30)
    state = start_training(0, config, optimizer)
    with pytest.raises(UserError, match=r"expected a finite loss, found \S+ at sentence \d+ of 60: lower"):
        train_epoch(state, batches, optimizer, config)


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


def test_words_are_dropped_anew_in_each_epoch_and_sentence() -> None:
    n, seq_len = 40, 10
    tokens, whole = np.full((n, seq_len), 5, np.int32), np.full(n, seq_len, np.int32)
    batches = Batch(tokens, whole, np.arange(n, dtype=np.int32), tokens)
    seen = [np.asarray(epoch_batches(jax.random.key(7), epoch, batches, 0.5).tokens) for epoch in (0, 1)]
    # Two draws that know nothing of each other agree at half of the words.
    rest = [(a[:, 1:] == UNK) == (b[:, 1:] == UNK) for a, b in (seen, (seen[0], np.roll(seen[0], 1, 0)))]
    assert all(0.4 < agree.mean() < 0.6 for agree in rest)


def test_a_seed_that_would_be_folded_is_refused() -> None:
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match="seed: expected a whole number from 0 to"):
            seed_keys(seed)


def test_the_two_keys_of_a_seed_differ_and_each_has_its_use() -> None:
    of_params, of_epochs = seed_keys(0)
    assert (jax.random.key_data(of_params) != jax.random.key_data(of_epochs)).any()
    config = preset("tiny").replace(n_blocks=1)
    state = start_training(0, config, optax.sgd(1e-2))
    assert (jax.random.key_data(state.key) == jax.random.key_data(of_epochs)).all()
    assert bits(state.params) == bits(state.average) == bits(init_params(of_params, config))


@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_one_number_that_is_not_finite_ends_the_training(leaf: str) -> None:
    """The last step's, which no loss shows."""
    fine: Params = {"layer": {"weight": jnp.ones(3, jnp.float32), "bias": jnp.ones(2, jnp.float32)}}
    state, losses = TrainState(fine, fine, (), jax.random.key(0), 0, 0), np.ones(2, np.float32)
    assert complete_epoch(state, fine, (), losses).epoch == 1
    spoilt = {"layer": {**fine["layer"], leaf: jnp.asarray(fine["layer"][leaf]).at[1].set(jnp.inf)}}
    with pytest.raises(UserError, match="expected finite parameters after sentence 2 of 2, found others"):
        complete_epoch(state, spoilt, (), losses)


def test_the_first_sentence_without_a_finite_loss_is_counted_from_one() -> None:
    losses = np.asarray([1.0, np.nan, 1.0, np.inf], np.float32)
    with pytest.raises(UserError, match="found nan at sentence 2 of 4: lower"):
        check_finite(losses, 4)
    with pytest.raises(UserError, match="found inf at sentence 14 of 20: lower"):
        check_finite(losses[2:], 20, done=12)
