"""Recipes: every optimizer and schedule against its formula, what is refused, which runs can go on."""

from __future__ import annotations

import dataclasses
from typing import Any, cast, get_args

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.config import Format, preset
from ttjax.errors import UserError
from ttjax.optimizers import ENDLESS, OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from ttjax.params import Params, flatten
from ttjax.recipe import Recipe

RATE = 0.01
FORMATS: tuple[Format, ...] = get_args(Format)


def by_formula(name: str, gradients: np.ndarray) -> np.ndarray:
    """A parameter that starts at 1, after one step of the named optimizer for each gradient, in float64."""
    p, m, v = 1.0, 0.0, 0.1 if name == "adagrad" else 0.0
    for t, g in enumerate(gradients, start=1):
        match name:
            case "sgd":
                step = g
            case "momentum" | "nesterov":
                m = 0.9 * m + g
                step = m if name == "momentum" else 0.9 * m + g
            case "adam" | "adamw" | "nadam":
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                mean = m / (1 - 0.9**t)
                if name == "nadam":
                    mean = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
                step = mean / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
                if name == "adamw":
                    step = step + 1e-4 * p
            case "rmsprop":
                v = 0.9 * v + 0.1 * g * g
                step = g / np.sqrt(v + 1e-8)
            case "adagrad":
                v = v + g * g
                step = g / np.sqrt(v + 1e-7)
            case "lion":
                step = np.sign(0.9 * m + 0.1 * g) + 1e-3 * p
                m = 0.99 * m + 0.01 * g
            case _:
                raise AssertionError(f"no formula for {name}")
        p = p - RATE * step
    return np.asarray(p)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_its_formula(name: str) -> None:
    gradients = np.random.default_rng(0).standard_normal(6).astype(np.float32)
    optimizer = make_optimizer(name, optax.constant_schedule(RATE), preset("tiny"))
    params: Any = {"a": {"b": jnp.ones((), jnp.float32)}}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update({"a": {"b": jnp.asarray(gradient)}}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["a"]["b"], by_formula(name, gradients.astype(float)), rtol=2e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_frozen_layer_stays_as_it_is(name: str) -> None:
    """Under weight decay too, which asks for no gradient."""
    config = preset("tiny").replace(frozen=("embed_norm",))
    optimizer = make_optimizer(name, optax.constant_schedule(RATE), config)
    layer = {"scale": jnp.ones(3, jnp.float32), "bias": jnp.ones(3, jnp.float32)}
    params = {"embed_norm": layer, "block0": {"norm1": layer}}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    leaves = flatten(cast(Params, updates))
    moved = {leaf for leaf, update in leaves.items() if np.asarray(update).all()}
    assert moved == {"block0.norm1.scale", "block0.norm1.bias"}
    assert not np.asarray(leaves["embed_norm.scale"]).any()


def rates(name: str, steps: int, epochs: int, warm_up: float) -> np.ndarray:
    schedule = make_schedule(name, 0.01, steps, epochs, warm_up)
    return np.asarray([schedule(step) for step in jnp.arange(steps * epochs)])


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 9), st.integers(1, 3), st.floats(0, 1))
def test_a_schedule_is_its_formula(name: str, steps: int, epochs: int, warm_up: float) -> None:
    rising = max(1, int(warm_up * steps))
    rest = max(1, epochs * steps - rising)
    of_fall = {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: 0.5 * (1 + np.cos(np.pi * x)),
        "constant": lambda x: 1.0,
    }[name]
    expected = []
    for i in range(steps * epochs):
        up = 1 / rising + (1 - 1 / rising) * i / max(1, rising - 1)
        expected.append(0.01 * (up if i < rising else of_fall((i - rising) / rest)))
    np.testing.assert_allclose(rates(name, steps, epochs, warm_up), expected, rtol=2e-5, atol=1e-8)


