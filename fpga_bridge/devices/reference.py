"""The JAX step behind the Device interface: in float64 the truth, in float32 the yardstick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float32

from fpga_bridge.device import StepResult, Trace
from fpga_bridge.devices.host import logits_without_padding
from fpga_bridge.program.manifest import LOSSES, make_manifest
from ttjax import (
    Batch,
    Logits,
    ModelConfig,
    Params,
    flatten,
    forward,
    loss,
    tapped_value_and_grad,
    unflatten,
)
from ttjax.compiled import QUICK_TO_COMPILE
from ttjax.params import check_params


class JaxDevice:
    """A Device that is the jitted bidirectional step of ``ttjax``, in float32 or float64.

    Matrix products run at the highest precision (a GPU would otherwise use TF32).
    """

    taps: bool = True

    def __init__(self, config: ModelConfig, dtype: type[np.floating] = np.float32) -> None:
        self.config = config
        self.dtype = np.dtype(dtype)
        self._manifest = make_manifest(config)
        self._params: Params | None = None

    def load(self, params: Params) -> None:
        """Takes parameters, converted to this device's precision."""
        check_params(params, self.config)
        with self._precision():
            self._params = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, self.dtype)), params)

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        """One SGD step; trace points in the dtype of this device, zero at padding as on all devices."""
        length = int(batch.length)
        handed_in = self._manifest.without_padding(overrides or {}, length)
        with self._precision():
            arrays = {name: jnp.asarray(array, self.dtype) for name, array in handed_in.items()}
            points, self._params = _compiled_step()(
                self._held(),
                _on_device(batch),
                jnp.asarray(np.float32(rate), self.dtype),
                arrays,
                self.config,
            )
        recorded: Trace = {point.name: np.asarray(points[point.name]) for point in self._manifest.points}
        joint, intent, slot = (float(recorded[name]) for name in ("loss", "intent_loss", "slot_loss"))
        wanted = bool(trace or overrides)
        shown = self._manifest.without_padding(recorded, length) if wanted else None
        return StepResult(joint, intent, slot, shown)

    def steps(self, batch: Batch, rates: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Runs n SGD steps one after the other: joint, intent and slot loss of each."""
        losses = []
        for n, rate in enumerate(rates):
            losses.append(self.step(Batch(*(np.asarray(field)[n] for field in batch)), float(rate)).losses)
        return np.array(losses, np.float32).reshape(-1, 3)

    def infer(self, batch: Batch) -> Logits:
        """Logits of one sentence; zeros at the slots of padding."""
        with self._precision():
            logits = _infer(self._held(), _on_device(batch), self.config)
        return logits_without_padding(logits, batch.length)

    def read(self) -> Params:
        """The parameters now, rounded to float32."""
        return jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float32), self._held())

    def _held(self) -> Params:
        if self._params is None:
            raise RuntimeError("no parameters: call load first")
        return self._params

    @contextmanager
    def _precision(self) -> Iterator[None]:
        with jax.enable_x64(self.dtype == np.float64), jax.default_matmul_precision("highest"):
            yield


def _on_device(batch: Batch) -> Batch:
    return Batch(*(jnp.asarray(np.asarray(field), jnp.int32) for field in batch))


@cache
def _compiled_step() -> Callable[..., tuple[dict[str, Array], Params]]:
    """``_traced_step``, on a CPU compiled quickly: that takes longer than twenty steps do."""
    options = QUICK_TO_COMPILE if jax.default_backend() == "cpu" else None
    return jax.jit(_traced_step, static_argnames="config", compiler_options=options)


def _traced_step(
    params: Params, batch: Batch, rate: Array, overrides: dict[str, Array], config: ModelConfig
) -> tuple[dict[str, Array], Params]:
    """All trace points of one step by name, and the new parameters."""
    leaves = flatten(params)
    of_parameters = {f"d_{name}" for name in leaves}
    d_values = {n[2:]: a for n, a in overrides.items() if n.startswith("d_") and n not in of_parameters}
    values = {n: a for n, a in overrides.items() if not n.startswith("d_")}
    recorded, gradients, d_params = tapped_value_and_grad(
        lambda p, tap: loss(p, batch, config, tap=tap), params, values, d_values
    )
    d_leaves = flatten(d_params)
    applied = unflatten({name: overrides.get(f"d_{name}", d) for name, d in d_leaves.items()})
    sgd = optax.sgd(rate)
    updates, _ = sgd.update(applied, sgd.init(params), params)
    new = cast(Params, optax.apply_updates(params, updates))
    points = {**recorded, **{f"d_{name}": g for name, g in gradients.items() if name not in LOSSES}}
    points |= {f"d_{name}": g for name, g in d_leaves.items()}
    points |= {f"new_{name}": leaf for name, leaf in flatten(new).items()}
    return points, new


@partial(jax.jit, static_argnames="config")
def _infer(params: Params, batch: Batch, config: ModelConfig) -> Logits:
    return forward(params, batch, config)
