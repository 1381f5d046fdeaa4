"""One SGD step on one example, and n of them under ``lax.scan``: what is compiled, timed and compared.

Pure: parameters and optimizer state in, the same out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
import optax
from jax.experimental import io_callback
from jaxtyping import Array, Float

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.model import loss
from ttjax.params import Params, keep_frozen

_State = tuple[Params, optax.OptState]

# Lengths that sentences are padded to within a scan, up to three quarters of seq_len: each is compiled for
# itself, and a longer one would save too little. Chosen for ATIS, whose sentences have 12.3 tokens in the
# mean with [CLS], out of those that suit a CPU's vectors: 15 tokens take as long as 16 (python -m
# benchmarks.step --tokens).
PADDED_LENGTHS = (8, 12, 16, 24, 32, 64, 128, 256)


@partial(jax.jit, static_argnames=("optimizer", "config", "flow"))
def sgd_step(
    params: Params,
    opt_state: optax.OptState,
    batch: Batch,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
    flow: Flow = "bidirectional",
) -> tuple[Params, optax.OptState, Float[Array, ""]]:
    """One step on one example (fields of ``batch`` without a leading axis).

    Returns:
        parameters and optimizer state after the step, and the loss before it.
    """
    value, gradients = jax.value_and_grad(loss)(params, batch, config, flow=flow)
    return *_updated(params, opt_state, gradients, optimizer, config), value


def _updated(
    params: Params,
    opt_state: optax.OptState,
    gradients: Params,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
) -> _State:
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    updated = cast(Params, optax.apply_updates(params, updates))
    # A gradient of 0 isn't enough: weight decay moves a parameter without one.
    return keep_frozen(updated, params, config), opt_state


def padded_lengths(whole: int) -> tuple[int, ...]:
    """Lengths that ``scan_steps`` pads examples of ``whole`` positions to, the shortest first."""
    return (*(length for length in PADDED_LENGTHS if 4 * length <= 3 * whole), whole)


@partial(jax.jit, static_argnames=("optimizer", "config", "flow", "on_steps", "every"), donate_argnums=(0, 1))
def scan_steps(
    params: Params,
    opt_state: optax.OptState,
    batches: Batch,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
    flow: Flow = "bidirectional",
    *,
    on_steps: Callable[[Array, Array], None] | None = None,
    every: int = 100,
) -> tuple[Params, optax.OptState, Float[Array, " n"]]:
    """``sgd_step`` on each of n examples in turn (leading axis n), one compiled loop.

    Each example is padded no further than to the next of PADDED_LENGTHS, since padding changes no result
    but for rounding and costs as much as words do.
    ``params`` and ``opt_state`` are donated: their memory holds the results, they can't be used again.
    ``on_steps(steps done, mean loss of the last ``every``)`` is called from within, in a thread of its own,
    after each ``every`` steps: it changes no bits, must not raise, and a new function is compiled anew.

    Returns:
        parameters and optimizer state after the last step, and the n losses, each before its step.
    """
    lengths = padded_lengths(batches.tokens.shape[-1])

    def at_length(length: int) -> Callable[[Params, Batch], tuple[Array, Params]]:
        def value_and_gradients(params: Params, batch: Batch) -> tuple[Array, Params]:
            cut = batch._replace(tokens=batch.tokens[:length], slots=batch.slots[:length])
            return jax.value_and_grad(loss)(params, cut, config, flow=flow)

        return value_and_gradients

    def step(state: _State, batch: Batch) -> tuple[_State, Array]:
        params, opt_state = state
        which = sum((batch.length > length).astype(jnp.int32) for length in lengths[:-1])
        # The update stays outside: a branch that returned parameters would copy them all.
        value, gradients = jax.lax.switch(which, [at_length(n) for n in lengths], params, batch)
        return _updated(params, opt_state, gradients, optimizer, config), value

    if on_steps is None:
        (params, opt_state), losses = jax.lax.scan(step, (params, opt_state), batches)
        return params, opt_state, losses

    def told_step(
        carry: tuple[_State, Array], item: tuple[Array, Batch]
    ) -> tuple[tuple[_State, Array], Array]:
        (state, recent), (done, batch) = carry, item
        state, value = step(state, batch)
        recent = recent + value
        due = done % every == 0
        jax.lax.cond(due, lambda: io_callback(on_steps, None, done, recent / every), lambda: None)
        return (state, jnp.where(due, jnp.zeros_like(recent), recent)), value

    number = 1 + jnp.arange(batches.length.shape[0], dtype=jnp.int32)
    none = jnp.zeros((), params["intent_out"]["bias"].dtype)
    state, losses = jax.lax.scan(told_step, ((params, opt_state), none), (number, batches))
    return *state[0], losses
