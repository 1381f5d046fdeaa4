"""The parameters: a nested dict of float32 arrays, one leaf a tensor, initialised from a key.

Dotted leaf names (``block0.q.core3``) are the names the memory map, traces and checkpoints use.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from ttjax.config import ModelConfig
from ttjax.errors import UserError
from ttjax.tt import core_shapes, init_cores, ttm_core_shapes

Params = dict[str, Any]

BLOCK_LINEARS = ("q", "k", "v", "o", "ffn_in", "ffn_out")
HEAD_LINEARS = ("intent_pre", "slot_pre")

# Standard deviations of the parts at the start: a row of the token embedding, the position table.
EMBED_STD = 0.1
POSITION_STD = 0.2


def linear_names(config: ModelConfig) -> list[str]:
    """Dotted names of all TT linear layers, in order of execution."""
    blocks = [f"block{b}.{name}" for b in range(config.n_blocks) for name in BLOCK_LINEARS]
    return [*blocks, *HEAD_LINEARS]


def linear_core_shapes(config: ModelConfig) -> list[tuple[int, int, int]]:
    """Shapes (r_{k-1}, n_k, r_k) of the cores of each TT linear layer, input modes first."""
    return core_shapes(config.in_modes + config.out_modes, config.tt_ranks)


def norm_names(config: ModelConfig) -> list[str]:
    """Dotted names of all LayerNorms, in order of execution."""
    blocks = [f"block{b}.norm{i}" for b in range(config.n_blocks) for i in (1, 2)]
    return ["embed_norm", *blocks, "slot_norm"]


def init_params(key: Array, config: ModelConfig) -> Params:
    """Fresh parameters.

    The product of each linear layer's cores has entries of std 1/sqrt(d_model), embedding rows of std
    EMBED_STD, heads of std 1/sqrt(d_model); biases are 0, LayerNorm scales 1; positions start from
    sinusoids of std POSITION_STD.
    """
    keys = iter(jax.random.split(key, 6 * config.n_blocks + 5))
    params: Params = {"embed": _init_embedding(next(keys), config), "embed_norm": _init_norm(config)}
    for b in range(config.n_blocks):
        block: Params = {name: _init_linear(next(keys), config) for name in BLOCK_LINEARS}
        params[f"block{b}"] = {**block, "norm1": _init_norm(config), "norm2": _init_norm(config)}
    params["intent_pre"] = _init_linear(next(keys), config)
    params["intent_out"] = _init_head(next(keys), config.d_model, config.n_intents)
    params["slot_pre"] = _init_linear(next(keys), config)
    params["slot_norm"] = _init_norm(config)
    params["slot_out"] = _init_head(next(keys), config.d_model, config.n_slots)
    return params


def flatten(params: Params) -> dict[str, Any]:
    """Leaves by dotted name."""
    return flatten_dict(params, sep=".")


def unflatten(leaves: Mapping[str, Any]) -> Params:
    """The inverse of ``flatten``."""
    return unflatten_dict(dict(leaves), sep=".")


def layer_of(parameter: str) -> str:
    """Name of the layer (``ModelConfig.layers``) that a parameter of that dotted name belongs to."""
    return parameter.rpartition(".")[0]


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each leaf by dotted name, without making any."""
    return {name: leaf.shape for name, leaf in flatten(abstract_params(config)).items()}


@lru_cache(maxsize=64)
def abstract_params(config: ModelConfig) -> Params:
    """Parameters as ``jax.ShapeDtypeStruct`` leaves, without values. Shared: not to be changed."""
    # Tracing the initialisation takes a tenth of a second, and everything asks for the same few models.
    # Blocks are alike: one is traced. And few positions, whose table is computed, not traced.
    one = config.replace(n_blocks=1, seq_len=2, frozen=(), recompute=())
    if config == one:
        return jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    layers = dict(abstract_params(one))
    block, embed = layers.pop("block0"), layers["embed"]
    position = embed["position"].update(shape=(config.seq_len, config.d_model))
    layers["embed"] = {**embed, "position": position}
    # In the order of their names, like all that JAX has transformed.
    return dict(sorted({**layers, **{f"block{b}": block for b in range(config.n_blocks)}}.items()))


