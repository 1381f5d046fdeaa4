"""Modes and ranks as a layer's user gives them: what is picked, what is refused and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.errors import ScopeParamShapeError

from ttjax.errors import UserError
from ttjax.modes import even_modes
from ttjax.modules import TTDense, TTMEmbed

KEY = jax.random.key(0)
X = np.ones((1, 24), np.float32)
INDEX = np.zeros(1, np.int32)


def fresh(module: nn.Module, *like: Any) -> Any:
    """Fresh parameters, in one compilation."""
    return jax.jit(module.init)(KEY, *like)["params"]


@pytest.mark.parametrize(
    ("width", "n_modes", "expected"),
    [
        (768, 3, (12, 8, 8)),
        (1000, 3, (10, 10, 10)),
        (10, 3, (5, 2)),
        (4, 3, (2, 2)),
        (4096, 4, (8, 8, 8, 8)),
        (7, 1, (7,)),
    ],
)
def test_even_modes(width: int, n_modes: int, expected: tuple[int, ...]) -> None:
    assert even_modes(width, n_modes) == expected


@pytest.mark.parametrize("width", [1, 2, 3, 13, 769])
def test_a_width_without_factors(width: int) -> None:
    expected = rf"modes of {width}: expected a width with at least two factors .* one factor \({width},\)"
    with pytest.raises(UserError, match=expected):
        TTDense(width, rank=2).init(KEY, jnp.asarray(X))
    params = fresh(TTDense(width, rank=2, out_modes=(width,)), jnp.asarray(X))
    assert params["kernel"]["core3"].shape == (min(2, width), width, 1)


DENSE_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({}, "expected either rank or ranks, found rank=None and ranks=None"),
    ({"rank": 2, "ranks": (1, 2, 1)}, "expected either rank or ranks"),
    ({"rank": 0}, "rank: expected a whole number from 1 up, found 0"),
    ({"ranks": (1, 2, 2, 1)}, r"ranks: expected 7 numbers from 1 up, .* found \(1, 2, 2, 1\)"),
    ({"ranks": (2, 2, 2, 2, 2, 2, 1)}, "ranks: expected 7 numbers"),
    ({"rank": 2, "in_modes": (5, 5)}, r"in_modes: .* the input's width 24, found \(5, 5\)"),
    ({"rank": 2, "out_modes": (-5, -6)}, r"out_modes: .* features 30, found \(-5, -6\)"),
    ({"rank": 2, "precision": ("high", "highest")}, "precision: expected one for both operands"),
    ({"rank": 2, "precision": "hihg"}, "precision: expected a name that JAX knows, as highest, found 'hihg'"),
    ({"rank": 2, "in_modes": ()}, r"in_modes: .* the input's width 24, found \(\)"),
    ({"rank": 2, "out_modes": ()}, r"out_modes: .* features 30, found \(\)"),
]


@pytest.mark.parametrize(("attributes", "message"), DENSE_REFUSALS)
def test_attributes_a_layer_refuses(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TTDense(30, **attributes).init(KEY, jnp.asarray(X))


EMBED_REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({}, "expected either rank or ranks"),
    ({"rank": 2, "in_modes": (6, 10), "out_modes": (2, 3, 4)}, "as many in_modes as out_modes"),
    ({"rank": 2, "in_modes": (7, 10)}, r"in_modes: .* num_embeddings 60, found \(7, 10\)"),
    ({"rank": 2, "out_modes": (2, 3)}, r"out_modes: .* features 24, found \(2, 3\)"),
    ({"rank": 2, "in_modes": ()}, r"in_modes: .* num_embeddings 60, found \(\)"),
    ({"rank": 2, "out_modes": ()}, r"out_modes: .* features 24, found \(\)"),
    ({"rank": 2, "out_modes": (2, 2, 2, 3, 1)}, "as many in_modes as out_modes"),
]


@pytest.mark.parametrize(("attributes", "message"), EMBED_REFUSALS)
def test_attributes_an_embedding_refuses(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TTMEmbed(60, 24, **attributes).init(KEY, jnp.asarray(INDEX))


@pytest.mark.parametrize(
    ("attributes", "rows", "columns"),
    [
        ({"in_modes": (10, 10, 10, 10)}, (10, 10, 10, 10), (8, 6, 4, 4)),
        ({"out_modes": (32, 24)}, (100, 100), (32, 24)),
        ({"in_modes": (10000,)}, (10000,), (768,)),
    ],
)
def test_modes_of_one_side_alone_give_the_other_as_many(
    attributes: dict[str, Any], rows: tuple[int, ...], columns: tuple[int, ...]
) -> None:
    module = TTMEmbed(10000, 768, rank=1, **attributes)
    cores = jax.eval_shape(module.init, KEY, jnp.asarray(INDEX))["params"]["embedding"]
    assert [core.shape[1:3] for core in cores.values()] == list(zip(rows, columns, strict=True))


def test_indices_that_are_no_whole_numbers() -> None:
    with pytest.raises(UserError, match="expected whole numbers as indices, found float32"):
        TTMEmbed(60, 24, rank=2).init(KEY, jnp.ones(2, jnp.float32))


KERNEL = np.ones((24, 30), np.float32)
CONVERSIONS: list[tuple[Callable[[], Any], str]] = [
    (lambda: TTDense.from_dense({"kernel": KERNEL}), "expected rank or rel_error, found neither"),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rank=0), "rank: expected .* found 0"),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rel_error=-1.0), "rel_error from 0 up, found -1.0"),
    (lambda: TTDense.from_dense({"kernel": KERNEL[0]}, rank=1), r"kernel of two axes, found shape \(30,\)"),
    (lambda: TTDense.from_dense({"kernel": KERNEL * np.nan}, rank=1), "expected finite numbers, found NaN"),
    (lambda: TTDense.from_dense({"kernel": KERNEL, "bias": KERNEL[:, 0]}, rank=1), r"found \(24,\)"),
    (lambda: TTDense.from_dense({"weight": KERNEL}, rank=1), r"\['bias', 'kernel'\], found \['weight'\]"),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rank=1, in_modes=(5, 5)), "in_modes: expected"),
    (lambda: TTDense.from_dense({"kernel": KERNEL[:23]}, rank=1), "modes of 23"),
    (lambda: TTMEmbed.from_dense({"kernel": KERNEL}, rank=1), r"\['embedding'\], found \['kernel'\]"),
    (lambda: TTMEmbed.from_dense({"embedding": KERNEL}), "expected rank or rel_error"),
    (lambda: TTDense(30, rank=2).to_dense({"kernel": KERNEL}), "expected cores under 'kernel'"),
    (
        lambda: TTDense.from_dense({"kernel": KERNEL.astype(np.int32)}, rank=1),
        "a kernel of floating-point numbers, found int32: convert it first",
    ),
    (
        lambda: TTMEmbed.from_dense({"embedding": KERNEL.astype(np.int8)}, rank=1),
        "embedding of floating-point numbers, found int8",
    ),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rank=2, ranks=(1, 2, 1)), "expected no ranks, which"),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rank=2, features=3), "expected no features, which"),
    (lambda: TTDense.from_dense({"kernel": KERNEL}, rank=2, use_bias=True), "expected no use_bias, which"),
    (lambda: TTMEmbed.from_dense({"embedding": KERNEL}, rank=2, ranks=(1, 2, 1)), "expected no ranks, which"),
    (
        lambda: TTMEmbed.from_dense({"embedding": KERNEL}, rank=2, num_embeddings=3),
        "expected no num_embeddings, which",
    ),
]


@pytest.mark.parametrize(("conversion", "message"), CONVERSIONS)
def test_conversions_that_are_refused(conversion: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        conversion()


def test_a_kernel_of_plain_numbers_converts_as_the_array_of_them() -> None:
    module, cores = TTDense.from_dense({"kernel": KERNEL.tolist()}, rank=1)
    assert module.param_dtype == jnp.float32
    np.testing.assert_allclose(module.to_dense(cores)["kernel"], KERNEL, rtol=1e-5)


def test_a_core_missing_in_the_middle_is_named() -> None:
    layer, table = TTDense(8, rank=1), TTMEmbed(8, 8, rank=1)
    cases = ((layer, "kernel", (1, 2, 1), 6, jnp.ones((1, 8))), (table, "embedding", (1, 2, 2, 1), 3, INDEX))
    for module, name, shape, n_cores, inputs in cases:
        cores = {f"core{k}": jnp.ones(shape, jnp.float32) for k in range(n_cores) if k != 1}
        expected = r"expected cores core0, core1, .*found core0, core2"
        with pytest.raises(UserError, match=expected):
            module.apply({"params": {name: cores}}, jnp.asarray(inputs))
        with pytest.raises(UserError, match=expected):
            module.to_dense({name: cores})


def test_another_layers_cores_are_refused() -> None:
    x = jnp.asarray(X)
    params = fresh(TTDense(30, rank=3), x)
    with pytest.raises(UserError, match=r"expected cores of shapes \[\(1, 4, 2\), .* found \[\(1, 4, 3\), "):
        TTDense(30, rank=2).to_dense(params)
    with pytest.raises(ScopeParamShapeError):
        TTDense(30, rank=2).apply({"params": params}, x)
    del params["kernel"]["core5"]
    with pytest.raises(UserError, match="expected cores of shapes"):
        TTDense(30, rank=3).apply({"params": params}, x)
    params = fresh(TTMEmbed(60, 24, rank=3), jnp.asarray(INDEX))
    with pytest.raises(UserError, match="expected cores of shapes"):
        TTMEmbed(60, 24, rank=2).to_dense(params)
