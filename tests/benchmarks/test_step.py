"""The PyTorch models that a step is timed against are the same model, and what the report says of a run."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from benchmarks.report import EINSUM, FACTORIZED, OURS, OURS_DENSE, goals
from benchmarks.step import main
from benchmarks.timing import Row, Training, time_in_turn, warm_up
from ttjax.batch import Batch
from ttjax.config import ModelConfig, preset
from ttjax.params import Params, flatten, init_params
from ttjax.step import sgd_step

TINY = preset("tiny").replace(n_blocks=1)
RATE = 0.05
LENGTHS = (10, 6)  # a full sentence, and one with padding


@pytest.fixture(scope="module")
def torch_model() -> Any:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[bench]'")
    import benchmarks.torch_model as module

    return module


def sentences(config: ModelConfig) -> list[Batch]:
    """Random sentences of LENGTHS."""
    rng = np.random.default_rng(0)

    def ids(limit: int, *shape: int) -> np.ndarray:
        return np.asarray(rng.integers(0, limit, shape), np.int32)

    return [
        Batch(
            tokens=ids(config.vocab_size, config.seq_len),
            length=np.asarray(length, np.int32),
            intent=ids(config.n_intents),
            slots=ids(config.n_slots, config.seq_len),
        )
        for length in LENGTHS
    ]


@cache
def start(config: ModelConfig) -> Params:
    """Fresh parameters, moved so that no bias is 0 and no scale 1: one that is left out shows."""
    rng = np.random.default_rng(1)

    def moved(p: jax.Array) -> np.ndarray:
        return np.asarray(p) + 0.1 * rng.standard_normal(p.shape).astype(np.float32)

    return jax.tree.map(moved, jax.jit(init_params, static_argnums=1)(jax.random.key(0), config))


@cache
def our_steps(config: ModelConfig) -> list[tuple[dict[str, np.ndarray], float]]:
    """Parameters after one SGD step from ``start`` on each of the sentences, and its loss."""
    optimizer, params = optax.sgd(RATE), start(config)
    found = []
    for sentence in sentences(config):
        after, _, value = sgd_step(params, optimizer.init(params), sentence, optimizer, config)
        found.append(({name: np.asarray(leaf) for name, leaf in flatten(after).items()}, float(value)))
    return found


@pytest.mark.parametrize("linear", ["dense", "halves", "einsum", "factorized", "reconstructed"])
def test_a_torch_step_is_ttjaxs(torch_model: Any, linear: str) -> None:
    """Loss and all parameters after one SGD step, sentence by sentence, from the same parameters."""
    torch = pytest.importorskip("torch")  # there, or the fixture had skipped
    if linear in ("factorized", "reconstructed"):
        pytest.importorskip("tltorch", reason="tensorly-torch is not installed: pip install -e '.[bench]'")
    config = TINY.replace(format="dense" if linear == "dense" else "tt")
    before = flatten(start(config))
    for sentence, (after, expected) in zip(sentences(config), our_steps(config), strict=True):
        model = torch_model.TorchModel(config, linear)
        torch_model.load(model, before)
        sgd = torch.optim.SGD(model.parameters(), RATE)
        value = model.loss(*torch_model.tensors(jax.tree.map(lambda field: field[None], sentence)))
        value.backward()
        sgd.step()
        assert value.item() == pytest.approx(expected, rel=2e-6)
        found = torch_model.leaves(model)
        assert found.keys() == after.keys()
        for name, leaf in after.items():
            # Of the step, not of the parameter, beside which a step is small. To the keys' biases a softmax
            # is blind: they don't move but for rounding.
            change = np.abs(leaf - before[name]).max()
            assert change > 1e-5 or name.endswith("k.bias"), name
            allowed = 1e-6 * np.abs(leaf).max() + 5e-5 * change
            np.testing.assert_allclose(found[name].numpy(), leaf, rtol=0, atol=allowed, err_msg=name)


def test_a_batch_is_the_mean_of_its_sentences(torch_model: Any) -> None:
    model = torch_model.TorchModel(TINY, "halves")
    torch_model.load(model, flatten(start(TINY)))
    both = jax.tree.map(lambda *fields: np.stack(fields), *sentences(TINY))
    expected = np.mean([value for _, value in our_steps(TINY)])
    assert model.loss(*torch_model.tensors(both)).item() == pytest.approx(expected, rel=1e-5)


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    for name in ("bars.xyz", "bars"):
        assert main(["--plot", str(tmp_path / name), "--json", str(tmp_path / "step.json")]) == 2
        assert "--plot: expected a file ending in one of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


class Decay:
    """A training of one number: its loss is multiplied by ``factor`` at every step."""

    def __init__(self, value: float, factor: float) -> None:
        self.value, self.factor, self.passes = value, factor, 0

    def advance(self) -> np.ndarray:
        self.passes += 1
        losses = self.value * self.factor ** np.arange(3)
        self.value *= self.factor**3
        return losses


def timed(*decays: Decay) -> list[tuple[Row, Training]]:
    return [(Row(f"row {i}", "case"), Training(decay.advance, 5, "same")) for i, decay in enumerate(decays)]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Decay(1.0, 1.0), "row 1 .*: its parameters aren't carried on"),
        (Decay(1.0, float("nan")), "row 1 .*: its parameters aren't carried on, or it diverges"),
        (Decay(1.0, 0.8), "row 1 .* is not the same training as row 0 .*: at step 5"),
    ],
)
def test_a_row_that_trains_otherwise_is_not_timed(second: Decay, message: str) -> None:
    warm_up(timed(Decay(1.0, 0.9), Decay(1.0, 0.9)), lambda: None)
    with pytest.raises(RuntimeError, match=message):
        warm_up(timed(Decay(1.0, 0.9), second), lambda: None)


def test_rows_take_turns() -> None:
    first, second = Decay(1.0, 0.9), Decay(1.0, 0.9)
    rows = timed(first, second)
    seen = []
    time_in_turn(rows, 4, 1e-9, lambda: seen.append((first.passes, second.passes)))
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]
    for row, _ in rows:
        assert len(row.ms) == 4 and min(row.ms) > 0


def test_goals_take_the_fastest_version_of_a_peer() -> None:
    ms = {OURS: 2.0, OURS_DENSE: 9.0, FACTORIZED[0]: 40.0, FACTORIZED[1]: 15.0, FACTORIZED[2]: 30.0}
    rows = [Row(name, "2 blocks", 1, ms=[value]) for name, value in ms.items()]
    rows.append(Row(EINSUM[0], "2 blocks", not_run="PyTorch is not installed"))
    rows.append(Row(OURS, "6 blocks", 1, ms=[1e-3]))
    found = {goal.name: goal for goal in goals(rows, {2: "2 blocks"}, [7.0, 9.0, 7.5])}
    assert found["enc2: FactorizedLinear over ours"].summary() == {
        "goal": "enc2: FactorizedLinear over ours",
        "target": 8,
        "found": 7.5,
        "met": False,
    }
    assert found["enc2: our dense over our tensor"].met is False
    assert found["enc2: ms a step"].met is True
    assert found["enc2: seconds an epoch of ATIS"].found == 7.5
    for name in ("enc2: torch einsum, eager, over ours", "enc6: our dense over our tensor"):
        assert found[name].met is None
