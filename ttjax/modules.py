"""Tensor-train layers for other people's models: flax.linen modules that stand in for Dense and Embed.

The same call and attributes, with cores in the place of the matrix: ``{"kernel": {"core0", ...}, "bias"}``
and ``{"embedding": {"core0", ...}}``. Trained parameters convert both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from flax.linen.linear import default_embed_init, default_kernel_init
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float, Num

from ttjax import tt
from ttjax.contraction import Flow, contract
from ttjax.errors import UserError
from ttjax.modes import Modes, all_ranks, checked_modes, even_modes
from ttjax.params import Params, core_list


class TTDense(nn.Module):
    """``flax.linen.Dense`` whose kernel (d_in, features) is a tensor train, formed only by the flow "dense".

    The attributes up to bias_init are Dense's own, with their meaning. A fresh kernel has the mean square
    that a draw of ``kernel_init`` has, and is random in sign: of the initialiser nothing but its size
    remains.

    in_modes, out_modes: factors of d_in and of features; left out, those of ``even_modes``, the larger
    ones outermost: 768 is (12, 8, 8) as d_in, (8, 8, 12) as features.
    rank: every interior rank, less where the modes to the left or right multiply to less. ranks: instead
    of it, all ``len(in_modes) + len(out_modes) + 1`` of them, the first and the last 1.

    Raises:
        UserError: when called, if modes or ranks don't fit the widths or each other, the flow is unknown,
            or precision is something else than one name or ``jax.lax.Precision``.
    """

    features: int
    use_bias: bool = True
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    precision: str | jax.lax.Precision | None = None
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()
    in_modes: Modes | None = None
    out_modes: Modes | None = None
    rank: int | None = None
    ranks: Modes | None = None
    flow: Flow = "bidirectional"

    @nn.compact
    def __call__(self, inputs: Num[Array, "*batch d_in"]) -> Float[Array, "*batch features"]:
        """``inputs`` times the kernel, plus the bias; computed in ``dtype``."""
        d_in = inputs.shape[-1]
        size, shapes = (d_in, self.features), self._shapes(d_in)
        kernel = self.param("kernel", _fresh_cores, self.kernel_init, size, shapes, self.param_dtype)
        cores = _in_order(kernel)
        _check_shapes(cores, shapes)
        bias = None
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
        x, bias, *cores = promote_dtype(inputs, bias, *cores, dtype=self.dtype)
        with _precision(self.precision):
            y = contract(x.reshape(-1, d_in), cores, len(self._in_modes(d_in)), self.flow)
        y = y if bias is None else y + bias[None]
        return y.reshape(*inputs.shape[:-1], self.features)

    @classmethod
    def from_dense(
        cls,
        params: Mapping[str, Any],
        *,
        rank: int | None = None,
        rel_error: float | None = None,
        **attributes: Any,
    ) -> tuple[TTDense, Params]:
        """The nearest tensor train, by TT-SVD, to the trained parameters of a Dense.

        Args:
            params: ``{"kernel": (d_in, features)}``, with or without ``"bias": (features,)``.
            rank: largest interior rank.
            rel_error: largest relative Frobenius error of the kernel; ``rank`` cuts further and voids it.
            attributes: of the new module: in_modes, out_modes, flow, dtype, ... ``param_dtype`` is the
                kernel's own if left out.

        Returns:
            the module, with its modes and ranks written out, and its parameters.

        Raises:
            UserError: params of another shape, with other names or of whole numbers, numbers that aren't
                finite, modes that don't fit, no usable bound, an attribute that follows from the others.
        """
        matrix, dtype = _checked_matrix(params, "kernel", {"bias"})
        d_in, features = matrix.shape
        bias = {name: jnp.asarray(leaf) for name, leaf in params.items() if name == "bias"}
        if bias and bias["bias"].shape != (features,):
            raise UserError(f"from_dense: expected a bias of shape {(features,)}, found {bias['bias'].shape}")
        module = cls(features, use_bias=bool(bias), **_checked_attributes(attributes, dtype))
        modes = module._in_modes(d_in), module._out_modes()
        cores = tt.from_dense(matrix, *modes, max_rank=rank, rel_error=rel_error)
        in_modes, out_modes = modes
        module = module.copy(in_modes=in_modes, out_modes=out_modes, ranks=_ranks_of(cores))
        bias = {name: leaf.astype(module.param_dtype) for name, leaf in bias.items()}
        return module, {"kernel": _named(cores, module.param_dtype), **bias}

    @nn.nowrap
    def to_dense(self, params: Mapping[str, Any]) -> Params:
        """The parameters of a ``flax.linen.Dense`` that computes the same as this module with ``params``.

        Raises:
            UserError: the cores are not those of this module.
        """
        cores = _cores_in(params, "kernel")
        n_in = len(cores) - len(self._out_modes())
        found = [core.shape[1] for core in cores[:n_in] if core.ndim == 3]
        d_in = prod(found if self.in_modes is None else self.in_modes)
        _check_shapes(cores, self._shapes(d_in))
        return {**params, "kernel": tt.to_dense(cores, n_in)}

    @nn.nowrap
    def _in_modes(self, d_in: int) -> Modes:
        modes = even_modes(d_in) if self.in_modes is None else self.in_modes
        return checked_modes("in_modes", modes, "the input's width", d_in)

    @nn.nowrap
    def _out_modes(self) -> Modes:
        modes = even_modes(self.features)[::-1] if self.out_modes is None else self.out_modes
        return checked_modes("out_modes", modes, "features", self.features)

    @nn.nowrap
    def _shapes(self, d_in: int) -> tuple[Modes, ...]:
        modes = self._in_modes(d_in) + self._out_modes()
        return tuple(tt.core_shapes(modes, all_ranks(self.rank, self.ranks, modes)))


class TTMEmbed(nn.Module):
    """``flax.linen.Embed`` whose table (num_embeddings, features) is a tensor train of matrices (TTM).

    The attributes up to embedding_init are Embed's own, with their meaning. A fresh table has the mean
    square that a draw of ``embedding_init`` has. Derivatives in reverse mode only: ``jax.jvp`` refuses it.

    in_modes, out_modes: factors of num_embeddings and of features, as many of one as of the other; left
    out, those of ``even_modes``, in falling order, as many as the other has: (10, 10, 10) and (12, 8, 8)
    for 1000 by 768.
    rank, ranks: as those of ``TTDense``, for ``len(in_modes)`` cores.

    Raises:
        UserError: when called, if modes or ranks don't fit the sizes or each other, or indices aren't
            whole numbers.
    """

    num_embeddings: int
    features: int
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    embedding_init: Initializer = default_embed_init
    in_modes: Modes | None = None
    out_modes: Modes | None = None
    rank: int | None = None
    ranks: Modes | None = None

    def setup(self) -> None:
        """Declares the cores."""
        size, shapes = (self.num_embeddings, self.features), self._shapes()
        table = self.param("embedding", _fresh_cores, self.embedding_init, size, shapes, self.param_dtype)
        self.cores = _in_order(table)
        _check_shapes(self.cores, shapes)

    def __call__(self, inputs: Num[Array, "*batch"]) -> Float[Array, "*batch features"]:
        """The rows of those indices; as in Embed negative ones count from the end, those outside give NaN."""
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise UserError(f"TTMEmbed: expected whole numbers as indices, found {inputs.dtype}")
        cores = promote_dtype(*self.cores, dtype=self.dtype, inexact=False)
        index = inputs.astype(jnp.int32)
        digits = tt.digits_of(index.reshape(-1), self._modes()[0])
        rows = tt.ttm_rows(cores, digits).reshape(*inputs.shape, self.features)
        # Compared as they came, unsigned or of 64 bits, by bounds that such a number can be.
        of, limits = self.num_embeddings, jnp.iinfo(inputs.dtype)
        valid = (inputs >= max(-of, int(limits.min))) & (inputs <= min(of - 1, int(limits.max)))
        # Embed gives the row of a table of one row to every index.
        return jnp.where((of == 1) | valid[..., None], rows, jnp.nan)

    def attend(self, query: Num[Array, "*batch features"]) -> Float[Array, "*batch num_embeddings"]:
        """Inner products of ``query`` with every row. Forms the table for it, as Embed has it all along."""
        query, *cores = promote_dtype(query, *self.cores, dtype=self.dtype)
        return jnp.dot(query, tt.ttm_to_dense(cores).T)

    @classmethod
    def from_dense(
        cls,
        params: Mapping[str, Any],
        *,
        rank: int | None = None,
        rel_error: float | None = None,
        **attributes: Any,
    ) -> tuple[TTMEmbed, Params]:
        """The nearest TTM, by TT-SVD, to the trained parameters of an Embed.

        ``params`` is ``{"embedding": (num_embeddings, features)}``. The other arguments, the results and the
        errors are those of ``TTDense.from_dense``.
        """
        table, dtype = _checked_matrix(params, "embedding", set())
        module = cls(*table.shape, **_checked_attributes(attributes, dtype))
        in_modes, out_modes = module._modes()
        cores = tt.ttm_from_dense(table, in_modes, out_modes, max_rank=rank, rel_error=rel_error)
        module = module.copy(in_modes=in_modes, out_modes=out_modes, ranks=_ranks_of(cores))
        return module, {"embedding": _named(cores, module.param_dtype)}

    @nn.nowrap
    def to_dense(self, params: Mapping[str, Any]) -> Params:
        """The parameters of a ``flax.linen.Embed`` with the same rows as this module with ``params``.

        Raises:
            UserError: the cores are not those of this module.
        """
        cores = _cores_in(params, "embedding")
        _check_shapes(cores, self._shapes())
        return {"embedding": tt.ttm_to_dense(cores)}

    @nn.nowrap
    def _modes(self) -> tuple[Modes, Modes]:
        sizes = self.num_embeddings, self.features
        rows, columns = self.in_modes, self.out_modes
        if rows is not None:
            checked_modes("in_modes", rows, "num_embeddings", self.num_embeddings)
        if columns is not None:
            checked_modes("out_modes", columns, "features", self.features)
        n_cores = len(rows or columns or min(map(even_modes, sizes), key=len))
        rows, columns = (
            even_modes(size, n_cores) if modes is None else modes
            for modes, size in zip((rows, columns), sizes, strict=True)
        )
        if len(rows) != len(columns):
            raise UserError(
                f"TTMEmbed: expected as many in_modes as out_modes, found {rows} and {columns}: give both"
            )
        return rows, columns

    @nn.nowrap
    def _shapes(self) -> tuple[Modes, ...]:
        rows, columns = self._modes()
        sizes = [m * n for m, n in zip(rows, columns, strict=True)]
        return tuple(tt.ttm_core_shapes(rows, columns, all_ranks(self.rank, self.ranks, sizes)))


# Jitted so that the draw, which is only measured, isn't stored.
@partial(jax.jit, static_argnames=("initializer", "shape", "shapes", "dtype"))
def _fresh_cores(
    key: Array, initializer: Initializer, shape: tuple[int, int], shapes: tuple[Modes, ...], dtype: Dtype
) -> Params:
    """Normal cores, of one size each, whose product has the mean square of a draw ``initializer(., shape)``.

    Where that is 0 the last core alone is 0, so that the layer can learn.
    """
    of_size, of_cores = jax.random.split(key)
    at_work = dtype if jnp.finfo(dtype).bits > 32 else jnp.float32
    wanted = jnp.mean(jnp.square(initializer(of_size, shape, at_work)))
    cores = tt.init_cores(of_cores, shapes, 1.0, jnp.dtype(at_work))
    factor = (wanted / (_square_norm(cores) / prod(shape))) ** (1 / (2 * len(cores)))
    *rest, last = [jnp.where(wanted > 0, factor, 1.0) * core for core in cores]
    return _named([*rest, jnp.where(wanted > 0, last, 0.0)], dtype)


def _square_norm(cores: Sequence[Array]) -> Float[Array, ""]:
    """Sum of the squared entries of the train's product, without forming it."""
    gram = jnp.ones((1, 1), cores[0].dtype)
    for core in cores:
        flat = core.reshape(core.shape[0], -1, core.shape[-1])
        gram = jnp.einsum("ab,anr,bns->rs", gram, flat, flat)
    return gram[0, 0]


