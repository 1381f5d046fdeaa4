"""TTDense and TTMEmbed: flax's own layers and the functional core as oracles, fresh sizes, conversion."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.core import freeze
from hypothesis import given, settings

from tests.strategies import Layer, assert_tree_close, assert_tree_equal, layers, ttm_cores
from ttjax.contraction import Flow, contract
from ttjax.costs import multiplications
from ttjax.modules import TTDense, TTMEmbed
from ttjax.params import core_list
from ttjax.tt import digits_of, ttm_rows

FLOWS: tuple[Flow, ...] = get_args(Flow)
KEY = jax.random.key(0)
Params = dict[str, Any]


def named(cores: list[np.ndarray]) -> Params:
    return {f"core{k}": jnp.asarray(core, jnp.float32) for k, core in enumerate(cores)}


def ranks(cores: list[np.ndarray]) -> tuple[int, ...]:
    return (1, *(core.shape[-1] for core in cores))


def dense_params(d_in: int, features: int, seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    kernel, bias = rng.standard_normal((d_in, features)) / d_in**0.5, rng.standard_normal(features)
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), {"kernel": kernel, "bias": bias})


def embed_params(rows: int, features: int) -> Params:
    return {"embedding": jax.random.normal(KEY, (rows, features), jnp.float32)}


def inputs(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(1), shape, jnp.float32)


def fresh(module: nn.Module, *like: Any) -> Any:
    """Fresh parameters, in one compilation."""
    return jax.jit(module.init)(KEY, *like)["params"]


def made(module: nn.Module, *like: Any) -> Any:
    """Shapes and dtypes of fresh parameters, without making any."""
    return jax.eval_shape(module.init, KEY, *like)["params"]


def shapes(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.shape, params)


def apply(module: nn.Module, params: Any, x: jax.Array, method: str | None = None) -> jax.Array:
    return jax.jit(partial(module.apply, method=method))({"params": params}, x)


@partial(jax.jit, static_argnames="module")
def dense_both_ways(module: TTDense, params: Params, x: jax.Array, d_y: jax.Array) -> Any:
    """Value, and gradients to parameters and x, of the module and of the functional core."""

    def core(params: Params, x: jax.Array) -> jax.Array:
        return (
            contract(x, core_list(params["kernel"]), len(module.in_modes or ()), module.flow)
            + params["bias"][None]
        )

    results = []
    for layer in (partial(apply, module), core):
        y, pullback = jax.vjp(layer, params, x)
        results.append((y, pullback(d_y)))
    return results


@settings(max_examples=6)
@given(layers())
def test_a_dense_layer_is_the_functional_core_in_value_and_gradients(layer: Layer) -> None:
    x, d_y = (jnp.asarray(a, jnp.float32) for a in (layer.x, layer.d_y))
    params = {"kernel": named(layer.cores), "bias": jnp.ones(d_y.shape[1], jnp.float32)}
    in_modes, out_modes = tuple(layer.in_modes), tuple(layer.out_modes)
    module = TTDense(
        d_y.shape[1], in_modes=in_modes, out_modes=out_modes, ranks=ranks(layer.cores), flow=flow_of(layer)
    )
    assert_tree_equal(*dense_both_ways(module, params, x, d_y))


def flow_of(layer: Layer) -> Flow:
    return FLOWS[sum(layer.in_modes) % len(FLOWS)]


@pytest.mark.parametrize("flow", FLOWS)
def test_the_flow_is_the_one_asked_for(flow: Flow) -> None:
    module, x = TTDense(30, rank=3, flow=flow), inputs(2, 24)
    params = made(module, x)
    expected = multiplications(lambda x, kernel: contract(x, core_list(kernel), 3, flow), x, params["kernel"])
    assert multiplications(partial(apply, module), params, x) == expected


@partial(jax.jit, static_argnames="module")
def embed_both_ways(module: TTMEmbed, params: Params, index: jax.Array, d_y: jax.Array) -> Any:
    """Value, and gradients to the cores, of the module and of the functional core."""

    def core(params: Params) -> jax.Array:
        digits = digits_of(index, module.in_modes or ())
        return ttm_rows(core_list(params["embedding"]), digits)

    results = []
    for layer in (lambda params: apply(module, params, index), core):
        y, pullback = jax.vjp(layer, params)
        results.append((y, pullback(d_y)))
    return results


@settings(max_examples=6)
@given(ttm_cores())
def test_an_embedding_is_the_functional_core_in_value_and_gradients(cores: list[np.ndarray]) -> None:
    rows, columns = (tuple(core.shape[axis] for core in cores) for axis in (1, 2))
    module = TTMEmbed(prod(rows), prod(columns), in_modes=rows, out_modes=columns, ranks=ranks(cores))
    index, d_y = jnp.arange(prod(rows), dtype=jnp.int32), inputs(prod(rows), prod(columns))
    assert_tree_equal(*embed_both_ways(module, {"embedding": named(cores)}, index, d_y))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)])
def test_a_converted_layer_at_full_rank_is_flaxs(lead: tuple[int, ...]) -> None:
    params, x = dense_params(24, 30), inputs(*lead, 24)
    module, cores = TTDense.from_dense(params, rel_error=0.0)
    assert (module.in_modes, module.out_modes) == ((4, 3, 2), (2, 3, 5))
    expected = apply(nn.Dense(30), params, x)
    assert_tree_close(apply(module, cores, x), expected, 1e-6)
    assert_tree_close(module.apply({"params": freeze(cores)}, x), expected, 1e-6)
    assert_tree_close(module.to_dense(cores), params, 1e-6)


@pytest.mark.parametrize("lead", [(), (2, 4)])
def test_a_converted_embedding_at_full_rank_is_flaxs(lead: tuple[int, ...]) -> None:
    params, oracle = embed_params(60, 24), nn.Embed(60, 24)
    module, cores = TTMEmbed.from_dense(params, rel_error=0.0)
    assert (module.in_modes, module.out_modes) == ((5, 4, 3), (4, 3, 2))
    query, index = inputs(*lead, 24), jax.random.randint(KEY, lead, 0, 60)
    expected = apply(oracle, params, index)
    assert_tree_close(apply(module, cores, index), expected, 1e-6)
    assert_tree_close(module.apply({"params": cores}, index), expected, 1e-6)
    scores = apply(oracle, params, query, "attend")
    assert_tree_close(apply(module, cores, query, "attend"), scores, 1e-6)
    assert_tree_close(module.to_dense(cores), params, 1e-6)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.int8, jnp.uint8, jnp.uint32])
def test_odd_indices_give_what_flax_gives(dtype: Any) -> None:
    """Negative ones count from the end, those outside give NaN, of a table of one row every one its row."""
    index = jnp.asarray(np.array([0, 59, 60, 100, -1, -60, -61]).astype(dtype))
    params = embed_params(60, 24)
    module, cores = TTMEmbed.from_dense(params, rel_error=0.0)
    expected = apply(nn.Embed(60, 24), params, index)
    np.testing.assert_allclose(apply(module, cores, index), expected, rtol=0, atol=1e-5)
    params = embed_params(1, 6)
    module, cores = TTMEmbed.from_dense(params, rank=1, in_modes=(1,), out_modes=(6,))
    expected = apply(nn.Embed(1, 6), params, index)
    np.testing.assert_allclose(apply(module, cores, index), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("flow", get_args(Flow))
def test_no_rows_give_no_rows(flow: Flow) -> None:
    module = TTDense(8, rank=3, flow=flow)
    params = module.init(KEY, inputs(2, 12))["params"]
    assert apply(module, params, inputs(0, 12)).shape == (0, 8)


def test_vmap_over_inputs_and_over_parameters() -> None:
    module, x = TTDense(8, rank=3), inputs(5, 2, 12)
    params = jax.jit(jax.vmap(lambda key: module.init(key, x[0])["params"]))(jax.random.split(KEY, 5))
    one_by_one = [apply(module, jax.tree.map(lambda a, i=i: a[i], params), x[i]) for i in range(5)]
    together = jax.vmap(partial(apply, module))(params, x)
    assert_tree_close(together, jnp.stack(one_by_one), 1e-6)
    assert not np.allclose(one_by_one[0], one_by_one[1])


def test_dtypes_are_promoted_as_flaxs_are() -> None:
    params, embedding = dense_params(24, 30), embed_params(60, 24)
    x, index = inputs(3, 24), jnp.arange(60, dtype=jnp.int32)
    for dtype in (None, jnp.bfloat16, jnp.float16):
        layer, cores = TTDense.from_dense(params, rel_error=0.0, dtype=dtype)
        expected = apply(nn.Dense(30, dtype=dtype), params, x)
        actual = apply(layer, cores, x)
        assert actual.dtype == expected.dtype
        coarse = 1e-6 if dtype is None else 8 * float(jnp.finfo(dtype).eps)
        assert_tree_close(actual, expected, coarse)
        embed, cores = TTMEmbed.from_dense(embedding, rel_error=0.0, dtype=dtype)
        oracle = nn.Embed(60, 24, dtype=dtype)
        assert_tree_close(apply(embed, cores, index), apply(oracle, embedding, index), coarse)
        scores = apply(oracle, embedding, x, "attend")
        assert_tree_close(apply(embed, cores, x, "attend"), scores, coarse)


@pytest.mark.parametrize("module", [nn.Dense(30), TTDense(30, rank=2)])
def test_mixed_dtypes_without_a_dtype_are_refused_as_flax_refuses_them(module: nn.Module) -> None:
    """Strict promotion mixes nothing by itself."""
    params = fresh(module, inputs(3, 24))
    with pytest.raises(Exception, match="no available implicit dtype promotion path"):
        apply(module, params, inputs(3, 24).astype(jnp.bfloat16))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_fresh_parameters_have_param_dtype_and_the_stated_shapes(dtype: Any) -> None:
    layer = made(TTDense(512, param_dtype=dtype, dtype=dtype, rank=12), inputs(2, 768))
    modes, bonds = (12, 8, 8, 8, 8, 8), (1, 12, 12, 12, 12, 8, 1)
    assert shapes(layer) == {
        "kernel": {f"core{k}": (bonds[k], modes[k], bonds[k + 1]) for k in range(6)},
        "bias": (512,),
    }
    table = made(TTMEmbed(1000, 768, param_dtype=dtype, rank=30), jnp.zeros(1, jnp.int32))
    assert shapes(table["embedding"]) == {
        "core0": (1, 10, 12, 30),
        "core1": (30, 10, 8, 30),
        "core2": (30, 10, 8, 1),
    }
    assert {leaf.dtype for leaf in jax.tree.leaves((layer, table))} == {jnp.dtype(dtype)}
    assert set(made(TTDense(512, use_bias=False, rank=2), inputs(2, 768))) == {"kernel"}


@pytest.mark.parametrize(
    "initializer",
    [nn.initializers.lecun_normal(), nn.initializers.glorot_uniform()],
    ids=["lecun_normal", "glorot_uniform"],
)
def test_a_fresh_kernel_is_as_large_as_the_wrapped_initialisers(initializer: Any) -> None:
    """In every single draw, though products scatter by 10 % in size; and evenly over the entries."""
    module = TTDense(128, kernel_init=initializer, in_modes=(12, 8), out_modes=(16, 8), rank=6)
    x = inputs(1, 96)
    wanted = float(jnp.std(initializer(jax.random.key(7), (96, 128), jnp.float32)))
    start = jax.jit(lambda key: module.to_dense(module.init(key, x)["params"])["kernel"])
    kernels = np.asarray(jax.lax.map(start, jax.random.split(KEY, 200)))
    np.testing.assert_allclose(np.sqrt(np.mean(kernels**2, axis=(1, 2))), wanted, rtol=0.04)
    assert abs(kernels.mean()) < 0.02 * wanted
    rows = np.sqrt(np.mean(kernels**2, axis=(0, 2)))
    np.testing.assert_allclose(rows, wanted, rtol=0.3)


def test_a_fresh_embedding_is_as_large_as_flaxs() -> None:
    index = jnp.arange(360, dtype=jnp.int32)
    module = TTMEmbed(360, 64, rank=4)
    start = jax.jit(lambda key: module.to_dense(module.init(key, index)["params"])["embedding"])
    for table in map(start, jax.random.split(KEY, 5)):
        assert abs(float(jnp.sqrt(jnp.mean(table**2))) * 64**0.5 - 1) < 0.03


def test_a_layer_that_starts_at_zero_can_learn() -> None:
    module, x = TTDense(30, rank=3, kernel_init=nn.initializers.zeros), inputs(4, 24)
    params = fresh(module, x)
    assert float(jnp.abs(module.to_dense(params)["kernel"]).max()) == 0.0
    gradients = jax.grad(lambda params: jnp.sum(apply(module, params, x)))(params)
    assert float(jnp.abs(gradients["kernel"]["core5"]).max()) > 0.0


@pytest.mark.parametrize("precision", ["highest", jax.lax.Precision.HIGHEST])
def test_precision_reaches_every_product_of_both_passes(precision: Any) -> None:
    x = inputs(2, 24)

    def precisions(module: nn.Module) -> set[str]:
        params = made(module, x)
        jaxpr = jax.make_jaxpr(jax.grad(lambda params, x: jnp.sum(apply(module, params, x)), (0, 1)))(
            params, x
        )
        return set(part.split()[0] for part in str(jaxpr).split("precision=")[1:])

    expected = precisions(nn.Dense(30, precision=precision))
    for flow in FLOWS:
        assert precisions(TTDense(30, rank=3, flow=flow, precision=precision)) == expected
        assert precisions(TTDense(30, rank=3, flow=flow)) != expected


@pytest.mark.parametrize("rank", [1, 3, 5, 100])
def test_conversion_under_a_rank_gives_the_shapes_of_a_module_of_that_rank(rank: int) -> None:
    module, cores = TTDense.from_dense(dense_params(24, 30), rank=rank)
    assert shapes(cores) == shapes(made(TTDense(30, rank=rank), inputs(1, 24)))
    assert module.to_dense(cores).keys() == {"kernel", "bias"}
    _, cores = TTMEmbed.from_dense(embed_params(60, 24), rank=rank)
    assert shapes(cores) == shapes(made(TTMEmbed(60, 24, rank=rank), jnp.zeros(1, jnp.int32)))


@pytest.mark.parametrize("rel_error", [0.1, 0.5])
def test_conversion_keeps_the_error_bound(rel_error: float) -> None:
    params = dense_params(24, 30)
    module, cores = TTDense.from_dense(params, rel_error=rel_error)
    assert module.ranks is not None and max(module.ranks) < 24
    lost = jnp.linalg.norm(module.to_dense(cores)["kernel"] - params["kernel"])
    assert float(lost / jnp.linalg.norm(params["kernel"])) <= rel_error


def test_conversion_keeps_bias_dtype_and_attributes() -> None:
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), dense_params(24, 30))
    module, cores = TTDense.from_dense(params, rank=2, flow="right_to_left", in_modes=(6, 4))
    assert module.param_dtype == jnp.bfloat16 and module.flow == "right_to_left" and module.use_bias
    assert module.in_modes == (6, 4) and module.ranks == (1, 2, 2, 2, 2, 1)
    assert {leaf.dtype for leaf in jax.tree.leaves(cores)} == {jnp.dtype(jnp.bfloat16)}
    assert_tree_equal(cores["bias"], params["bias"])
    module, cores = TTDense.from_dense({"kernel": params["kernel"]}, rank=2)
    assert not module.use_bias and set(cores) == {"kernel"}