def check_params(params: Params, config: ModelConfig) -> None:
    """Compares names and shapes of ``params`` with what ``config`` asks for.

    Raises:
        UserError: names the first missing, unknown or misshapen leaf.
    """
    expected = parameter_shapes(config)
    found = {name: tuple(np.shape(leaf)) for name, leaf in flatten(params).items()}
    for name in expected:
        if name not in found:
            raise UserError(f"parameters: {name} is missing")
    for name in found:
        if name not in expected:
            raise UserError(f"parameters: {name} is not a parameter of this model")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(f"parameters: {name} expected shape {shape}, found {found[name]}")


def freeze(params: Params, config: ModelConfig) -> Params:
    """The same parameters, those of ``config.frozen`` layers cut off from differentiation."""
    if not config.frozen:
        return params
    leaves = flatten(params)
    for name, leaf in leaves.items():
        if not config.trains(layer_of(name)):
            leaves[name] = jax.lax.stop_gradient(leaf)
    return unflatten(leaves)


def keep_frozen(params: Params, before: Params, config: ModelConfig) -> Params:
    """The same parameters, those of ``config.frozen`` layers as they were ``before``."""
    if not config.frozen:
        return params
    leaves, kept = flatten(params), flatten(before)
    return unflatten({name: (leaves if config.trains(layer_of(name)) else kept)[name] for name in leaves})


def core_list(layer: Params) -> list[Array]:
    """The cores of a TT or TTM layer in order."""
    return [layer[f"core{k}"] for k in range(sum(name.startswith("core") for name in layer))]


def _init_linear(key: Array, config: ModelConfig) -> Params:
    bias = jnp.zeros(config.d_model, jnp.float32)
    std = config.d_model**-0.5
    if config.format == "dense":
        weight = std * jax.random.normal(key, (config.d_model, config.d_model), jnp.float32)
        return {"weight": weight, "bias": bias}
    return {**_named(init_cores(key, linear_core_shapes(config), std)), "bias": bias}


def _init_embedding(key: Array, config: ModelConfig) -> Params:
    position = _sinusoids(config)
    if config.format == "dense":
        table = EMBED_STD * jax.random.normal(key, (config.vocab_size, config.d_model), jnp.float32)
        return {"table": table, "position": position}
    shapes = ttm_core_shapes(config.vocab_modes, config.embed_modes, config.ttm_ranks)
    return {**_named(init_cores(key, shapes, EMBED_STD)), "position": position}


def _init_norm(config: ModelConfig) -> Params:
    return {"scale": jnp.ones(config.d_model, jnp.float32), "bias": jnp.zeros(config.d_model, jnp.float32)}


def _init_head(key: Array, d_model: int, n_classes: int) -> Params:
    weight = d_model**-0.5 * jax.random.normal(key, (d_model, n_classes), jnp.float32)
    return {"weight": weight, "bias": jnp.zeros(n_classes, jnp.float32)}


def _named(cores: list[Array]) -> Params:
    return {f"core{k}": core for k, core in enumerate(cores)}


def _sinusoids(config: ModelConfig) -> Float[Array, "seq d"]:
    """Sine and cosine of position over geometric wavelengths (Vaswani et al. 2017), std POSITION_STD."""
    position = np.arange(config.seq_len)[:, None]
    pair = np.arange(config.d_model) // 2
    angle = position / 10000.0 ** (2 * pair / config.d_model)
    wave = np.where(np.arange(config.d_model) % 2, np.cos(angle), np.sin(angle))
    return jnp.asarray(POSITION_STD * np.sqrt(2) * wave, jnp.float32)
