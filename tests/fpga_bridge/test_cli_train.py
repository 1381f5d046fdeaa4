"""`fpga-bridge train`: a broken run ends in an unbroken one's bits, wrong input harms nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

from fpga_bridge.cli import main
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.training.report import comparison
from ttjax.checkpoint import load_params, read_checkpoint
from ttjax.cli import main as ttjax_main
from ttjax.params import flatten

# The sentences aren't a multiple of those in a call.
MODEL = ["--preset", "tiny", "--data", "travel", "--limit", "60", "--average", "1", "--seed", "3"]
ALONE = ["--no-beside-jax", "--per-call", "25"]


class Files(NamedTuple):
    """What one unbroken and one broken run of two epochs leave; the broken one's second has JAX beside it."""

    unbroken: Path
    unbroken_json: Path
    first: Path  # of the broken run, after its first epoch
    resumed: Path
    out: Path
    said: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("runs")
    names = [folder / name for name in ("unbroken", "unbroken.json", "first", "resumed", "out", "said")]
    unbroken, unbroken_json, first, resumed, out, said = names
    out.mkdir()
    train = ["train", *MODEL, *ALONE]
    whole = ["--epochs", "2", "--checkpoint", str(unbroken), "--json", str(unbroken_json)]
    assert main([*train, *whole]) == 0
    assert main([*train, "--epochs", "1", "--schedule-epochs", "2", "--checkpoint", str(first)]) == 0
    with pytest.MonkeyPatch.context() as patch, said.open("w") as console:
        patch.setattr("sys.stdout", console)
        patch.setenv("COLUMNS", "120")
        more = ["--epochs", "2", "--checkpoint", str(resumed), "--per-call", "20", "--out", str(out)]
        assert main(["train", "--resume", str(first), *more]) == 0
    return Files(unbroken, unbroken_json, first, resumed, out, said.read_text())


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    loaded = safetensors.numpy.load_file(path)
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in loaded.items()}


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of epochs without times and without what is JAX's."""
    left_out = ("train_seconds", "ms_per_step", "jax", "drift")
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


def test_a_broken_run_ends_in_the_bits_of_an_unbroken_one(runs: Files) -> None:
    """In other calls, and with JAX beside."""
    assert tensors(runs.resumed) == tensors(runs.unbroken)
    before, after = read_checkpoint(runs.unbroken), read_checkpoint(runs.resumed)
    assert untimed(before.rows) == untimed(after.rows) and len(after.rows) == 2
    assert before.best[1:] == after.best[1:]
    first = tensors(runs.first)
    assert first.keys() == tensors(runs.resumed).keys()
    assert first["intent_out.weight"] != tensors(runs.resumed)["intent_out.weight"]
    assert read_checkpoint(runs.first).state.epoch == 1 and after.versions["device"] == "csim"


def test_the_results_say_what_was_done_and_compare_it_with_jax(runs: Files) -> None:
    results = json.loads((runs.out / "kernel_training.json").read_text())
    alone = json.loads(runs.unbroken_json.read_text())
    assert untimed(results["epochs"]) == untimed(alone["epochs"])
    assert results["test"] == alone["test"] and "jax" not in alone and alone["compared"] == {}
    assert results["device"] == "csim" and results["simulated"] is True and results["sensors"] is None
    assert results["data"]["synthetic"] is True and results["data"]["train_sentences"] == 60
    # The first epoch was done without JAX beside.
    first, last = results["epochs"]
    assert "jax" not in first and "drift" not in first
    assert [step for step, _ in last["drift"]] == [80, 100, 120]
    assert all(0 < distance < 1e-5 for _, distance in last["drift"])
    assert last["jax"]["loss"] == pytest.approx(last["loss"], rel=1e-5)
    for split, here, there in (
        ("dev", last["dev"], last["jax"]["dev"]),
        ("test", results["test"], results["jax"]["test"]),
    ):
        assert results["compared"][split] == comparison(here, there)
    assert (runs.out / "kernel_training.png").read_bytes().startswith(b"\x89PNG")
    assert [*runs.out.iterdir()] != [] and len([*runs.out.iterdir()]) == 2


def test_the_table_says_both_sides_scores_the_drift_and_whether_they_pass(runs: Files) -> None:
    results = json.loads((runs.out / "kernel_training.json").read_text())
    last, lines = results["epochs"][-1], runs.said.splitlines()
    assert "device: csim, 20 sentences a call" in lines and "SYNTHETIC" in runs.said
    drift = f"{last['drift'][-1][1]:.1e}"
    (told,) = (line for line in lines if line.startswith("epoch 2: "))
    assert told.endswith(f"drift {drift}") and f"JAX: loss {last['jax']['loss']:.4f}" in told
    (row,) = (line for line in lines if line.strip().startswith("2 dev") and line.strip().endswith(drift))
    assert f"{100 * last['jax']['dev']['intent_accuracy']:.2f}" in row.split()
    (verdict,) = (line for line in lines if "test: device − JAX" in line)
    assert verdict.split()[-1] == ("passed" if results["compared"]["test"]["passed"] else "not")
    assert "passed: both scores are within 0.3 points of JAX's" in runs.said


