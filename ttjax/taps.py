"""Taps: the named intermediate values of the model, which can be recorded and overridden.

The model calls ``tap(name, value)`` and goes on with what comes back, so that one function yields the
values, their gradients from autodiff, and any stretch of the step run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

Tap = Callable[[str, Float[Array, "..."]], Float[Array, "..."]]
Values = dict[str, Float[Array, "..."]]


def no_tap(name: str, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tap of an ordinary forward pass: the value goes on unchanged and unrecorded."""
    return value


def scoped(tap: Tap, prefix: str) -> Tap:
    """The same tap with ``prefix.`` before each name."""
    return lambda name, value: tap(f"{prefix}.{name}", value)


def trace_shapes(loss: Callable[[PyTree, Tap], Array], params: PyTree) -> dict[str, jax.ShapeDtypeStruct]:
    """Shape and dtype of every value that ``loss(params, tap)`` names, in order of execution.

    ``params`` may be abstract (``jax.ShapeDtypeStruct`` leaves): nothing is computed.

    Raises:
        ValueError: two values share a name.
    """
    shapes: dict[str, jax.ShapeDtypeStruct] = {}

    def note(name: str, value: Array) -> Array:
        if name in shapes:
            raise ValueError(f"two trace points are called {name!r}")
        shapes[name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return value

    jax.eval_shape(lambda p: loss(p, note), params)
    return shapes


def tapped_value_and_grad(
    loss: Callable[[PyTree, Tap], Float[Array, ""]],
    params: PyTree,
    values: Mapping[str, Array] | None = None,
    gradients: Mapping[str, Array] | None = None,
) -> tuple[Values, Values, Any]:
    """All named values of ``loss(params, tap)``, their gradients, and the parameters' gradients.

    A zero is added to each named value; ``jax.grad`` with respect to the zeros is the values' gradients.

    ``values`` and ``gradients`` override, by name: the computed value (or the gradient that arrives) is
    recorded first, then replaced for what follows. A gradient passes through an overridden value to the
    stage before it, as it does in the kernel, whose backward pass runs whatever the forward buffers held.
    An override is meant to be a value the stage could have produced, up to rounding: a derivative
    written in terms of the stage's own output (softmax, tanh) is taken at the computed value here and
    at the overridden one in the kernel.

    Returns:
        values by name; gradients by the same names; gradients as ``params``. (``jax.jit`` returns dicts
        sorted by name: the order of execution is that of ``trace_shapes``.)

    Raises:
        KeyError: an override names no trace point.
    """
    values = dict(values or {})
    gradients = dict(gradients or {})
    shapes = trace_shapes(loss, params)
    unknown = (values.keys() | gradients.keys()) - shapes.keys()
    if unknown:
        raise KeyError(f"no trace point is called {sorted(unknown)[0]!r}")

    def run(params: PyTree, zeros: Values) -> tuple[Array, Values]:
        recorded: Values = {}

        def tap(name: str, value: Array) -> Array:
            recorded[name] = value
            if name in values or name in gradients:
                value = _replace(value, values.get(name), gradients.get(name))
            return value + zeros[name]

        return loss(params, tap), recorded

    zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    (_, recorded), (d_params, d_values) = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)(params, zeros)
    return recorded, d_values, d_params


def _replace(value: Array, new_value: Array | None, new_gradient: Array | None) -> Array:
    """``new_value`` going forward and ``new_gradient`` going back, each unchanged where None."""

    @jax.custom_vjp
    def through(value: Array) -> Array:
        return value if new_value is None else jnp.asarray(new_value, value.dtype)

    def forward(value: Array) -> tuple[Array, None]:
        return through(value), None

    def backward(_: None, cotangent: Array) -> tuple[Array]:
        return (cotangent if new_gradient is None else jnp.asarray(new_gradient, cotangent.dtype),)

    through.defvjp(forward, backward)
    return through(value)
