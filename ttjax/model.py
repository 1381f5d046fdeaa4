"""The joint intent and slot transformer as pure functions of one example: forward pass and loss.

Post-LayerNorm encoder (arXiv 2501.06663, section II): parameters and a ``Batch`` in, logits out; batches
through ``jax.vmap``. ``tap`` names the intermediate values.
"""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy import ndarray

from ttjax.batch import Batch, Ids
from ttjax.config import ModelConfig
from ttjax.contraction import Flow, Halves, checked_flow, contract, merge_all_halves, through_halves
from ttjax.errors import UserError
from ttjax.norm import normalise
from ttjax.params import Params, check_params, core_list, freeze, linear_names
from ttjax.products import product
from ttjax.taps import Tap, no_tap, scoped
from ttjax.tt import digits_of, ttm_rows

Activation = Float[Array, "tokens d_model"]

# Score of a padded key before the softmax: far below any real one, so that its weight is exactly 0.
MASKED_SCORE = -1e30


class Logits(NamedTuple):
    """intent (n_intents,) and slot (seq_len, n_slots) logits of one example."""

    intent: Float[Array, "*n intents"] | Float[ndarray, "*n intents"]
    slots: Float[Array, "*n tokens slots"] | Float[ndarray, "*n tokens slots"]


def forward(
    params: Params,
    batch: Batch,
    config: ModelConfig,
    *,
    flow: Flow = "bidirectional",
    tap: Tap = no_tap,
) -> Logits:
    """Logits of one example (fields of ``batch`` without a leading axis), padded to seq_len or less.

    Raises:
        UserError: the parameters are another model's, found from their names and shapes alone; the sentence
            is padded beyond seq_len; or the flow is unknown.
    """
    check_params(params, config)
    checked_flow(flow)
    if (tokens := batch.tokens.shape[-1]) > config.seq_len:
        raise other_padding(tokens, config)

    def dense_or_tt(name: str, layer: Params, x: Activation) -> Activation:
        return tap(name, linear(layer, x, config, flow, scoped(tap, name), halves.get(name)))

    halves = all_halves(params, config) if config.format == "tt" and flow == "bidirectional" else {}
    is_token = jnp.arange(batch.tokens.shape[-1], dtype=jnp.int32) < batch.length
    x = tap("embed", embed(params["embed"], batch, config))
    x = tap("embed_norm", layer_norm(params["embed_norm"], x, config))
    for b in range(config.n_blocks):
        layers, name = params[f"block{b}"], f"block{b}"
        q = dense_or_tt(f"{name}.q", layers["q"], x)
        k = dense_or_tt(f"{name}.k", layers["k"], x)
        v = dense_or_tt(f"{name}.v", layers["v"], x)
        context = attention(q, k, v, is_token, config, scoped(tap, name))
        out = dense_or_tt(f"{name}.o", layers["o"], context)
        x = tap(f"{name}.norm1", layer_norm(layers["norm1"], x + out, config))
        hidden = dense_or_tt(f"{name}.ffn_in", layers["ffn_in"], x)
        hidden = tap(f"{name}.gelu", jax.nn.gelu(hidden, approximate=True))
        out = dense_or_tt(f"{name}.ffn_out", layers["ffn_out"], hidden)
        x = tap(f"{name}.norm2", layer_norm(layers["norm2"], x + out, config))

    summary = dense_or_tt("intent_pre", params["intent_pre"], x[:1])
    summary = tap("intent_tanh", jnp.tanh(summary))
    intent_logits = tap("intent_logits", head(params["intent_out"], summary)[0])

    tokens = dense_or_tt("slot_pre", params["slot_pre"], x)
    tokens = tap("slot_gelu", jax.nn.gelu(tokens, approximate=True))
    tokens = tap("slot_norm", layer_norm(params["slot_norm"], tokens, config))
    slot_logits = tap("slot_logits", head(params["slot_out"], tokens))
    return Logits(intent_logits, slot_logits)


def other_padding(tokens: int, config: ModelConfig) -> UserError:
    """What is said of sentences padded to so many tokens where the model doesn't take them."""
    return UserError(
        f"sentences: expected them padded to the model's {config.seq_len} tokens, found {tokens}:"
        " encode them for this model"
    )