def test_scores_pass_within_three_tenths_of_a_point() -> None:
    jax = {"intent_accuracy": 0.9, "slot_f1": 0.9}
    for away, passed in ((0.003, True), (-0.003, True), (0.0031, False), (-0.0031, False)):
        for name in jax:
            found = comparison(jax | {name: 0.9 + away}, jax)
            assert found["passed"] is passed
    assert comparison({"intent_accuracy": 0.91, "slot_f1": 0.9}, jax)["intent_accuracy"] == 1.0


def test_ctrl_c_keeps_the_last_checkpoint_to_go_on_from(
    runs: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Raised in the second call of the second epoch, whose steps the device still does."""
    path, steps, calls = tmp_path / "run", CsimDevice.steps, list[int]()

    def interrupted(device: CsimDevice, *sentences: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return steps(device, *sentences)

    # Where a shell ignores the signal for what runs in the background, Python would not raise it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr(CsimDevice, "steps", interrupted)
        assert main(["train", *MODEL, *ALONE, "--epochs", "2", "--checkpoint", str(path)]) == 130
    signal.signal(signal.SIGINT, before)
    captured = capsys.readouterr()
    assert captured.err == "interrupted\n"
    assert captured.out.splitlines()[-1] == f"stopped: go on with fpga-bridge train --resume {path}"
    assert [*tmp_path.iterdir()] == [path] and tensors(path) == tensors(runs.first)
    assert main(["train", "--resume", str(path), *ALONE]) == 0
    assert tensors(path) == tensors(runs.unbroken)


def test_jax_goes_on_from_the_devices_checkpoint(
    runs: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends where the device does but for rounding: one format, one recipe."""
    on_jax = tmp_path / "on_jax"
    assert ttjax_main(["train", "--resume", str(runs.first), "--checkpoint", str(on_jax)]) == 0
    assert "resume: device was csim, is " in capsys.readouterr().out
    there = flatten(load_params(on_jax).params)
    for name, leaf in flatten(load_params(runs.resumed).params).items():
        np.testing.assert_allclose(leaf, there[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("damage", ["flipped", "cut", "foreign"])
def test_a_damaged_checkpoint_is_refused_and_left_alone(
    damage: str, runs: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, path = bytearray(runs.first.read_bytes()), tmp_path / "run"
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    content = {"cut": content[:-1], "foreign": b"not one"}.get(damage, content)
    path.write_bytes(content)
    assert main(["train", "--resume", str(path), *ALONE]) == 2
    said = capsys.readouterr().err
    expected = {"flipped": "the file is damaged", "cut": "bytes as its header says", "foreign": "no header"}
    assert said.startswith(f"error: {path}: ") and said.count("\n") == 1 and expected[damage] in said
    assert path.read_bytes() == content and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer", "adam"], "--optimizer: expected sgd, the only one that the kernel does, found adam"),
        (["--flow", "dense"], "--flow: expected bidirectional, the only one that the kernel does"),
        (["--format", "dense"], "expected format 'tt', found 'dense'"),
        (["--device", "card"], "unknown device 'card': expected csim, xrt:INDEX"),
        (["--xclbin", "card.xclbin"], "--xclbin is a card's program"),
        (["--per-call", "0"], "--per-call: expected a whole number from 1 up, found 0"),
        (["--epochs", "0"], "--epochs: expected a whole number from 1 up, found 0"),
        (["--limit", "-1"], "--limit: expected a whole number from 1 up, found -1"),
        (["--schedule", "steep"], "unknown schedule 'steep'"),
        (["--preset", "enc3"], "unknown preset 'enc3'"),
        (["--data", "absent"], "absent: expected a folder"),
        (["--out", "absent"], "--out: expected an existing folder, found none at absent"),
        (["--checkpoint", "absent/run"], "expected an existing folder"),
        (["--checkpoint", "out.json"], "--json: expected another file than --checkpoint"),
        (["--out", ".", "--checkpoint", "kernel_training.png"], "--out: expected another file than --check"),
        (["--resume", "absent"], "absent: expected a checkpoint, can't read it"),
    ],
)
def test_wrong_options_are_refused_in_a_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *MODEL, *ALONE, "--json", "out.json", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
    assert [*tmp_path.iterdir()] == []


def test_options_that_are_not_the_checkpoints_are_refused(
    runs: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    before = runs.first.read_bytes()
    for options, message in (
        (["--seed", "4"], "recipe: expected seed 3 as in the checkpoint, found 4"),
        (["--limit", "59"], "data: expected train_sentences 60 as in the checkpoint, found 59"),
        (["--checkpoint", str(runs.unbroken)], "expected no file at"),
    ):
        assert main(["train", "--resume", str(runs.first), *ALONE, *options]) == 2
        assert message in capsys.readouterr().err
    assert runs.first.read_bytes() == before
