"""The PyTorch models that a step is timed against are the same model; what its options make of it."""

from __future__ import annotations

import json
import os
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from benchmarks import report, timing
from benchmarks.report import OURS, OURS_DENSE
from benchmarks.step import Step, main
from benchmarks.timing import Training
from ttjax.batch import Batch
from ttjax.config import ModelConfig, preset
from ttjax.params import Params, flatten, init_params
from ttjax.provenance import processor
from ttjax.step import sgd_step

TINY = preset("tiny").replace(n_blocks=1)
RATE = 0.05
LENGTHS = (10, 6)  # a full sentence, and one with padding


@pytest.fixture(autouse=True)
def cores_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command holds its process to its cores: here that is the one that all further tests run in."""
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)


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


def test_one_file_for_figures_and_plot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "step.svg")
    assert main(["--plot", file, "--json", file]) == 2
    assert f"--plot: expected another file than --json, found {file} for both" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bars.xyz", "bars"):
        assert main(["--plot", str(tmp_path / name), "--json", str(tmp_path / "step.json")]) == 2
        assert "--plot: expected a file ending in one of" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_of_no_corpus_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "matmul_peak", lambda: pytest.fail("the work has begun"))
    monkeypatch.setenv("TTJAX_DATA", str(tmp_path / "none"))
    assert main(["--preset", "tiny", "--epoch"]) == 2
    assert f"error: $TTJAX_DATA: {tmp_path / 'none'}: expected a folder" in capsys.readouterr().err


def test_goals_are_about_the_papers_sizes_on_one_core() -> None:
    def found(**options: Any) -> dict[int, str]:
        step = Step(blocks=(2, 6), batch=(1, 8), **options)
        return step._goal_cases(step._cases())

    assert found() == found(tokens=32) == {2: "2 blocks, batch 1", 6: "6 blocks, batch 1"}
    assert found(threads=2) == found(tokens=64) == found(preset="tiny") == {}


@pytest.mark.parametrize("slice", ["inf", "nan", "0", "-1"])
def test_a_slice_that_never_ends_or_begins_is_refused(
    slice: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "matmul_peak", lambda: pytest.fail("the work has begun"))
    assert main(["--slice", slice]) == 2
    assert "--slice: expected a finite number of seconds above 0" in capsys.readouterr().err


def test_the_json_says_what_was_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of tiny at 8 tokens must not pass for two of enc2; the picture's title says it too."""
    titles, began = [], []

    def peak() -> dict[str, float]:
        began.append("the work")
        return {"numpy": 1.0}

    def ours_alone(step: Step, case: Any) -> dict[str, Any]:
        names = (OURS, OURS_DENSE, "ttjax, rank 3")
        return {name: partial(Training, Steady().advance, 10**6, name) for name in names}

    monkeypatch.setattr(Step, "_trainings", ours_alone)
    monkeypatch.setattr(timing, "matmul_peak", peak)
    monkeypatch.setattr(timing, "machine", lambda: {"before": list(began)})
    monkeypatch.setattr(report, "draw", lambda rows, path, title: titles.append(title))
    options: dict[str, Any] = {"preset": "tiny", "tokens": 8, "batch": (1, 4), "ranks": (3,), "peers": False}
    file = tmp_path / "step.json"
    assert Step(**options, rounds=1, slice=1e-9, json=str(file), plot=tmp_path / "step.png").run() == 0
    written = json.loads(file.read_text())
    expected = {"preset": "tiny", "tokens": 8, "blocks": [2], "batch": [1, 4], "ranks": [3], "peers": False}
    assert {name: written[name] for name in expected} == expected
    # Asked for first: its load is that of others, its commit the one that is timed.
    assert written["machine"] == {"before": []}
    assert (written["threads"], written["rounds"], written["steps_in_pool"]) == (1, 1, 20)
    assert titles == [f"A training step of tiny, 8 tokens, on 1 core of {processor()}"]


class Steady:
    """A training whose losses fall from step to step, without any work."""

    def __init__(self) -> None:
        self.passes = 0

    def advance(self) -> np.ndarray:
        self.passes += 1
        return np.array([1.0, 0.9]) / self.passes
