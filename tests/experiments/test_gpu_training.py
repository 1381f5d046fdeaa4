"""What gpu_baseline measures of one configuration, without a training; what of it is written and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import pytest
from jax import Array

from experiments import gpu_baseline, gpu_training
from experiments.gpu_baseline import GpuBaseline
from experiments.gpu_training import Job, Training, measure
from ttjax import Batch, preset
from ttjax.step import padded_lengths

JOB = Job("tiny", "tt", "bidirectional", "travel", 2, 1, False, 0, "")
TIMES = {"median": 1.0, "quartiles": [1.0, 1.0]}


def test_a_program_whose_launches_cannot_be_counted_is_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sentences = SimpleNamespace(length=jnp.asarray([3, 5]))
    compiled = SimpleNamespace(as_text=lambda: "", memory_analysis=lambda: None)
    training = SimpleNamespace(epoch=sentences, pool=sentences, compiled=compiled)
    training.scan, training.calls = (lambda: None), (lambda: lambda: None)
    monkeypatch.setattr(gpu_training, "Training", lambda _: training)
    row = measure(JOB)
    assert "instructions" not in row and row["sentence_tokens"] == 4.0
    assert (
        row["not_measured"]["instructions"] == "the compiled program has no loop of a known number of rounds"
    )
    assert row["not_measured"]["launches"].startswith("no GPU")


def test_calls_are_of_sentences_cut_to_the_length_that_scan_steps_pads_them_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training, config = object.__new__(Training), preset("enc2")
    lengths = padded_lengths(config.seq_len)
    assert len(lengths) > 1
    own = [1, lengths[0], lengths[0] + 1]
    tokens = jnp.zeros((len(own), config.seq_len), jnp.int32)
    training.config, training.flow, training.state = config, "bidirectional", [0, 0]
    training.optimizer = None  # type: ignore[assignment]
    training.pool = Batch(
        tokens=tokens, length=jnp.asarray(own), intent=jnp.zeros(3, jnp.int32), slots=tokens
    )
    seen = []

    def step(_params: int, _state: int, sentence: Batch, *_: Any) -> tuple[int, int, Array]:
        assert sentence.tokens.shape == sentence.slots.shape
        seen.append((int(sentence.length), *sentence.tokens.shape))
        return 0, 0, jnp.zeros(())

    monkeypatch.setattr(gpu_training, "sgd_step", step)
    training.calls()()
    assert seen == [(1, lengths[0]), (lengths[0], lengths[0]), (lengths[0] + 1, lengths[1])]


def made_up(form: str, **more: Any) -> Callable[[Job], dict[str, Any]]:
    machine = {"device": "made up", "platform": "gpu", "matmul_precision": "highest", "product_error": 1e-7}
    return lambda job: {
        "format": job.format,
        "flow": job.flow,
        "not_measured": {},
        "machine": machine,
        "scan_ms": TIMES,
        "call_ms": TIMES,
        **(more if job.format == form else {}),
    }


@pytest.mark.parametrize("more", [{"launches": {"fusion": 3}}, {"epoch_joules": 2.0}, {"peak_bytes": 1e6}])
def test_what_only_some_configurations_have_is_written_and_not_drawn(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_baseline, "_row", made_up("tt", **more))
    panels = []
    monkeypatch.setattr(gpu_baseline, "save", lambda figure, _: panels.extend(figure.axes))
    assert GpuBaseline("tiny", flows=("dense",), steps=2, data="travel", out=tmp_path).run() == 0
    found = json.loads((tmp_path / "gpu_baseline.json").read_text())
    rows, options = found["rows"], found["options"]
    assert (options["preset"], options["flows"], options["steps"]) == ("tiny", ["dense"], 2)
    (key,) = more
    assert [key in row for row in rows] == [True, False]
    assert [axes.get_ylabel() for axes in panels] == ["ms a step"]


def test_measurements_outlive_a_picture_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_baseline, "_row", made_up("tt"))

    def fails(*_: Any) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr(gpu_baseline, "_draw", fails)
    with pytest.raises(RuntimeError, match="no picture"):
        GpuBaseline("tiny", flows=("dense",), steps=2, data="travel", out=tmp_path).run()
    found = json.loads((tmp_path / "gpu_baseline.json").read_text())
    assert len(found["rows"]) == 2
