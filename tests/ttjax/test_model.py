"""The model: padding is invisible, batches are loops, flows and formats agree, in loss and gradients."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array

from tests.strategies import assert_tree_close, assert_tree_equal, seeds
from ttjax.batch import Batch
from ttjax.config import ModelConfig, preset
from ttjax.contraction import Flow
from ttjax.errors import UserError
from ttjax.model import MASKED_SCORE, attention, forward, layer_norm, loss
from ttjax.params import (
    Params,
    check_params,
    core_list,
    flatten,
    init_params,
    linear_names,
    parameter_shapes,
    unflatten,
)
from ttjax.tt import to_dense, ttm_to_dense

TINY = preset("tiny")
DENSE = TINY.replace(format="dense")


@partial(jax.jit, static_argnames=("config", "flow"))
def loss_and_gradients(
    params: Params, batch: Batch, config: ModelConfig, flow: Flow = "bidirectional"
) -> tuple[Array, Params]:
    return jax.value_and_grad(loss)(params, batch, config, flow=flow)


def random_batch(seed: int, length: int, n: int | None = None) -> Batch:
    """A sentence of random words and labels, also at the padding; or n of them."""
    rng = np.random.default_rng(seed)
    shape = () if n is None else (n,)

    def ids(limit: int, *more: int) -> np.ndarray:
        return rng.integers(0, limit, (*shape, *more)).astype(np.int32)

    return Batch(
        tokens=ids(TINY.vocab_size, TINY.seq_len),
        length=np.full(shape, length, np.int32),
        intent=np.asarray(ids(TINY.n_intents)),
        slots=ids(TINY.n_slots, TINY.seq_len),
    )


def params64(config: ModelConfig) -> Params:
    """Fresh parameters in float64, with biases that are not 0, so that a bias left out shows."""
    rng = np.random.default_rng(5)
    fresh = init_params(jax.random.key(0), config)
    return jax.tree.map(
        lambda p: jnp.asarray(np.asarray(p, np.float64) + 0.1 * rng.standard_normal(p.shape)), fresh
    )


@settings(max_examples=25)
@given(seeds, seeds, st.integers(2, TINY.seq_len))
def test_padding_has_no_influence(seed: int, pad_seed: int, length: int) -> None:
    """The same bits of loss and gradients, whatever ids and labels stand behind the sentence."""
    params = init_params(jax.random.key(1), TINY)
    batch, other = random_batch(seed, length), random_batch(pad_seed, length)
    is_pad = np.arange(TINY.seq_len) >= length
    changed = batch._replace(
        tokens=np.where(is_pad, other.tokens, batch.tokens),
        # A label at [CLS] isn't read either.
        slots=np.where(is_pad | (np.arange(TINY.seq_len) == 0), other.slots, batch.slots),
    )
    assert_tree_equal(loss_and_gradients(params, changed, TINY), loss_and_gradients(params, batch, TINY))


@settings(max_examples=10)
@given(seeds, st.integers(2, TINY.seq_len))
def test_each_real_token_has_influence(seed: int, length: int) -> None:
    params = init_params(jax.random.key(1), TINY)
    batch = random_batch(seed, length)
    base = loss_and_gradients(params, batch, TINY)[0]
    for position in range(length):
        tokens = np.array(batch.tokens)
        tokens[position] = (tokens[position] + 1) % TINY.vocab_size
        assert loss_and_gradients(params, batch._replace(tokens=tokens), TINY)[0] != base


def test_a_sentence_of_one_word_is_finite_and_learns() -> None:
    value, gradients = loss_and_gradients(init_params(jax.random.key(0), TINY), random_batch(0, 2), TINY)
    assert np.isfinite(value)
    for name, gradient in flatten(gradients).items():
        assert np.isfinite(gradient).all(), name
        assert name.endswith("k.bias") or np.any(gradient != 0), name


def test_vmap_over_a_batch_is_a_loop() -> None:
    one_block = TINY.replace(n_blocks=1)
    with jax.enable_x64(True):
        params = params64(one_block)
        batch = random_batch(3, 7, n=4)._replace(length=np.asarray([2, 5, 7, 10], np.int32))
        one = partial(loss_and_gradients, params, config=one_block)
        together = jax.jit(jax.vmap(one))(batch)
        singly = [one(jax.tree.map(lambda field, i=i: field[i], batch)) for i in range(4)]
        stacked: Any = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singly)
    assert_tree_close(together, stacked, 1e-12, atol=1e-15)


@pytest.mark.parametrize("flow", get_args(Flow))
def test_the_flows_agree_for_the_whole_model(flow: Flow) -> None:
    with jax.enable_x64(True):
        params, batch = params64(TINY), random_batch(4, 8)
        actual = loss_and_gradients(params, batch, TINY, flow)
        # The truth: the same model with its weights as plain matrices, differentiated to the cores.
        expected = jax.jit(jax.value_and_grad(lambda p: loss(as_dense(p), batch, DENSE)))(params)
    assert_tree_close(actual, expected, 1e-11, atol=1e-14)


def as_dense(params: Params) -> Params:
    """The parameters of format dense whose weights are the TT and TTM formats' products."""
    leaves = flatten(params)
    for name in linear_names(TINY):
        cores = [leaves.pop(f"{name}.core{k}") for k in range(len(TINY.in_modes + TINY.out_modes))]
        leaves[f"{name}.weight"] = to_dense(cores, len(TINY.in_modes))
    leaves["embed.table"] = ttm_to_dense(core_list(params["embed"]))
    for k in range(len(TINY.vocab_modes)):
        del leaves[f"embed.core{k}"]
    return unflatten(leaves)


