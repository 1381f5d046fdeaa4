"""TT and TTM formats: tensorly as the oracle, TT-SVD's bounds, the spread of fresh cores."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorly as tl
from hypothesis import given
from hypothesis import strategies as st
from tensorly.tt_matrix import tt_matrix_to_matrix

from tests.strategies import Layer, layers, ttm_cores
from ttjax.config import preset
from ttjax.errors import UserError
from ttjax.params import linear_core_shapes
from ttjax.tt import (
    digits_of,
    from_dense,
    init_cores,
    merge_left,
    merge_right,
    to_dense,
    ttm_core_shapes,
    ttm_from_dense,
    ttm_to_dense,
)

ENC2 = preset("enc2")


@pytest.fixture(autouse=True, scope="module")
def numpy_backend() -> Iterator[None]:
    """Where tensorly-torch is installed, a test that imports it makes PyTorch tensorly's backend for all."""
    before = tl.get_backend()
    tl.set_backend("numpy")
    yield
    tl.set_backend(before)


def dense64(layer: Layer) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(_to_dense(list(layer.cores), layer.n_in))


def ttm_dense64(cores: list[np.ndarray]) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(_ttm_to_dense(cores))


# One compilation for each set of shapes instead of one for each operation.
_to_dense = jax.jit(to_dense, static_argnames="n_in")
_ttm_to_dense = jax.jit(ttm_to_dense)


def oracle(cores: list[np.ndarray]) -> np.ndarray:
    """tensorly's tensor of TT cores."""
    return np.asarray(tl.tt_to_tensor(cores))


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))


@given(layers())
def test_to_dense_is_tensorlys_tensor_as_a_matrix(layer: Layer) -> None:
    expected = oracle(layer.cores).reshape(layer.x.shape[1], layer.d_y.shape[1])
    assert relative_error(dense64(layer), expected) < 1e-13


@given(ttm_cores())
def test_ttm_to_dense_is_tensorlys_matrix(cores: list[np.ndarray]) -> None:
    assert relative_error(ttm_dense64(cores), tt_matrix_to_matrix(cores)) < 1e-13


@given(layers())
def test_merges_hold_every_running_product(layer: Layer) -> None:
    """Each product, closed with ones on its open rank, is tensorly's tensor of the cores so closed."""
    last = len(layer.cores) - 1
    with jax.enable_x64(True):
        cores = list(map(jax.numpy.asarray, layer.cores))
        left, right = merge_left(cores), merge_right(cores)
    for k, product in enumerate(left):
        closed = [*layer.cores[:k], layer.cores[k].sum(axis=2, keepdims=True)]
        assert relative_error(np.asarray(product).sum(axis=1), oracle(closed).reshape(-1)) < 1e-12
    for k, product in enumerate(right):
        closed = [layer.cores[last - k].sum(axis=0, keepdims=True), *layer.cores[last - k + 1 :]]
        assert relative_error(np.asarray(product).sum(axis=0), oracle(closed).reshape(-1)) < 1e-12


@given(layers())
def test_tt_svd_at_full_rank_is_exact(layer: Layer) -> None:
    matrix = dense64(layer)
    again = from_dense(matrix, layer.in_modes, layer.out_modes, rel_error=0.0)
    assert relative_error(dense64(layer._replace(cores=again)), matrix) < 1e-12


@given(layers())
def test_tt_svd_finds_ranks_not_above_those_of_the_cores(layer: Layer) -> None:
    again = from_dense(dense64(layer), layer.in_modes, layer.out_modes, rel_error=1e-10)
    for found, given_core in zip(again, layer.cores, strict=True):
        assert found.shape[2] <= given_core.shape[2]


@given(layers(), st.floats(0.0, 0.9))
def test_tt_svd_keeps_the_error_bound(layer: Layer, rel_error: float) -> None:
    # A full-rank matrix, so that the bound bites.
    matrix = np.random.default_rng(0).standard_normal((layer.x.shape[1], layer.d_y.shape[1]))
    cores = from_dense(matrix, layer.in_modes, layer.out_modes, rel_error=rel_error)
    assert relative_error(dense64(layer._replace(cores=cores)), matrix) <= rel_error + 1e-12


def test_a_looser_error_bound_gives_smaller_ranks() -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 64))
    ranks = [
        sum(core.shape[2] for core in from_dense(matrix, (8, 8), (8, 8), rel_error=error))
        for error in (0.0, 0.3, 0.9)
    ]
    assert ranks[0] > ranks[1] > ranks[2]