def loss(
    params: Params,
    batch: Batch,
    config: ModelConfig,
    *,
    flow: Flow = "bidirectional",
    tap: Tap = no_tap,
) -> Float[Array, ""]:
    """Cross-entropy of the intent + slot_weight * mean cross-entropy of the words' slots, one example.

    Parameters of frozen layers get no gradient. Derivatives in reverse mode only: some are written out.
    """
    logits = forward(freeze(params, config), batch, config, flow=flow, tap=tap)
    intent_loss = tap("intent_loss", _cross_entropy(logits.intent, batch.intent))
    position = jnp.arange(batch.tokens.shape[-1], dtype=jnp.int32)
    is_word = (position > 0) & (position < batch.length)
    of_token = _cross_entropy(logits.slots, batch.slots)
    of_words = jnp.where(is_word, of_token, jnp.zeros_like(of_token))
    slot_loss = tap("slot_loss", jnp.sum(of_words) / (batch.length - 1).astype(of_words.dtype))
    return tap("loss", intent_loss + config.slot_weight * slot_loss)


def embed(layer: Params, batch: Batch, config: ModelConfig) -> Activation:
    """Token rows plus position rows."""
    position = layer["position"][: batch.tokens.shape[-1]]
    if config.format == "dense":
        return layer["table"][batch.tokens] + position
    digits = digits_of(batch.tokens, config.vocab_modes)
    return ttm_rows(core_list(layer), digits) + position


def all_halves(params: Params, config: ModelConfig) -> dict[str, Halves]:
    """The merged halves of every TT linear layer, by its dotted name."""
    names = linear_names(config)
    layers = [core_list(reduce(dict.__getitem__, name.split("."), params)) for name in names]
    return dict(zip(names, merge_all_halves(layers, len(config.in_modes)), strict=True))


def linear(
    layer: Params,
    x: Activation,
    config: ModelConfig,
    flow: Flow,
    tap: Tap = no_tap,
    halves: Halves | None = None,
) -> Activation:
    """Layer x W + b, W as TT cores (contracted in the order ``flow``) or as a plain matrix.

    ``halves``: what the flow bidirectional would merge, if that is done already.
    """
    if config.format == "dense":
        return x @ layer["weight"] + layer["bias"][None]
    if halves is not None:
        return through_halves(x, halves, tap) + layer["bias"][None]
    return contract(x, core_list(layer), len(config.in_modes), flow, tap) + layer["bias"][None]


def head(layer: Params, x: Activation) -> Float[Array, "tokens classes"]:
    """The dense classifier x W + b."""
    return product(x, layer["weight"]) + layer["bias"][None]


def layer_norm(layer: Params, x: Activation, config: ModelConfig) -> Activation:
    """(x - mean) / sqrt(var + norm_eps) * scale + bias over the width of each token."""
    return normalise(x, layer["scale"], layer["bias"], config.norm_eps)


def attention(
    q: Activation,
    k: Activation,
    v: Activation,
    is_token: Array,
    config: ModelConfig,
    tap: Tap = no_tap,
) -> Activation:
    """Multi-head attention; every query sees the keys that are tokens, padding gets weight 0.

    Taps: ``scores`` and ``probs`` (heads, queries, keys), ``context`` (tokens, d_model).
    """
    heads = (-1, config.n_heads, config.head_dim)
    q, k, v = (z.reshape(heads).transpose(1, 0, 2) for z in (q, k, v))
    scores = tap("scores", q @ k.transpose(0, 2, 1) / config.head_dim**0.5)
    masked = jnp.where(is_token[None, None], scores, jnp.full_like(scores, MASKED_SCORE))
    probs = tap("probs", jax.nn.softmax(masked, axis=-1))
    context = (probs @ v).transpose(1, 0, 2).reshape(-1, config.d_model)
    return tap("context", context)


def _cross_entropy(logits: Float[Array, "*n c"] | Float[ndarray, "*n c"], label: Ids) -> Float[Array, "*n"]:
    picked = jnp.take_along_axis(logits, label[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked
