"""Optimizers and learning-rate schedules by name, all of them optax's.

A schedule gives the learning rate by step; each starts with the same warm-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from ttjax.config import ModelConfig
from ttjax.errors import UserError
from ttjax.params import Params, flatten, layer_of, unflatten

MOMENTUM = 0.9

OPTIMIZERS: dict[str, Callable[[optax.Schedule], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=MOMENTUM),
    "nesterov": lambda rate: optax.sgd(rate, momentum=MOMENTUM, nesterov=True),
    "adam": optax.adam,
    "adamw": optax.adamw,
    "nadam": optax.nadam,
    "rmsprop": optax.rmsprop,
    "adagrad": optax.adagrad,
    "lion": optax.lion,
}

# By name: what follows the warm-up, from the peak and the number of steps after it.
SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "linear": lambda peak, steps: optax.linear_schedule(peak, 0.0, steps),
    "cosine": lambda peak, steps: optax.cosine_decay_schedule(peak, steps),
    "constant": lambda peak, steps: optax.constant_schedule(peak),
}
# Those whose rates don't depend on when training is to end: such a run can be made longer afterwards.
ENDLESS = ("constant",)


def check_name(what: str, name: str, known: dict[str, Any]) -> None:
    """Refuses a name that isn't known.

    Raises:
        UserError: lists the names there are.
    """
    if name not in known:
        raise UserError(f"unknown {what} {name!r}: expected one of {', '.join(known)}")


def make_schedule(
    name: str, peak: float, steps_per_epoch: int, epochs: int, warm_up: float
) -> optax.Schedule:
    """Learning rate by step: ``warm_up`` epochs of straight rise to ``peak``, then what ``name`` says.

    The rise takes at least one step. Neither end is 0 itself: the first step and the last both learn, but
    for the cosine's last steps in a long training, which in float32 are 0.

    Raises:
        UserError: an unknown name, a peak that isn't above 0, a warm-up below 0 or longer than all epochs,
            or nothing to train on.
    """
    check_name("schedule", name, SCHEDULES)
    if not (peak > 0 and np.isfinite(peak)):
        raise UserError(f"learning rate: expected a finite number above 0, found {peak}")
    if epochs < 1 or steps_per_epoch < 1:
        raise UserError(
            f"expected at least one epoch of one sentence, found {epochs} epochs of {steps_per_epoch}"
        )
    if not 0 <= warm_up <= epochs:
        raise UserError(f"warm-up: expected from 0 to {epochs} epochs, found {warm_up}")
    rising = max(1, int(warm_up * steps_per_epoch))
    rest = max(1, epochs * steps_per_epoch - rising)
    rise = optax.linear_schedule(peak / rising, peak, max(1, rising - 1))
    return _promoting(optax.join_schedules([rise, SCHEDULES[name](peak, rest)], [rising]))


def make_optimizer(name: str, schedule: optax.Schedule, config: ModelConfig) -> optax.GradientTransformation:
    """The optimizer of that name; it leaves the layers alone that ``config`` freezes.

    Raises:
        UserError: an unknown name.
    """
    check_name("optimizer", name, OPTIMIZERS)

    # A training step keeps frozen layers by itself. The mask stays because checkpoints name an optimizer's
    # state by where it stands, which is one level deeper with it.
    def is_frozen(params: Params) -> Params:
        names = flatten(params)
        return unflatten({leaf: not config.trains(layer_of(leaf)) for leaf in names})

    optimizer = OPTIMIZERS[name](schedule)
    if config.frozen:
        optimizer = optax.chain(optimizer, optax.masked(optax.set_to_zero(), is_frozen))

    return optax.GradientTransformation(optimizer.init, _promoting(optimizer.update))


def state_names(state: optax.OptState) -> list[str]:
    """Dotted names of an optimizer state's leaves, in the order of ``jax.tree.leaves``."""
    paths = (path for path, _ in jax.tree.leaves_with_path(state))
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def _promoting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function where mixed dtypes are refused: optax computes with whole numbers and floats."""

    def promoting(*args: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*args)

    return promoting
