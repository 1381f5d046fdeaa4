"""Training on the kernel: an epoch is JAX's epoch, whatever the calls; drift, rates, scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from rich.console import Console
from rich.progress import Progress

from fpga_bridge.agreement.compare import relative_distance
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.training.run import JaxBeside, KernelTrainer, pieces
from tests.fpga_bridge.samples import differing, random_params, same_bits
from ttjax import Batch, Params, Recipe, UserError, flatten, preset
from ttjax.cli_progress import Watch
from ttjax.data import travel_corpus
from ttjax.evaluate import evaluate
from ttjax.optimizers import SCHEDULES
from ttjax.train import TrainState
from ttjax.training_run import Epoch, JaxTrainer, Run, TrainingPlan

SENTENCES = 24
# All epochs averaged: after the second, what is scored isn't what is trained on.
EPOCHS = 3
RECIPE = Recipe(epochs=EPOCHS, average=1.0, peak_learning_rate=7e-3, seed=3)


def watch() -> Watch:
    return Watch(Progress(console=Console(), disable=True), SENTENCES, compiles=False)


class Case(NamedTuple):
    run: Run
    device: CsimDevice


@pytest.fixture(scope="module", autouse=True)
def start() -> Iterator[None]:
    """Parameters from numpy: ``init_params`` would cost seconds of compilation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ttjax.train.init_params", lambda key, config: random_params(config))
        yield


@pytest.fixture(scope="module")
def case() -> Case:
    run = run_of(RECIPE)
    return Case(run, CsimDevice(run.config))


def run_of(recipe: Recipe) -> Run:
    plan = TrainingPlan("tiny", preset("tiny"), recipe, recipe.epochs, None, SENTENCES, None, resumed=None)
    return Run.of(plan, travel_corpus())


def epochs_of(run: Run, trainer: Any) -> list[Epoch]:
    """All, each with a scoring of its average if on the device. States are copies: JAX donates them."""
    state, epochs = run.start(), []
    for _ in range(EPOCHS):
        epoch = trainer.train_epoch(state, watch())
        state = epoch.state
        epochs.append(Epoch(jax.tree.map(np.array, state._replace(key=0)), epoch.losses, epoch.more))
        if isinstance(trainer, KernelTrainer):
            trainer.evaluate(state.average, run.corpus.dev[:9], lambda done: None)
    return epochs


@pytest.fixture(scope="module")
def on_device(case: Case) -> list[Epoch]:
    """Two calls for each epoch, JAX beside."""
    return epochs_of(case.run, KernelTrainer(case.run, case.device, 12, JaxBeside(case.run)))


@pytest.fixture(scope="module")
def on_jax(case: Case) -> list[Epoch]:
    return epochs_of(case.run, JaxTrainer(case.run))


def distance(a: TrainState, b: TrainState, what: str = "params") -> float:
    here, there = (flatten(getattr(state, what)) for state in (a, b))
    return relative_distance(here, {name: np.asarray(leaf) for name, leaf in there.items()})


def test_an_epoch_on_the_device_is_one_on_jax(on_device: list[Epoch], on_jax: list[Epoch]) -> None:
    """Float32's rounding is 6e-8; a rate of another step, or a sentence left out, is 1e-3 away."""
    for here, there in zip(on_device, on_jax, strict=True):
        np.testing.assert_allclose(here.losses, there.losses, rtol=1e-5)
        assert distance(here.state, there.state) < 2e-6
        assert distance(here.state, there.state, "average") < 2e-6
        assert distance(here.state, there.state) > 0
        assert (here.state.epoch, here.state.step) == (there.state.epoch, there.state.step)
        assert jax.tree.structure(here.state.opt_state) == jax.tree.structure(there.state.opt_state)
        assert jax.tree.leaves(here.state.opt_state) == jax.tree.leaves(there.state.opt_state) != []
    first, _, last = (epoch.state for epoch in on_device)
    assert distance(last, last._replace(params=last.average)) > 1e-3
    assert distance(last, first) > 1e-3


def test_the_drift_is_taken_after_each_call(on_device: list[Epoch], on_jax: list[Epoch]) -> None:
    drift = [point for epoch in on_device for point in epoch.more["drift"]]
    assert [step for step, _ in drift] == [12, 24, 36, 48, 60, 72]
    assert all(0 < found < 2e-6 for _, found in drift)
    for epoch, there in zip(on_device, on_jax, strict=True):
        assert epoch.more["jax"]["loss"] == pytest.approx(float(there.losses.mean()), rel=1e-5)
        assert epoch.more["jax"]["dev"]["sentences"] == len(travel_corpus().dev)


