"""LayerNorm's written-out derivative against autodiff's of its formula."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array

from tests.strategies import assert_tree_close
from ttjax.norm import normalise

EPS = 1e-5


def formula(x: Array, scale: Array, bias: Array) -> Array:
    """LayerNorm as it is defined (Ba et al. 2016)."""
    return (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + EPS) * scale[None] + bias[None]


@jax.jit
def both(x: Array, scale: Array, bias: Array, dy: Array) -> tuple[list[Array], list[Array]]:
    """Value and gradients: ours, and autodiff's."""

    def here(x: Array, scale: Array, bias: Array) -> Array:
        return normalise(x, scale, bias, EPS)  # type: ignore[return-value]

    ours, theirs = jax.vjp(here, x, scale, bias), jax.vjp(formula, x, scale, bias)
    return [ours[0], *ours[1](dy)], [theirs[0], *theirs[1](dy)]


@settings(max_examples=8)  # every shape compiles anew
@given(
    rows=st.integers(1, 5),
    width=st.integers(2, 9),
    offset=st.sampled_from([0.0, 30.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_and_gradients_are_the_formulas(rows: int, width: int, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        x, dy = (jnp.asarray(rng.standard_normal((rows, width))) for _ in range(2))
        scale, bias = (jnp.asarray(rng.standard_normal(width)) for _ in range(2))
        ours, theirs = both(x + offset, scale, bias, dy)
    assert_tree_close(ours, theirs, 1e-9)
