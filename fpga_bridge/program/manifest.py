"""The trace manifest: every trace point of a step with its shape, stage and place in the trace buffer.

Generated once from the model's own taps, in the kernel's order of execution, and read by both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, UInt32

from fpga_bridge.device import Trace
from fpga_bridge.memory.layout import HASH_WORDS, Layout, make_layout
from ttjax import Batch, ModelConfig, loss, trace_shapes
from ttjax.params import abstract_params, layer_of

Kind = Literal["value", "value_gradient", "parameter_gradient", "updated"]

LOSSES = ("intent_loss", "slot_loss", "loss")
# Bits in the override buffer that leave an element alone; the kernel's kKeep.
KEEP = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True)
class TracePoint:
    """One named array of the step.

    ``offset`` counts elements of the trace buffer; for the parameters' points it is where the parameter's
    placement begins, laid out as in its bank. ``token_axes``: those that run over the sentence's positions.
    """

    name: str
    kind: Kind
    stage: str
    shape: tuple[int, ...]
    offset: int
    token_axes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """All trace points in order of execution, and the buffer they share."""

    layout: Layout
    points: tuple[TracePoint, ...]
    gradients_offset: int
    updated_offset: int

    @property
    def words(self) -> int:
        """Length of the trace buffer in elements."""
        return self.updated_offset + self.layout.size

    @cached_property
    def by_name(self) -> dict[str, TracePoint]:
        """Points by name."""
        return {point.name: point for point in self.points}

    def read(self, trace: Float32[np.ndarray, " words"]) -> dict[str, Float32[np.ndarray, "..."]]:
        """Arrays by point name, in order of execution."""
        gradients = self.layout.split(trace[self.gradients_offset : self.updated_offset])
        updated = self.layout.split(trace[self.updated_offset :])
        arrays = {f"d_{name}": array for name, array in gradients.items()}
        arrays |= {f"new_{name}": array for name, array in updated.items()}
        for point in self.points:
            if point.name not in arrays:
                size = prod(point.shape)
                arrays[point.name] = trace[point.offset : point.offset + size].reshape(point.shape)
        return {point.name: arrays[point.name] for point in self.points}

    def without_padding(self, trace: Trace, length: int) -> Trace:
        """The same arrays with zeros at every position after the sentence's ``length`` tokens.

        Nobody reads what a step has there: the kernel may leave anything, JAX computes something. So both
        sides of a comparison, and values handed in, pass through here. Arrays with such positions are copied;
        one that fits no point of its name is handed on, for others to refuse.
        """
        if length >= self.layout.config.seq_len:
            return trace
        kept = dict(trace)
        for name, array in trace.items():
            point = self.by_name.get(name)
            if point is not None and point.token_axes and array.shape == point.shape:
                kept[name] = np.array(array)
                for axis in point.token_axes:
                    np.moveaxis(kept[name], axis, 0)[length:] = 0
        return kept

    def overrides(self, arrays: Mapping[str, np.ndarray]) -> UInt32[np.ndarray, " words"]:
        """The override buffer for the points named; every other element is KEEP.

        Raises:
            KeyError: no point has that name. ValueError: wrong shape, or an updated parameter (nothing
            runs after it).
        """
        buffer = np.full(self.words, KEEP, np.uint32)
        for name, array in arrays.items():
            point = self.by_name[name]
            if array.shape != point.shape:
                raise ValueError(f"override of {name}: expected shape {point.shape}, found {array.shape}")
            if point.kind == "updated":
                raise ValueError(f"override of {name}: an updated parameter is the end of the step")
            flat = np.ascontiguousarray(array, np.float32).view(np.uint32)
            if point.kind == "parameter_gradient":
                flat = self.layout.placement(name.removeprefix("d_")).spread(flat, KEEP)
            buffer[point.offset : point.offset + flat.size] = flat.reshape(-1)
        return buffer


@lru_cache(maxsize=64)
def make_manifest(config: ModelConfig) -> Manifest:
    """The manifest of a config's bidirectional step."""
    layout = make_layout(config)
    values = _value_shapes(config, config.seq_len)
    # An axis over the sentence's positions is one that gets shorter with less padding.
    shorter = _value_shapes(config, config.seq_len - 1)
    token_axes = {
        name: tuple(axis for axis, size in enumerate(shape) if size != shorter[name][axis])
        for name, shape in values.items()
    }
    points: list[TracePoint] = []
    offset = 0
    for name, shape in values.items():
        points.append(TracePoint(name, "value", stage_of(name), shape, offset, token_axes[name]))
        offset += prod(shape)
    backward = [name for name in reversed(values) if name not in LOSSES and not _of_frozen(name, config)]
    gradients: list[TracePoint] = []
    for name in backward:
        place = (stage_of(name), values[name], offset, token_axes[name])
        gradients.append(TracePoint(f"d_{name}", "value_gradient", *place))
        offset += prod(values[name])
    of_layer: dict[str, list[TracePoint]] = {}
    updated = []
    for p in layout.placements:
        at = layout.banks[p.bank].offset - HASH_WORDS + p.start
        stage = layer_of(p.name)
        if not config.trains(stage):
            continue
        gradient = TracePoint(f"d_{p.name}", "parameter_gradient", stage, p.shape, offset + at)
        new = TracePoint(f"new_{p.name}", "updated", stage, p.shape, offset + layout.size + at)
        of_layer.setdefault(stage, []).extend([gradient, new] if config.immediate else [gradient])
        if not config.immediate:
            updated.append(new)
    # A layer's parameter gradients stand after the last gradient of its own values; each is applied there
    # or, if gradients are held, at the end.
    for i, gradient in enumerate(gradients):
        points.append(gradient)
        if i + 1 == len(gradients) or gradients[i + 1].stage != gradient.stage:
            points.extend(of_layer.pop(gradient.stage, []))
    if of_layer:
        raise AssertionError(f"parameters of no traced stage: {sorted(of_layer)}")
    return Manifest(layout, (*points, *updated), offset, offset + layout.size)


def _of_frozen(value: str, config: ModelConfig) -> bool:
    """Whether a value's gradient is wanted for frozen cores only, and so not computed."""
    layer, _, part = value.rpartition(".")
    return part in ("left", "right") and not config.trains(layer)


def stage_of(value: str) -> str:
    """The stage (layer or kernel unit) that computes a named value of the forward pass."""
    scope, _, part = value.rpartition(".")
    if part in ("left", "right", "bond"):
        return scope
    if part in ("scores", "probs", "context"):
        return f"{scope}.attention"
    if value in LOSSES:
        return "loss"
    return {"intent_logits": "intent_out", "slot_logits": "slot_out"}.get(value, value)


def _value_shapes(config: ModelConfig, padded_to: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the values of a sentence padded to so many positions, in order of execution."""
    tokens = jnp.zeros(padded_to, jnp.int32)
    batch = Batch(tokens, jnp.int32(2), jnp.int32(0), tokens)
    shapes = trace_shapes(lambda p, tap: loss(p, batch, config, tap=tap), abstract_params(config))
    return {name: shape.shape for name, shape in shapes.items()}