def _named(cores: Sequence[Any], dtype: Dtype) -> Params:
    return {f"core{k}": jnp.asarray(core, dtype) for k, core in enumerate(cores)}


def _ranks_of(cores: Sequence[np.ndarray]) -> Modes:
    return (1, *(core.shape[-1] for core in cores))


def _precision(precision: object) -> AbstractContextManager[None]:
    """Within it products have that precision; they keep it in the backward pass."""
    if precision is None:
        return nullcontext()
    name = precision.name.lower() if isinstance(precision, jax.lax.Precision) else precision
    if not isinstance(name, str):
        raise UserError(
            f"precision: expected one for both operands, a name or a jax.lax.Precision, found {precision!r}"
        )
    try:
        return jax.default_matmul_precision(name)
    except ValueError as error:
        raise UserError(f"precision: expected a name that JAX knows, as highest, found {name!r}") from error


def _checked_attributes(attributes: Mapping[str, Any], dtype: Dtype) -> dict[str, Any]:
    """Those of a module made from parameters of that dtype; what these and the bounds decide isn't given."""
    for name in ("num_embeddings", "features", "use_bias", "ranks"):
        if name in attributes:
            raise UserError(
                f"from_dense: expected no {name}, which follows from parameters and bounds: leave it out"
            )
    return {"param_dtype": jax.dtypes.canonicalize_dtype(dtype), **attributes}


