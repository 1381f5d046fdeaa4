"""Taps: gradients of named values are those of perturbing them by hand, and overrides mean what they say."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from tests.strategies import assert_tree_close, assert_tree_equal
from ttjax.batch import Batch
from ttjax.config import preset
from ttjax.model import layer_norm, linear, loss
from ttjax.params import Params, init_params
from ttjax.taps import Tap, no_tap, scoped, tapped_value_and_grad, trace_shapes

PARAMS = {"w": jnp.asarray([0.5, -1.0, 2.0]), "v": jnp.asarray([1.5, 0.25, -0.75])}
TINY = preset("tiny")


def small(params: Params, tap: Tap) -> Array:
    a = tap("a", params["w"] * params["v"])
    b = tap("b", jnp.sin(a))
    return tap("loss", jnp.sum(b * b * params["v"]))


def small_by_hand(params: Params, da: Array, db: Array, dloss: Array) -> Array:
    """``small`` with a perturbation added to each named value."""
    a = params["w"] * params["v"] + da
    b = jnp.sin(a) + db
    return jnp.sum(b * b * params["v"]) + dloss


def test_names_and_shapes_in_order_of_execution() -> None:
    shapes = trace_shapes(small, PARAMS)
    assert list(shapes) == ["a", "b", "loss"]
    assert [s.shape for s in shapes.values()] == [(3,), (3,), ()]
    assert trace_shapes(small, jax.eval_shape(lambda: PARAMS)) == shapes


def test_values_and_gradients_are_those_of_perturbing_by_hand() -> None:
    values, d_values, d_params = tapped_value_and_grad(small, PARAMS)
    zeros = (jnp.zeros(3), jnp.zeros(3), jnp.zeros(()))
    by_hand = jax.grad(small_by_hand, argnums=(0, 1, 2, 3))(PARAMS, *zeros)
    assert_tree_close((d_params, d_values["a"], d_values["b"], d_values["loss"]), by_hand, 1e-6)
    np.testing.assert_allclose(values["b"], np.sin(PARAMS["w"] * PARAMS["v"]), rtol=1e-6)
    np.testing.assert_allclose(values["loss"], small(PARAMS, no_tap), rtol=1e-6)


def test_an_overridden_value_is_recorded_as_computed_and_replaced_for_what_follows() -> None:
    new = jnp.asarray([0.1, 0.2, 0.3])
    values, d_values, d_params = tapped_value_and_grad(small, PARAMS, values={"a": new})
    np.testing.assert_array_equal(values["a"], PARAMS["w"] * PARAMS["v"])
    np.testing.assert_allclose(values["b"], np.sin(new), rtol=1e-6)
    d_a = 2 * jnp.sin(new) * jnp.cos(new) * PARAMS["v"]
    np.testing.assert_allclose(d_values["a"], d_a, rtol=1e-5)
    # The gradient goes on to the stage before, as if that had produced the new value.
    np.testing.assert_allclose(d_params["w"], d_a * PARAMS["v"], rtol=1e-5)


def test_an_overridden_gradient_is_recorded_as_it_arrives_and_replaced_for_what_precedes() -> None:
    plain = tapped_value_and_grad(small, PARAMS)
    new = jnp.asarray([1.0, -2.0, 3.0])
    values, d_values, d_params = tapped_value_and_grad(small, PARAMS, gradients={"b": new})
    assert_tree_equal(values, plain[0])
    np.testing.assert_array_equal(d_values["b"], plain[1]["b"])
    d_a = new * jnp.cos(values["a"])
    np.testing.assert_allclose(d_values["a"], d_a, rtol=1e-6)
    np.testing.assert_allclose(d_params["w"], d_a * PARAMS["v"], rtol=1e-6)


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two trace points are called 'x'"):
        trace_shapes(lambda p, tap: jnp.sum(tap("x", p["w"]) + tap("x", p["v"])), PARAMS)


@pytest.mark.parametrize("kind", ["values", "gradients"])
def test_an_override_of_no_trace_point_is_refused(kind: str) -> None:
    overrides: dict[str, Any] = {kind: {"c": jnp.zeros(3)}}
    with pytest.raises(KeyError, match="no trace point is called 'c'"):
        tapped_value_and_grad(small, PARAMS, **overrides)


def test_scopes_stack() -> None:
    seen: list[str] = []

    def note(name: str, value: Array) -> Array:
        seen.append(name)
        return value

    scoped(scoped(note, "block0"), "q")("left", jnp.zeros(()))
    assert seen == ["block0.q.left"]


def example_of_tiny() -> Batch:
    tokens = np.asarray([2, 7, 50, 113, 239, 8, 0, 0, 0, 0], np.int32)
    slots = np.asarray([0, 1, 4, 10, 3, 1, 0, 0, 0, 0], np.int32)
    return Batch(tokens, np.asarray(6, np.int32), np.asarray(3, np.int32), slots)


def model_loss(params: Params, tap: Tap) -> Array:
    return loss(params, example_of_tiny(), TINY, tap=tap)


# The part of the second block behind its attention: from what they are given to norm2.
GIVEN = ("block1.norm1", "block1.norm2")


def test_a_stretch_of_the_model_runs_alone() -> None:
    """Given its input and its cotangent, the stretch is a function of its own parameters alone."""
    rng = np.random.default_rng(0)
    shape = (TINY.seq_len, TINY.d_model)
    x, cotangent = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))

    def alone(layers: Params, x: Array) -> Array:
        hidden = linear(layers["ffn_in"], x, TINY, "bidirectional")
        out = linear(layers["ffn_out"], jax.nn.gelu(hidden, approximate=True), TINY, "bidirectional")
        return layer_norm(layers["norm2"], x + out, TINY)

    stretch = jax.jit(
        lambda p: tapped_value_and_grad(model_loss, p, values={GIVEN[0]: x}, gradients={GIVEN[1]: cotangent})
    )
    for seed in (0, 1):
        # Another seed for all that lies outside must change nothing.
        params = init_params(jax.random.key(seed), TINY)
        params["block1"] = init_params(jax.random.key(7), TINY)["block1"]
        values, d_values, d_params = stretch(params)
        expected, pullback = jax.vjp(alone, params["block1"], x)
        d_layers, d_x = pullback(cotangent)
        np.testing.assert_allclose(values[GIVEN[1]], expected, atol=1e-5)
        inside = {name: d_params["block1"][name] for name in ("ffn_in", "ffn_out", "norm2")}
        assert_tree_close(inside, {name: d_layers[name] for name in inside}, 1e-5)
        np.testing.assert_allclose(d_values[GIVEN[0]], d_x, atol=1e-5)


def test_the_models_taps_do_not_change_it() -> None:
    params = init_params(jax.random.key(0), TINY)
    values, _, d_params = jax.jit(lambda p: tapped_value_and_grad(model_loss, p))(params)
    value, gradients = jax.jit(jax.value_and_grad(lambda p: model_loss(p, no_tap)))(params)
    np.testing.assert_allclose(values["loss"], value, rtol=1e-6)
    assert_tree_close(d_params, gradients, 1e-5, atol=1e-7)
