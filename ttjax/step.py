"""One SGD step on one example, and n of them under ``lax.scan``: what is compiled, timed and compared.

Pure: parameters and optimizer state in, the same out.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import jax
import optax
from jaxtyping import Array, Float

from ttjax.batch import Batch
from ttjax.config import ModelConfig
from ttjax.contraction import Flow
from ttjax.model import loss
from ttjax.params import Params

_State = tuple[Params, optax.OptState]


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
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return cast(Params, optax.apply_updates(params, updates)), opt_state, value


@partial(jax.jit, static_argnames=("optimizer", "config", "flow"), donate_argnums=(0, 1))
def scan_steps(
    params: Params,
    opt_state: optax.OptState,
    batches: Batch,
    optimizer: optax.GradientTransformation,
    config: ModelConfig,
    flow: Flow = "bidirectional",
) -> tuple[Params, optax.OptState, Float[Array, " n"]]:
    """``sgd_step`` on each of n examples in turn (leading axis n), one compiled loop.

    ``params`` and ``opt_state`` are donated: their memory holds the results, they can't be used again.

    Returns:
        parameters and optimizer state after the last step, and the n losses, each before its step.
    """

    def step(state: _State, batch: Batch) -> tuple[_State, Array]:
        params, opt_state, value = sgd_step(*state, batch, optimizer, config, flow)
        return (params, opt_state), value

    (params, opt_state), losses = jax.lax.scan(step, (params, opt_state), batches)
    return params, opt_state, losses