@given(layers(), st.integers(1, 5))
def test_tt_svd_keeps_the_rank_bound(layer: Layer, max_rank: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((layer.x.shape[1], layer.d_y.shape[1]))
    cores = from_dense(matrix, layer.in_modes, layer.out_modes, max_rank=max_rank)
    assert all(core.shape[2] <= max_rank for core in cores)
    unbound = from_dense(matrix, layer.in_modes, layer.out_modes, rel_error=0.0)
    if all(core.shape[2] <= max_rank for core in unbound):
        assert relative_error(dense64(layer._replace(cores=cores)), matrix) < 1e-12


def test_a_rank_bound_cuts_a_matrix_as_the_svd_does() -> None:
    matrix = np.random.default_rng(0).standard_normal((12, 10))
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    first, second = from_dense(matrix, (12,), (10,), max_rank=3)
    np.testing.assert_allclose(first[0] @ second[:, :, 0], (u[:, :3] * s[:3]) @ vt[:3], atol=1e-12)


@given(ttm_cores(), st.floats(0.0, 0.9))
def test_ttm_svd_keeps_the_error_bound(cores: list[np.ndarray], rel_error: float) -> None:
    rows, columns = ([core.shape[axis] for core in cores] for axis in (1, 2))
    table = np.random.default_rng(0).standard_normal((prod(rows), prod(columns)))
    again = ttm_from_dense(table, rows, columns, rel_error=rel_error)
    assert relative_error(ttm_dense64(again), table) <= rel_error + 1e-12


@given(ttm_cores())
def test_ttm_svd_gives_back_a_ttm_table(cores: list[np.ndarray]) -> None:
    rows, columns = ([core.shape[axis] for core in cores] for axis in (1, 2))
    table = ttm_dense64(cores)
    again = ttm_from_dense(table, rows, columns, rel_error=1e-10)
    assert relative_error(ttm_dense64(again), table) < 1e-9
    assert all(a.shape[3] <= c.shape[3] for a, c in zip(again, cores, strict=True))


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "expected rank or rel_error, found neither"),
        ({"max_rank": 0}, "rank: expected a whole number from 1 up, found 0"),
        ({"rel_error": -0.1}, "expected a finite rel_error from 0 up, found -0.1"),
        ({"rel_error": float("nan")}, "expected a finite rel_error from 0 up, found nan"),
        ({"rel_error": float("inf")}, "expected a finite rel_error from 0 up, found inf"),
    ],
)
def test_unusable_bounds(bounds: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dense(np.ones((4, 4)), (2, 2), (2, 2), **bounds)


def test_numbers_that_are_not_finite() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match="expected finite numbers, found NaN or infinity"):
            from_dense(np.full((4, 4), bad), (2, 2), (2, 2), max_rank=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_coarse_matrix_is_taken_apart_in_float64(dtype: Any) -> None:
    matrix = np.arange(16).reshape(4, 4).astype(dtype)
    cores = from_dense(matrix, (2, 2), (2, 2), rel_error=0.0)
    assert {core.dtype for core in cores} == {np.dtype(np.float64)}
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            to_dense([jnp.asarray(core) for core in cores], 2), matrix.astype(float), atol=1e-12
        )


def test_modes_of_another_shape() -> None:
    with pytest.raises(UserError, match=r"modes multiply to \(6, 4\), the matrix is \(4, 4\)"):
        from_dense(np.ones((4, 4)), (2, 3), (2, 2), max_rank=1)
    with pytest.raises(UserError, match=r"modes multiply to \(4, 6\), the table is \(4, 4\)"):
        ttm_from_dense(np.ones((4, 4)), (2, 2), (2, 3), max_rank=1)
    with pytest.raises(UserError, match=r"as many row modes as column modes, found \(2, 2\) and \(4,\)"):
        ttm_from_dense(np.ones((4, 4)), (2, 2), (4,), max_rank=1)


@pytest.mark.parametrize("modes", [((4, 3), (2, 4)), ((12,), (8,))], ids=["two cores", "one"])
def test_what_svd_takes_apart_is_put_together_without_a_warning(modes: tuple[Any, Any]) -> None:
    """A warning is an error here; without the tests' own check of types, for which NumPy's are no cores."""
    table = np.random.default_rng(0).standard_normal((12, 8))
    again = inspect.unwrap(ttm_to_dense)(ttm_from_dense(table, *modes, rel_error=0.0))
    assert again.dtype == jnp.float32
    np.testing.assert_allclose(again, table, atol=1e-5)


def test_digits_are_most_significant_first() -> None:
    modes = (5, 8, 6)
    index = jax.numpy.arange(240, dtype=jax.numpy.int32)
    np.testing.assert_array_equal(digits_of(index, modes), np.stack(np.unravel_index(index, modes), axis=-1))


def test_each_linear_layers_fresh_weight_has_the_stated_spread() -> None:
    shapes = linear_core_shapes(ENC2)
    target = ENC2.d_model**-0.5

    def ratio(key: jax.Array) -> jax.Array:
        return jax.numpy.std(to_dense(init_cores(key, shapes, target), 3)) / target

    ratios = np.asarray(jax.lax.map(ratio, jax.random.split(jax.random.key(0), 40)))
    # The spread of one draw scatters by 0.10 (0.74 to 1.28 in 600 draws); its mean square must be 1, here
    # known to 0.2 / sqrt(40).
    assert ratios.min() > 0.7 and ratios.max() < 1.35
    assert abs(np.mean(ratios**2) - 1) < 0.1


def test_a_fresh_embeddings_rows_have_the_stated_spread() -> None:
    shapes = ttm_core_shapes(ENC2.vocab_modes, ENC2.embed_modes, ENC2.ttm_ranks)

    def ratio(key: jax.Array) -> jax.Array:
        return jax.numpy.std(ttm_to_dense(init_cores(key, shapes, 0.1))) / 0.1

    ratios = np.asarray(jax.lax.map(ratio, jax.random.split(jax.random.key(1), 16)))
    assert ratios.min() > 0.9 and ratios.max() < 1.1
    assert abs(np.mean(ratios**2) - 1) < 0.03
