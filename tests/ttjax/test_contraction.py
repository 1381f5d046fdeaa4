"""Every flow equals the dense product, in value and gradients, whatever the factors and ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax import Array

from tests.strategies import Layer, assert_tree_close, layers, ttm_cores
from ttjax.contraction import Flow, contract
from ttjax.errors import UserError
from ttjax.tt import digits_of, to_dense, ttm_rows, ttm_to_dense

FLOWS: tuple[Flow, ...] = get_args(Flow)
EPS32 = float(np.finfo(np.float32).eps)


Result = tuple[Array, tuple[Array, list[Array]]]  # y, and its gradients to x and the cores


@partial(jax.jit, static_argnames="n_in")
def by_every_order(x: Array, cores: list[Array], d_y: Array, n_in: int) -> dict[str, Result]:
    """What each flow gives, and under "truth" what the plain product with the dense matrix gives."""
    orders: dict[str, Callable[[Array, list[Array]], Array]] = {
        flow: partial(contract, n_in=n_in, flow=flow) for flow in FLOWS
    }
    orders["truth"] = lambda x, cores: x @ to_dense(cores, n_in)
    results = {}
    for name, order in orders.items():
        y, pullback = jax.vjp(order, x, cores)
        results[name] = y, pullback(d_y)
    return results


def results_of(layer: Layer, dtype: Any) -> dict[str, Result]:
    x, cores, d_y = jax.tree.map(lambda a: jnp.asarray(a, dtype), (layer.x, layer.cores, layer.d_y))
    return by_every_order(x, cores, d_y, layer.n_in)


@given(layer=layers())
def test_all_flows_agree_in_values_and_gradients(layer: Layer) -> None:
    absolute = Layer(abs(layer.x), [abs(core) for core in layer.cores], layer.n_in, abs(layer.d_y))
    with jax.enable_x64(True):
        exact = results_of(layer, jnp.float64)
        # The sizes of the terms summed: what rounding is relative to, when the sums cancel.
        sizes = results_of(absolute, jnp.float64)["truth"]
    single = results_of(layer, jnp.float32)
    # Each number is a chain of sums; every level may round its terms, and so may the inputs' conversion.
    levels = sum(core.shape[0] + core.shape[1] for core in layer.cores) + len(layer.x) + 4
    for flow in FLOWS:
        assert_within(exact[flow], exact["truth"], sizes, 1e-13)
        assert_within(single[flow], exact["truth"], sizes, levels * EPS32)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(single[flow]))


def assert_within(actual: Any, expected: Any, sizes: Any, tolerance: float) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e, s in zip(*map(jax.tree.leaves, (actual, expected, sizes)), strict=True):
        assert a.shape == e.shape
        np.testing.assert_array_less(abs(np.asarray(a) - np.asarray(e)), tolerance * np.asarray(s) + 1e-30)


def test_the_flows_agree_at_the_papers_dimensions() -> None:
    rng = np.random.default_rng(0)
    ranks, modes = (1, 12, 12, 12, 12, 12, 1), (12, 8, 8, 8, 8, 12)
    cores = [0.2 * rng.standard_normal((ranks[k], modes[k], ranks[k + 1])) for k in range(6)]
    layer = Layer(rng.standard_normal((32, 768)), cores, 3, rng.standard_normal((32, 768)))
    with jax.enable_x64(True):
        results = results_of(layer, jnp.float64)
    for flow in FLOWS:
        assert_tree_close(results[flow], results["truth"], 1e-13)


def test_an_unknown_flow() -> None:
    cores = [jnp.ones((1, 2, 2)), jnp.ones((2, 2, 1))]
    with pytest.raises(UserError, match="unknown flow 'sideways': expected one of dense, right_to_left, bid"):
        contract.__wrapped__(jnp.ones((1, 2)), cores, 1, "sideways")  # type: ignore[attr-defined]


@jax.jit
def rows_and_table(cores: list[Array]) -> tuple[Array, Array]:
    """Every row by itself, and the whole table."""
    table = ttm_to_dense(cores)
    digits = digits_of(jnp.arange(len(table), dtype=jnp.int32), [core.shape[1] for core in cores])
    return ttm_rows(cores, digits), table


@jax.jit
def gradients_of_some_rows(cores: list[Array]) -> tuple[list[Array], list[Array]]:
    """Gradients to the cores of a function of rows, one of them twice, by the rows and by the table."""
    last = prod(core.shape[1] for core in cores) - 1
    index = jnp.asarray([last // 2, 0, last // 2, last], jnp.int32)
    digits = digits_of(index, [core.shape[1] for core in cores])
    by_row = jax.grad(lambda c: jnp.sum(jnp.sin(ttm_rows(c, digits))))(cores)
    return by_row, jax.grad(lambda c: jnp.sum(jnp.sin(ttm_to_dense(c)[index])))(cores)


@given(ttm_cores())
def test_each_ttm_row_is_the_dense_tables_row(cores: list[np.ndarray]) -> None:
    with jax.enable_x64(True):
        rows, table = map(np.asarray, rows_and_table(cores))
    np.testing.assert_allclose(rows, table, rtol=0, atol=1e-12 * abs(table).max())


@given(ttm_cores())
def test_a_ttm_rows_gradient_is_the_tables(cores: list[np.ndarray]) -> None:
    with jax.enable_x64(True):
        by_row, by_table = gradients_of_some_rows(cores)
    assert_tree_close(by_row, by_table, 1e-10)