def test_dense_parameters_have_the_shapes_the_config_asks_for() -> None:
    check_params(as_dense(init_params(jax.random.key(0), TINY)), DENSE)


def test_logits_have_one_row_a_token() -> None:
    logits = forward(init_params(jax.random.key(0), TINY), random_batch(0, 5), TINY)
    assert logits.intent.shape == (TINY.n_intents,)
    assert logits.slots.shape == (TINY.seq_len, TINY.n_slots)


def test_the_loss_is_the_intents_plus_the_words_mean() -> None:
    params, batch = init_params(jax.random.key(0), TINY), random_batch(9, 6)
    logits = forward(params, batch, TINY)
    of_intent = -jax.nn.log_softmax(logits.intent)[int(batch.intent)]
    of_slots = -np.asarray(jax.nn.log_softmax(logits.slots))[np.arange(10), batch.slots]
    expected = of_intent + TINY.slot_weight * of_slots[1:6].mean()
    np.testing.assert_allclose(loss(params, batch, TINY), expected, rtol=1e-5)


def test_attention_is_a_softmax_over_real_tokens() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, TINY.seq_len, TINY.d_model)).astype(np.float32)
    n, width = 4, TINY.head_dim
    out = attention(jnp.asarray(q), jnp.asarray(k), jnp.asarray(v), jnp.arange(TINY.seq_len) < n, TINY)
    for head in range(TINY.n_heads):
        columns = slice(head * width, (head + 1) * width)
        weights = np.exp(q[:, columns] @ k[:n, columns].T / np.sqrt(width))
        expected = weights @ v[:n, columns] / weights.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(out[:, columns], expected, atol=1e-5)
    assert np.exp(np.float32(MASKED_SCORE)) == 0


def test_layer_norm_is_that_of_the_definition() -> None:
    x = np.random.default_rng(0).standard_normal((3, TINY.d_model)).astype(np.float32) * 1e-3
    layer = {"scale": jnp.full(TINY.d_model, 2.0), "bias": jnp.full(TINY.d_model, 0.5)}
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + TINY.norm_eps)
    np.testing.assert_allclose(layer_norm(layer, jnp.asarray(x), TINY), 2 * normal + 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        # Products fit whatever the rank is: without the check there would be a loss.
        (TINY.with_rank(7), r"block0\.\w+\.core\d expected shape \(.*\), found \(.*7.*\)"),
        (TINY.replace(n_blocks=3), r"block2\..* is not a parameter of this model"),
        (DENSE, "core0 is missing"),
    ],
    ids=["rank", "blocks", "dense"],
)
def test_another_models_parameters_are_refused(other: ModelConfig, message: str) -> None:
    params = init_params(jax.random.key(0), other)
    for compute in (loss, loss_and_gradients):
        with pytest.raises(UserError, match=message):
            compute(params, random_batch(0, 4), TINY)


@pytest.mark.parametrize("config", [TINY, DENSE], ids=["tt", "dense"])
def test_a_sentence_longer_than_the_model_is_refused(config: ModelConfig) -> None:
    params = init_params(jax.random.key(0), config.replace(seq_len=8))
    for compute in (forward, loss, loss_and_gradients):
        with pytest.raises(UserError, match="expected them padded to the model's 8 tokens, found 10: encode"):
            compute(params, random_batch(0, 4), config.replace(seq_len=8))


@pytest.mark.parametrize("config", [TINY, DENSE], ids=["tt", "dense"])
def test_an_unknown_flow_is_refused_whether_the_format_has_flows_or_not(config: ModelConfig) -> None:
    """Called without the tests' own check of types, which users don't have."""
    params, flow = init_params(jax.random.key(0), config), cast(Flow, "sideways")
    with pytest.raises(UserError, match="unknown flow 'sideways': expected one of dense, right_to_left"):
        inspect.unwrap(forward)(params, random_batch(0, 4), config, flow=flow)


def test_check_params_names_what_is_wrong() -> None:
    params = init_params(jax.random.key(0), TINY)
    check_params(params, TINY)
    leaves = flatten(params)
    assert {name: leaf.shape for name, leaf in leaves.items()} == parameter_shapes(TINY)
    missing = {name: leaf for name, leaf in leaves.items() if name != "block0.q.core1"}
    with pytest.raises(UserError, match=r"block0\.q\.core1 is missing"):
        check_params(unflatten(missing), TINY)
    with pytest.raises(UserError, match=r"block9\.q\.bias is not a parameter"):
        check_params(unflatten({**leaves, "block9.q.bias": jnp.zeros(1)}), TINY)
    with pytest.raises(UserError, match=r"slot_out\.bias expected shape \(11,\), found \(3,\)"):
        check_params(unflatten({**leaves, "slot_out.bias": jnp.zeros(3)}), TINY)
