"""Products' gradients equal the plain ones' in either form; halves merged at once, those merged by one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import Array

from tests.strategies import assert_tree_close
from ttjax.contraction import Halves, contract, merge_all_halves, merge_halves
from ttjax.products import product
from ttjax.tt import core_shapes, init_cores

SIZES = st.integers(1, 9)


@jax.jit
def both_ways(left: Array, right: Array, gradient: Array) -> tuple[list[Array], list[Array]]:
    """The product with the gradients of its operands: ours, and autodiff's of the plain product."""
    ours, theirs = jax.vjp(product, left, right), jax.vjp(jnp.matmul, left, right)
    return [ours[0], *ours[1](gradient)], [theirs[0], *theirs[1](gradient)]


@given(st.lists(SIZES, max_size=1), SIZES, SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_a_products_gradients_are_those_of_the_plain_product(
    batch: list[int], m: int, s: int, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        left, right, gradient = (
            jnp.asarray(rng.standard_normal((*batch, *shape))) for shape in ((m, s), (s, n), (m, n))
        )
        ours, theirs = both_ways(left, right, gradient)
    assert_tree_close(ours, theirs, 1e-12)


def test_each_form_is_taken_where_it_moves_fewer_numbers() -> None:
    def transposes(m: int, s: int, n: int) -> int:
        """How many transposes the backward pass carries out by itself."""
        arrays = [jnp.zeros(shape) for shape in ((m, s), (s, n), (m, n))]
        jaxpr = jax.make_jaxpr(lambda left, right, d: jax.vjp(product, left, right)[1](d))(*arrays)
        return str(jaxpr).count("optimization_barrier")

    assert transposes(240, 30, 8) == 2  # a token's last two TTM cores: the right operand's gradient turned
    assert transposes(32, 768, 121) == 2  # the slot head: the left one's
    assert transposes(32, 12, 768) == 0


@settings(max_examples=5)  # every shape compiles anew
@given(st.integers(1, 4), st.integers(1, 2), st.integers(1, 2), st.integers(0, 2**32 - 1), st.data())
def test_halves_merged_at_once_are_those_merged_by_one(
    n_layers: int, n_in: int, n_out: int, seed: int, data: st.DataObject
) -> None:
    modes = data.draw(st.lists(st.integers(1, 3), min_size=n_in + n_out, max_size=n_in + n_out))
    inner = data.draw(st.lists(st.integers(1, 3), min_size=len(modes) - 1, max_size=len(modes) - 1))
    shapes = core_shapes(modes, (1, *inner, 1))
    keys = jax.random.split(jax.random.key(seed), n_layers)
    layers = [init_cores(key, shapes, 1.0) for key in keys]

    def weighted(halves: list[Halves]) -> Array:
        """Different for each layer: a layer in another's place would show."""
        return sum(
            ((n + 1) * (jnp.sum(a**2) + jnp.sum(b**3)) for n, (a, b) in enumerate(halves)), jnp.zeros(())
        )

    def at_once(layers: list[list[Array]]) -> Array:
        return weighted(merge_all_halves(layers, n_in))

    def by_one(layers: list[list[Array]]) -> Array:
        return weighted([merge_halves(cores, n_in) for cores in layers])

    assert_tree_close(jax.value_and_grad(at_once)(layers), jax.value_and_grad(by_one)(layers), 1e-5)


def test_a_layer_differentiates_forward_and_twice() -> None:
    cores = init_cores(jax.random.key(0), core_shapes((2, 3, 3, 2), (1, 2, 3, 2, 1)), 1.0)
    x = jax.random.normal(jax.random.key(1), (3, 6))

    def energy(cores: list[Array]) -> Array:
        return jnp.sum(jnp.sin(contract(x, cores, 2, "bidirectional")))

    def exact(cores: list[Array]) -> Array:
        return jnp.sum(jnp.sin(contract(x, cores, 2, "dense")))

    ours, theirs = (jax.jvp(jax.grad(f), (cores,), (cores,)) for f in (energy, exact))
    assert_tree_close(ours, theirs, 1e-5)
