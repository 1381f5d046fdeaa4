"""LayerNorm of rows, with its derivative written out: two products and two sums in place of autodiff's six.

Reverse mode only, as is the embedding: a loss of the model has no forward-mode derivative.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Rows = Float[Array, "rows width"]
Row = Float[Array, " width"]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(x: Rows, scale: Row, bias: Row, eps: float) -> Rows:
    """(x - mean) / sqrt(var + eps) * scale + bias, mean and variance over the width of each row."""
    return _forward(x, scale, bias, eps)[0]


def _forward(x: Rows, scale: Row, bias: Row, eps: float) -> tuple[Rows, tuple[Array, Array, Row]]:
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
    inverse = 1 / jnp.sqrt(variance + eps)
    unit = centered * inverse
    return unit * scale[None] + bias[None], (unit, inverse, scale)


def _backward(eps: float, saved: tuple[Array, Array, Row], dy: Rows) -> tuple[Rows, Row, Row]:
    """With g = dy * scale: dx = (g - mean(g) - unit * mean(g * unit)) * inverse.

    Both means are products with scale, and dy * unit, kept, serves one of them and the gradient of scale.
    """
    unit, inverse, scale = saved
    of_unit = jax.lax.optimization_barrier(dy * unit)
    weight = scale[:, None] / scale.shape[0]
    dx = (dy * scale[None] - dy @ weight - unit * (of_unit @ weight)) * inverse
    return dx, jnp.sum(of_unit, axis=0), jnp.sum(dy, axis=0)


normalise.defvjp(_forward, _backward)
