"""Tensor-train formats of a matrix and of an embedding table: shapes, initialisation, conversion, rows.

A TT matrix W (N_in, N_out) has cores G_k (r_{k-1}, n_k, r_k), input modes first, so that
W[(i1..ip), (o1..oq)] = G_1[i1] ... G_p[ip] G_{p+1}[o1] ... G_{p+q}[oq] (arXiv 2501.06663, section II).
A TTM table has cores F_k (r_{k-1}, m_k, n_k, r_k): row digit and column digit of one position share a core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ttjax.batch import Ids
from ttjax.errors import UserError
from ttjax.modes import check_bounds
from ttjax.products import product

Cores = Sequence[Array]


def core_shapes(modes: Sequence[int], ranks: Sequence[int]) -> list[tuple[int, int, int]]:
    """Shapes (r_{k-1}, n_k, r_k) of TT cores with those modes and ``len(modes) + 1`` ranks."""
    return [(ranks[k], modes[k], ranks[k + 1]) for k in range(len(modes))]


def ttm_core_shapes(
    row_modes: Sequence[int], column_modes: Sequence[int], ranks: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Shapes (r_{k-1}, m_k, n_k, r_k) of TTM cores with those row and column modes."""
    return [(ranks[k], row_modes[k], column_modes[k], ranks[k + 1]) for k in range(len(row_modes))]


def init_cores(
    key: Array, shapes: Sequence[tuple[int, ...]], std: float, dtype: jnp.dtype = jnp.float32
) -> list[Array]:
    """Normal cores whose *product* has entries of standard deviation ``std``.

    An entry of the product sums prod(interior ranks) terms, each a product of len(shapes)
    independent factors: var = prod(ranks) * s^(2 * len(shapes)), solved for the cores' own s.
    """
    ranks = prod(shape[-1] for shape in shapes)
    core_std = (std**2 / ranks) ** (1 / (2 * len(shapes)))
    keys = jax.random.split(key, len(shapes))
    return [core_std * jax.random.normal(k, shape, dtype) for k, shape in zip(keys, shapes, strict=True)]


def merge_left(cores: Cores) -> list[Float[Array, "n r"]]:
    """Running products A_k = A_{k-1} G_k from the left, A_k of shape (n_1...n_k, r_k); the last is the half.

    Only reshapes of row-major arrays and 2-D products: (N, r) (r, n s) -> (N, n s) = (N n, s).
    """
    products = [cores[0].reshape(-1, cores[0].shape[-1])]
    for core in cores[1:]:
        r, n, s = core.shape
        products.append((products[-1] @ core.reshape(r, n * s)).reshape(-1, s))
    return products


def merge_right(
    cores: Cores, multiply: Callable[[Array, Array], Array] = jnp.matmul
) -> list[Float[Array, "r n"]]:
    """Running products B_k = G_k B_{k+1} from the right, B_k (r_{k-1}, n_k...n_q); the last is the half.

    ``cores`` in their usual order; the first product returned is the last core itself. ``multiply``: the
    product of two matrices.
    """
    products = [cores[-1].reshape(cores[-1].shape[0], -1)]
    for core in reversed(cores[:-1]):
        r, n, s = core.shape
        products.append(multiply(core.reshape(r * n, s), products[-1]).reshape(r, -1))
    return products


def to_dense(cores: Cores, n_in: int) -> Float[Array, "d_in d_out"]:
    """The matrix W (d_in, d_out) of TT cores, the first ``n_in`` of which carry the input modes.

    In the cores' dtype: of NumPy's float64, as ``from_dense`` has them, a NumPy array in float64.
    """
    return merge_left(cores[:n_in])[-1] @ merge_right(cores[n_in:])[-1]


def from_dense(
    matrix: Float[np.ndarray, "d_in d_out"],
    in_modes: Sequence[int],
    out_modes: Sequence[int],
    *,
    max_rank: int | None = None,
    rel_error: float | None = None,
) -> list[Float[np.ndarray, "_ _ _"]]:
    """TT cores, in float64, of a matrix by TT-SVD, bounded by rank or relative Frobenius error (or both).

    Raises:
        UserError: the modes don't multiply to the matrix's shape, no usable bound is given, or a number
            isn't finite.
    """
    if matrix.shape != (prod(in_modes), prod(out_modes)):
        raise UserError(
            f"from_dense: modes multiply to {(prod(in_modes), prod(out_modes))}, the matrix is {matrix.shape}"
        )
    tensor = matrix.reshape(*in_modes, *out_modes)
    return tt_svd(tensor, max_rank=max_rank, rel_error=rel_error)


def ttm_rows(cores: Cores, digits: Int[Array, "t k"]) -> Float[Array, "t d"]:
    """Rows of a TTM table (d = prod of column modes) from the rows' mixed-radix digits.

    A digit picks a TT core out of each TTM core; a row is their product, right cores first, which
    at ranks above one is the cheaper order and never builds the table.
    """
    picked = [_pick(core, digits[:, k]) for k, core in enumerate(cores)]
    return jax.vmap(lambda row: merge_right(row, product)[-1].reshape(-1))(picked)


