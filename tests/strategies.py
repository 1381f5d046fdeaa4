"""Hypothesis strategies for tensor trains, and comparisons whose failure says where and by how much."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import jax
import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# Ranks reach above the modes' sizes, where a TT format stores more than it could need.
modes = st.integers(1, 4)
interior_ranks = st.integers(1, 7)
scales = st.sampled_from([1e-3, 1.0, 1e3])
seeds = st.integers(0, 2**32 - 1)


class Layer(NamedTuple):
    """A TT linear layer's input, cores (the first n_in for the input) and a cotangent, in float64."""

    x: np.ndarray
    cores: list[np.ndarray]
    n_in: int
    d_y: np.ndarray

    @property
    def in_modes(self) -> list[int]:
        return [core.shape[1] for core in self.cores[: self.n_in]]

    @property
    def out_modes(self) -> list[int]:
        return [core.shape[1] for core in self.cores[self.n_in :]]


@st.composite
def layers(draw: DrawFn) -> Layer:
    """TT layers of one to three input and output cores, with one to four tokens."""
    in_modes = draw(st.lists(modes, min_size=1, max_size=3))
    out_modes = draw(st.lists(modes, min_size=1, max_size=3))
    ranks = draw(_ranks(len(in_modes) + len(out_modes)))
    tokens = draw(st.integers(1, 4))
    rng, scale = np.random.default_rng(draw(seeds)), draw(scales)
    return Layer(
        x=rng.standard_normal((tokens, prod(in_modes))),
        cores=[
            scale * rng.standard_normal((r, n, s))
            for r, n, s in zip(ranks, [*in_modes, *out_modes], ranks[1:], strict=False)
        ],
        n_in=len(in_modes),
        d_y=rng.standard_normal((tokens, prod(out_modes))),
    )


@st.composite
def ttm_cores(draw: DrawFn) -> list[np.ndarray]:
    """TTM cores in float64, one to three of them."""
    n_cores = draw(st.integers(1, 3))
    row_modes, column_modes = (draw(st.lists(modes, min_size=n_cores, max_size=n_cores)) for _ in range(2))
    rng = np.random.default_rng(draw(seeds))
    ranks = draw(_ranks(n_cores))
    shapes = zip(ranks, row_modes, column_modes, ranks[1:], strict=False)
    return [rng.standard_normal(shape) for shape in shapes]


def _ranks(n_cores: int) -> SearchStrategy[tuple[int, ...]]:
    interior = st.lists(interior_ranks, min_size=n_cores - 1, max_size=n_cores - 1)
    return interior.map(lambda ranks: (1, *ranks, 1))


def assert_tree_close(actual: Any, expected: Any, rtol: float, atol: float = 0.0) -> None:
    """Same structure, and each leaf within ``rtol`` of the expected leaf's largest magnitude.

    ``atol`` is for leaves that are 0 but for rounding: the gradients of the keys' biases, to which a
    softmax is blind.
    """
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True)
    for (path, a), e in pairs:
        a, e = np.asarray(a), np.asarray(e)
        assert a.shape == e.shape and a.dtype == e.dtype, (jax.tree_util.keystr(path), a.dtype, e.dtype)
        worst = np.max(np.abs(a - e), initial=0.0)
        allowed = atol + rtol * np.max(np.abs(e), initial=0.0)
        assert worst <= allowed, f"{jax.tree_util.keystr(path)}: off by {worst}, {allowed} allowed"


def assert_tree_equal(actual: Any, expected: Any) -> None:
    """Same structure, and every number the same (a zero's sign aside)."""
    assert_tree_close(actual, expected, 0.0)