def _checked_matrix(
    params: Mapping[str, Any], name: str, optional: set[str]
) -> tuple[Float[np.ndarray, "m n"], Dtype]:
    """The matrix ``params[name]`` in float64, and the dtype it came in."""
    if not {name} <= params.keys() <= {name} | optional:
        raise UserError(
            f"from_dense: expected parameters {sorted({name} | optional)}, found {sorted(params)}"
        )
    matrix = np.asarray(params[name])
    if matrix.ndim != 2:
        raise UserError(f"from_dense: expected a {name} of two axes, found shape {matrix.shape}")
    if not jnp.issubdtype(matrix.dtype, jnp.floating):
        raise UserError(
            f"from_dense: expected a {name} of floating-point numbers, found {matrix.dtype}: convert it first"
        )
    return matrix.astype(np.float64), matrix.dtype


def _cores_in(params: Mapping[str, Any], name: str) -> list[Array]:
    cores = params.get(name)
    if not isinstance(cores, Mapping) or "core0" not in cores:
        raise UserError(f"to_dense: expected cores under {name!r}, found {sorted(params)}")
    return _in_order(cores)


def _in_order(cores: Mapping[str, Any]) -> list[Array]:
    names = [f"core{k}" for k in range(len(cores))]
    if cores.keys() != set(names):
        raise UserError(f"expected cores {', '.join(names)}, found {', '.join(sorted(cores))}")
    return core_list(dict(cores))


def _check_shapes(cores: Sequence[Array], shapes: Sequence[Modes]) -> None:
    if (found := [core.shape for core in cores]) != list(shapes):
        raise UserError(f"expected cores of shapes {list(shapes)}, found {found}")
