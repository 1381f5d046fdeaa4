"""The memory that training the uncompressed model takes: what the on-chip total is compared with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from fpga_bridge.memory.lifetimes import temporaries
from fpga_bridge.memory.memory_map import BYTES
from fpga_bridge.memory.timeline import make_timeline
from ttjax import Batch, ModelConfig, UserError, sgd_step
from ttjax.costs import model_costs
from ttjax.params import abstract_params


def dense_config(config: ModelConfig) -> ModelConfig:
    """The uncompressed model of the same dimensions, trained in the ordinary way: everything kept."""
    return config.replace(format="dense", recompute=(), rederive=False, immediate=False, frozen=())


def saved_activation_bytes(config: ModelConfig) -> int:
    """Bytes of the activations that are live when the backward pass begins: what a step saves for it.

    Counted over the same arrays that the kernel keeps (pools ``activation`` and ``attention``), which are
    those of any implementation of this model with hand-written derivatives; merged halves are not among them.
    """
    dense = dense_config(config)
    time = make_timeline(dense)
    moment = time.at("forward", "loss")
    saved = (
        array.size
        for array in temporaries(dense, time)
        if array.pool in ("activation", "attention")
        and any(first <= moment < last for first, last in array.intervals)
    )
    return BYTES * sum(saved)


def dense_live_bytes(config: ModelConfig) -> int:
    """Bytes of the uncompressed model's parameters, gradients and saved activations."""
    return 2 * model_costs(dense_config(config)).bytes + saved_activation_bytes(config)


def xla_bytes(config: ModelConfig) -> int:
    """What XLA reports for one jitted SGD step of the uncompressed model on this machine.

    Arguments, outputs and temporaries, less what they share (``memory_analysis`` of the compiled step).

    Raises:
        UserError: this backend of XLA reports no memory.
    """
    dense = dense_config(config)
    params = abstract_params(dense)
    optimizer = optax.sgd(1e-3)
    tokens = jax.ShapeDtypeStruct((dense.seq_len,), jnp.int32)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    state = jax.eval_shape(optimizer.init, params)
    batch = Batch(tokens, number, number, tokens)  # type: ignore[arg-type]
    compiled = sgd_step.lower(params, state, batch, optimizer, dense).compile()
    sizes = compiled.memory_analysis()
    if sizes is None:
        raise UserError("XLA reports no memory of a compiled step on this backend; run on the CPU")
    whole = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return whole - sizes.alias_size_in_bytes
