"""What the model costs, counted from the code that runs: multiplications, stored numbers, parameters, bytes.

Nothing is typed in: the counts come from the traced program (its jaxpr) and from the parameters' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow, contract
from ttjax.model import loss
from ttjax.params import (
    BLOCK_LINEARS,
    HEAD_LINEARS,
    abstract_params,
    linear_core_shapes,
    parameter_shapes,
)

BYTES_PER_NUMBER = 4  # float32 everywhere
MEGABYTE = 10**6
PARTS: tuple[str, ...] = ("embedding", "positions", "linears", "norms", "heads")


@dataclass(frozen=True)
class LinearCosts:
    """One linear layer at ``seq_len`` tokens, without its bias.

    multiplications: of the forward pass. backward: of the backward pass alone, to x and to all weights.
    stored: the weights' entries and every product that exists besides the result y.
    """

    multiplications: int
    backward: int
    stored: int


@dataclass(frozen=True)
class ModelCosts:
    """Parameters of the whole model, by part, and their size in float32."""

    parameters: int
    bytes: int
    parts: dict[str, int]


def multiplications(fn: Callable[..., Any], *avals: Any) -> int:
    """Multiplications in all matrix-like products (``dot_general``) of ``fn(*avals)``.

    ``avals`` may be arrays or ``jax.ShapeDtypeStruct``; nothing is computed. Elementwise work isn't
    counted. A scan counts as often as it runs, a conditional as its most expensive branch.

    Raises:
        ValueError: a product stands in a loop whose number of rounds isn't known beforehand.
    """
    return _multiplications(jax.make_jaxpr(fn)(*avals).jaxpr)


def linear_layer_costs(config: ModelConfig) -> dict[str, LinearCosts]:
    """Costs of one linear layer by flow.

    ``dense`` is the uncompressed layer x W; ``dense_from_cores``, ``right_to_left``, ``bidirectional`` and
    ``planned`` are the flows of ``ttjax.contraction`` on the layer's TT cores, the first of them being the
    one that forms W.
    """
    x = _abstract((config.seq_len, config.d_model))
    weight = _abstract((config.d_model, config.d_model))
    cores = [_abstract(s) for s in linear_core_shapes(config)]
    costs = {"dense": _layer_costs(lambda x, w: x @ w, x, weight)}
    for flow in get_args(Flow):
        layer = partial(_tt_layer, n_in=len(config.in_modes), flow=flow)
        costs["dense_from_cores" if flow == "dense" else flow] = _layer_costs(layer, x, cores)
    return costs


def step_multiplications(config: ModelConfig, flow: Flow = "bidirectional") -> int:
    """Multiplications in the products of one training step at ``seq_len`` tokens, forward and backward."""
    params = abstract_params(config)
    tokens = jax.ShapeDtypeStruct((config.seq_len,), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.int32)

    def gradients(params: Any, tokens: Any, length: Any, intent: Any, slots: Any) -> Any:
        return jax.grad(loss)(params, Batch(tokens, length, intent, slots), config, flow=flow)

    return multiplications(gradients, params, tokens, number, number, tokens)


def model_costs(config: ModelConfig) -> ModelCosts:
    """Number of parameters by part (embedding, positions, linears with bias, norms, heads), and bytes."""
    parts = {name: 0 for name in PARTS}
    for name, shape in parameter_shapes(config).items():
        parts[_part(name)] += prod(shape)
    total = sum(parts.values())
    return ModelCosts(parameters=total, bytes=BYTES_PER_NUMBER * total, parts=parts)


def _tt_layer(x: jax.Array, cores: list[jax.Array], n_in: int, flow: Flow) -> jax.Array:
    return contract(x, cores, n_in, flow)


def _layer_costs(layer: Callable[..., Any], x: Any, weights: Any) -> LinearCosts:
    forward = multiplications(layer, x, weights)

    def both_passes(x: Any, weights: Any, d_y: Any) -> Any:
        y, pullback = jax.vjp(layer, x, weights)
        return y, pullback(d_y)

    whole = multiplications(both_passes, x, weights, _abstract(x.shape))
    products = [_shape(eqn.outvars[0]) for eqn in _products(jax.make_jaxpr(layer)(x, weights).jaxpr)]
    # The last product is y itself, which every flow has to deliver.
    kept = sum(map(prod, products[:-1]))
    entries = sum(prod(leaf.shape) for leaf in jax.tree.leaves(weights))
    return LinearCosts(multiplications=forward, backward=whole - forward, stored=entries + kept)


def _abstract(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _part(name: str) -> str:
    """The part of the model that the parameter with this dotted name belongs to."""
    *_, layer, leaf = name.split(".")
    if leaf == "position":
        return "positions"
    if layer == "embed":
        return "embedding"
    if layer.endswith("_out") and not name.startswith("block"):
        return "heads"
    if layer in (*BLOCK_LINEARS, *HEAD_LINEARS):
        return "linears"
    if "norm" in layer:
        return "norms"
    raise AssertionError(f"a parameter of no part: {name}")


def _multiplications(jaxpr: Jaxpr) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        inner = [_multiplications(sub) for sub in _inside(eqn.params)]
        if eqn.primitive.name == "dot_general":
            total += _of_product(eqn)
        elif eqn.primitive.name == "scan":
            total += eqn.params["length"] * sum(inner)
        elif eqn.primitive.name == "cond":
            total += max(inner)
        elif eqn.primitive.name == "while" and sum(inner):
            raise ValueError("multiplications: a product stands in a loop of unknown length")
        else:
            total += sum(inner)
    return total


def _of_product(eqn: JaxprEqn) -> int:
    """Batch x free left x free right x contracted: the result's size times the length of its sums."""
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left = _shape(eqn.invars[0])
    return prod(_shape(eqn.outvars[0])) * prod(left[axis] for axis in contracted)


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape


def _products(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """All products in order of execution, through nested jaxprs."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield eqn
        for sub in _inside(eqn.params):
            yield from _products(sub)


def _inside(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """Jaxprs nested in an equation's parameters, opened where they are closed."""
    for sub in jaxprs_in_params(dict(params)):
        yield getattr(sub, "jaxpr", sub)
