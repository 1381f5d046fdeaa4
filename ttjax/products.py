"""Matrix products whose gradients are computed in the form that moves the fewest numbers.

On a CPU a product with a transposed operand begins by moving it, which can take longer than to multiply.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

Matrix = Float[Array, "*batch m s"]
Right = Float[Array, "*batch s n"]


def kept_transpose(matrix: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """The transpose, laid out in memory as such: the compiler may not fold it into a product."""
    return jax.lax.optimization_barrier(matrix.swapaxes(-1, -2))


@jax.custom_vjp
def product(left: Matrix, right: Right) -> Float[Array, "*batch m n"]:
    """The product of matrices, or of as many of them on either side; for reverse mode only.

    The gradient of an operand can be computed as it stands, or transposed and turned afterwards. The first
    moves the other operand, which enters it transposed, the second what arrives and the result: that one is
    taken which moves fewer numbers.
    """
    return left @ right


def _forward(left: Matrix, right: Right) -> tuple[Array, tuple[Array, Array]]:
    return left @ right, (left, right)


def _backward(operands: tuple[Array, Array], gradient: Float[Array, "*batch m n"]) -> tuple[Array, Array]:
    left, right = operands
    m, s, n = *left.shape[-2:], right.shape[-1]
    if m * (n + s) < s * n:
        of_left = _turned(right @ kept_transpose(gradient))
    else:
        of_left = gradient @ right.swapaxes(-1, -2)
    if n * (m + s) < m * s:
        of_right = _turned(kept_transpose(gradient) @ left)
    else:
        of_right = left.swapaxes(-1, -2) @ gradient
    return of_left, of_right


def _turned(matrix: Float[Array, "*batch m n"]) -> Float[Array, "*batch n m"]:
    """The transpose of a product, which the compiler may not make by exchanging the operands."""
    return jax.lax.optimization_barrier(matrix).swapaxes(-1, -2)


product.defvjp(_forward, _backward)