@jax.custom_vjp
def _pick(core: Float[Array, "r m n s"], digit: Int[Array, " t"]) -> Float[Array, "t r n s"]:
    """The TT core of each digit out of a TTM core.

    Its gradient sums the picked cores' gradients by digit: a product with the one-hot digits, several times
    as fast on a CPU as the scatter that autodiff would make of it. Reverse mode only.
    """
    return jnp.moveaxis(core, 1, 0)[digit]


def _pick_forward(core: Array, digit: Array) -> tuple[Array, tuple[Array, tuple[int, ...]]]:
    return _pick(core, digit), (digit, core.shape)


def _pick_backward(saved: tuple[Array, tuple[int, ...]], gradient: Array) -> tuple[Array, None]:
    digit, (r, m, n, s) = saved
    one_hot = jax.nn.one_hot(digit, m, dtype=gradient.dtype)
    by_digit = one_hot.T @ gradient.reshape(len(digit), -1)
    return jnp.moveaxis(by_digit.reshape(m, r, n, s), 0, 1), None


_pick.defvjp(_pick_forward, _pick_backward)


def digits_of(index: Ids, modes: Sequence[int]) -> Int[Array, "... k"]:
    """Mixed-radix digits of a row index, the most significant first."""
    digits = []
    for mode in reversed(modes):
        digits.append(index % mode)
        index = index // mode
    return jnp.stack(digits[::-1], axis=-1)


def ttm_to_dense(cores: Cores) -> Float[Array, "m n"]:
    """The whole table (prod(m_k), prod(n_k)) of TTM cores.

    A JAX array in the cores' dtype, which without jax_enable_x64 is float32 for those of ``ttm_from_dense``.
    """
    table = jnp.asarray(cores[0])[0]
    for core in cores[1:]:
        rows, columns, _ = table.shape
        _, m, n, s = core.shape
        table = jnp.einsum("abr,rmns->ambns", table, core).reshape(rows * m, columns * n, s)
    return table[:, :, 0]


def ttm_from_dense(
    table: Float[np.ndarray, "m n"],
    row_modes: Sequence[int],
    column_modes: Sequence[int],
    *,
    max_rank: int | None = None,
    rel_error: float | None = None,
) -> list[Float[np.ndarray, "_ _ _ _"]]:
    """TTM cores of a table by TT-SVD over the paired modes (m_k, n_k), bounded and refused as ``from_dense``.

    Raises:
        UserError: the modes aren't paired or don't multiply to the table's shape, or as ``from_dense``.
    """
    if len(row_modes) != len(column_modes):
        raise UserError(
            f"ttm_from_dense: expected as many row modes as column modes, found {row_modes} and"
            f" {column_modes}"
        )
    if table.shape != (prod(row_modes), prod(column_modes)):
        raise UserError(
            f"ttm_from_dense: modes multiply to {(prod(row_modes), prod(column_modes))},"
            f" the table is {table.shape}"
        )
    n = len(row_modes)
    interleaved = [axis for k in range(n) for axis in (k, n + k)]
    paired = table.reshape(*row_modes, *column_modes).transpose(interleaved)
    modes = [row_modes[k] * column_modes[k] for k in range(n)]
    cores = tt_svd(paired.reshape(modes), max_rank=max_rank, rel_error=rel_error)
    return [
        core.reshape(core.shape[0], row_modes[k], column_modes[k], core.shape[2])
        for k, core in enumerate(cores)
    ]


def tt_svd(
    tensor: Float[np.ndarray, "..."], *, max_rank: int | None = None, rel_error: float | None = None
) -> list[Float[np.ndarray, "_ _ _"]]:
    """TT cores, in float64, of a tensor by successive truncated SVDs (Oseledets 2011, algorithm 1).

    With ``rel_error`` each of the d-1 truncations may drop rel_error * |tensor| / sqrt(d - 1), so the whole
    error is at most rel_error * |tensor| (his theorem 2.2). ``max_rank`` cuts further and voids that bound.

    Raises:
        UserError: neither bound is given, a rank below 1, an error below 0, infinite or not a number, or a
            number of the tensor isn't finite.
    """
    check_bounds(max_rank, rel_error)
    # LAPACK has no half precision.
    tensor = np.asarray(tensor, np.float64)
    if not np.isfinite(tensor).all():
        raise UserError("from_dense: expected finite numbers, found NaN or infinity")
    modes = tensor.shape
    budget = (rel_error or 0.0) * float(np.linalg.norm(tensor)) / max(1, len(modes) - 1) ** 0.5
    cores = []
    rest = tensor.reshape(1, -1)
    for mode in modes[:-1]:
        rank_before = rest.shape[0]
        u, s, vt = np.linalg.svd(rest.reshape(rank_before * mode, -1), full_matrices=False)
        rank = len(s) if rel_error is None else _smallest_rank(s, budget)
        rank = min(rank, max_rank) if max_rank is not None else rank
        cores.append(u[:, :rank].reshape(rank_before, mode, rank))
        rest = s[:rank, None] * vt[:rank]
    return [*cores, rest.reshape(rest.shape[0], modes[-1], 1)]


def _smallest_rank(singular_values: Float[np.ndarray, " s"], budget: float) -> int:
    """Fewest singular values (at least one) that leave a tail of norm ``budget`` or less."""
    tails = np.sqrt(np.cumsum(singular_values[::-1] ** 2))[::-1]
    return max(1, int(np.count_nonzero(tails > budget)))