def test_a_drift_is_seen_where_it_begins(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters that are read half as large again are half their length away."""
    read, reads = case.device.read, list[int]()

    def grown() -> Params:
        reads.append(1)
        return jax.tree.map(lambda leaf: leaf * np.float32(1 if len(reads) == 1 else 1.5), read())

    monkeypatch.setattr(case.device, "read", grown)
    trainer = KernelTrainer(case.run, case.device, 12, JaxBeside(case.run))
    first, second = trainer.train_epoch(case.run.start(), watch()).more["drift"]
    assert first[0] == 12 and first[1] < 2e-6
    assert second == [24, pytest.approx(0.5, rel=1e-5)]


def test_jax_catches_up_with_a_checkpoint(case: Case) -> None:
    behind, beside = JaxBeside(case.run), JaxBeside(case.run)
    for part in pieces(case.run.examples(beside.state), 12):
        beside.steps(part)
    beside.complete()
    behind.catch_up(1, 12)
    assert behind.state.epoch == 1 and differing(behind.state.params, beside.state.params) == []


def test_the_device_gets_each_sentence_once_in_order_with_its_rate(
    case: Case, on_device: list[Epoch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In calls of 7, which end in the same bits as calls of 12, and without JAX."""
    calls: list[tuple[Batch, np.ndarray]] = []
    steps = case.device.steps

    def recorded(batch: Batch, rates: np.ndarray) -> np.ndarray:
        calls.append((batch, rates))
        return steps(batch, rates)

    monkeypatch.setattr(case.device, "steps", recorded)
    run, state = case.run, case.run.start()
    trainer = KernelTrainer(run, case.device, 7, None)
    for number in range(EPOCHS):
        calls.clear()
        expected = run.examples(state)
        state, losses, more = trainer.train_epoch(state, watch())
        assert more == {} and [len(rates) for _, rates in calls] == [7] * 3 + [3]
        for i, field in enumerate(expected):
            np.testing.assert_array_equal(np.concatenate([batch[i] for batch, _ in calls]), field)
        rates = RECIPE.rates(run.config, SENTENCES, number * SENTENCES, SENTENCES)
        assert same_bits(np.concatenate([rates for _, rates in calls]), rates)
        assert same_bits(losses, on_device[number].losses)
        assert differing(state.params, on_device[number].state.params) == []
        assert differing(state.average, on_device[number].state.average) == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_those_that_the_optimizer_takes(schedule: str) -> None:
    recipe = Recipe(schedule=schedule, epochs=3, warm_up=0.5)
    config, ones = preset("tiny"), {"layer": {"weight": np.ones(1, np.float32)}}
    optimizer = recipe.optax(config, 10)
    state, taken = optimizer.init(ones), []
    for _ in range(30):
        updates, state = optimizer.update(ones, state, ones)
        taken.append(-np.asarray(jax.tree.leaves(updates)[0])[0])
    np.testing.assert_allclose(recipe.rates(config, 10, 0, 30), taken, rtol=0, atol=1e-7 * recipe.peak("tt"))
    assert same_bits(recipe.rates(config, 10, 12, 10), recipe.rates(config, 10, 0, 30)[12:22].copy())
    assert int(optax.tree_utils.tree_get(state, "count")) == 30


def test_scores_are_of_the_devices_predictions(case: Case, on_device: list[Epoch]) -> None:
    run, params, done = case.run, on_device[1].state.params, list[int]()
    split = run.corpus.dev[:60]
    found = KernelTrainer(run, case.device, 25, None).evaluate(params, split, done.append)
    with jax.default_matmul_precision("highest"):  # as beside the device, so that it is compiled already
        assert found == evaluate(params, split, run.vocabulary, run.config)
    assert done == [25, 50, 60]
    assert differing(case.device.read(), params) == []


def test_divergence_is_said_after_its_call(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def diverging(batch: Batch, rates: np.ndarray) -> np.ndarray:
        calls.append(len(rates))
        losses = np.ones((len(rates), 3), np.float32)
        losses[4, 0] = np.nan if len(calls) == 2 else 1
        return losses

    monkeypatch.setattr(case.device, "steps", diverging)
    with pytest.raises(UserError, match=r"expected a finite loss, found nan at sentence 15 of 24: lower"):
        KernelTrainer(case.run, case.device, 10, None).train_epoch(case.run.start(), watch())
    assert calls == [10, 10]


@pytest.mark.parametrize(("option", "value"), [("optimizer", "adam"), ("flow", "dense")])
def test_a_recipe_that_the_kernel_does_not_do(case: Case, option: str, value: str) -> None:
    changes: dict[str, Any] = {option: value}
    with pytest.raises(UserError, match=rf"--{option}: expected \w+, the only one .*, found {value}"):
        KernelTrainer(run_of(Recipe(**changes)), case.device, 10, None)


def test_jax_beside_is_scored_by_its_average(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the device is, not by the parameters of its last step."""
    beside, scored = JaxBeside(case.run), list[Params]()
    beside.state = beside.state._replace(average=random_params(case.run.config, 1))
    monkeypatch.setattr("fpga_bridge.training.run.evaluate", lambda params, *_: scored.append(params) or {})
    assert beside.evaluate(case.run.corpus.dev) == {}
    assert [differing(params, beside.state.average) for params in scored] == [[]]