def test_the_linear_schedule_rises_for_half_an_epoch_and_falls_to_the_end() -> None:
    """By what it is for, not by the formula: neither end is 0, and the peak is reached and kept to."""
    found = rates("linear", 100, 3, 0.5)
    assert found.argmax() in (49, 50)
    assert found[50] == np.float32(0.01)
    np.testing.assert_allclose(found[0], 0.01 / 50, rtol=1e-4)
    assert 0 < found[-1] < 1e-4
    assert (np.diff(found[:50]) > 0).all() and (np.diff(found[50:]) < 0).all()
    assert 0 < rates("linear", 1, 1, 0.5)[0] <= 0.01


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"optimizer": "sdg"},
            "unknown optimizer 'sdg': expected one of sgd, momentum, nesterov, adam, adamw,",
        ),
        ({"schedule": "line"}, "unknown schedule 'line': expected one of linear, cosine, constant"),
        ({"peak_learning_rate": 0.0}, "learning rate: expected a finite number above 0, found 0.0"),
        ({"peak_learning_rate": float("nan")}, "learning rate: expected a finite number above 0, found nan"),
        ({"peak_learning_rate": float("inf")}, "learning rate: expected a finite number above 0, found inf"),
        ({"epochs": 0}, "epochs: expected a whole number from 1 up, found 0"),
        ({"warm_up": -0.5}, "warm-up: expected from 0 to 40 epochs, found -0.5"),
        ({"warm_up": 2.5, "epochs": 2}, "warm-up: expected from 0 to 2 epochs, found 2.5"),
        ({"warm_up": float("nan")}, "warm-up: expected from 0 to 40 epochs, found nan"),
        ({"word_dropout": 1.0}, "word dropout: expected a probability from 0 to below 1, found 1.0"),
        ({"word_dropout": float("nan")}, "word dropout: expected a probability"),
        ({"exchange": 1.5}, "exchange: expected a probability from 0 to 1, found 1.5"),
        ({"recombine": -0.5}, "recombine: expected a probability from 0 to 1, found -0.5"),
        ({"reopen": 1.5}, "reopen: expected a probability from 0 to 1, found 1.5"),
        ({"average": -0.1}, "average: expected a share of the epochs from 0 to 1, found -0.1"),
        ({"seed": -1}, "seed: expected a whole number from 0 to"),
        ({"seed": 2**32}, "seed: expected a whole number from 0 to"),
    ],
)
def test_a_recipe_that_can_not_be_followed(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        Recipe(**fields)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_is_made_longer_only_where_its_rates_stay(name: str) -> None:
    recipe = Recipe(schedule=name, epochs=2, average=0.0)
    assert recipe.until(1) == recipe
    if name in ENDLESS:
        assert recipe.until(5) == dataclasses.replace(recipe, epochs=5)
    else:
        with pytest.raises(
            UserError, match=f"at most 2, for which the {name} schedule and .* were made, found 5"
        ):
            recipe.until(5)
    with pytest.raises(UserError, match=r"the average of 0\.5 were made, found 5"):
        Recipe(schedule=name, epochs=2, average=0.5).until(5)
    same = bool((rates(name, 20, 5, 0.5)[:40] == rates(name, 20, 2, 0.5)).all())
    assert same == (name in ENDLESS)


def test_the_warm_up_leaves_half_of_a_short_run() -> None:
    assert [Recipe(epochs=n).rise() for n in (1, 3, 4, 40)] == [0.5, 1.5, 2, 2]
    assert Recipe(epochs=40, warm_up=0.0).rise() == 0


def test_the_average_is_over_the_last_epochs() -> None:
    counts = {
        share: [Recipe(epochs=6, average=share).averaged(epoch) for epoch in range(1, 7)]
        for share in (0.0, 0.5, 1.0)
    }
    assert counts == {0.0: [1] * 6, 0.5: [1, 1, 1, 1, 2, 3], 1.0: [1, 2, 3, 4, 5, 6]}
    # In floating point 28.999999999999996 epochs.
    assert Recipe(epochs=100, average=0.29).averaged(100) == 29


def test_a_peak_for_each_optimizer_and_format() -> None:
    assert (Recipe().peak("tt"), Recipe().peak("dense")) == (7e-3, 2e-3)
    assert Recipe(peak_learning_rate=0.5).peak("tt") == 0.5
    peaks = {name: [Recipe(optimizer=name).peak(form) for form in FORMATS] for name in OPTIMIZERS}
    assert peaks == {
        "sgd": [7e-3, 2e-3],
        "momentum": [pytest.approx(7e-4), pytest.approx(2e-4)],
        "nesterov": [pytest.approx(7e-4), pytest.approx(2e-4)],
        "adam": [1e-3, 1e-3],
        "adamw": [1e-3, 1e-3],
        "nadam": [1e-3, 1e-3],
        "rmsprop": [1e-3, 1e-3],
        "adagrad": [1e-2, 1e-2],
        "lion": [1e-4, 1e-4],
    }


def test_the_recipe_that_the_readme_states_is_the_default() -> None:
    """Its accuracies are of these choices: another default would be another training under the same name."""
    assert dataclasses.asdict(Recipe().written_out("tt")) == {
        "optimizer": "sgd",
        "schedule": "linear",
        "peak_learning_rate": 7e-3,
        "epochs": 40,
        "warm_up": 2.0,
        "hide_digits": True,
        "exchange": 0.5,
        "recombine": 0.25,
        "reopen": 0.5,
        "word_dropout": 0.05,
        "average": 0.1,
        "seed": 0,
        "flow": "bidirectional",
    }
    assert Recipe().written_out("dense").peak_learning_rate == 2e-3
    # The last 4 epochs.
    assert [Recipe().averaged(epoch) for epoch in (36, 37, 38, 40)] == [1, 1, 2, 4]
