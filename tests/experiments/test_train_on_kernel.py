"""The study of training on the kernel: a training for each seed, once, and the mean of what they differ by.

`fpga-bridge train` itself is in tests/fpga_bridge/test_cli_train.py; here one that only writes its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments import train_on_kernel
from experiments.train_on_kernel import main, summarised
from fpga_bridge.training.report import compared
from ttjax.errors import UserError

# Of both after the last epoch, by seed: intents and slots of dev, then of test.
DEVICE = {3: (0.95, 0.90, 0.94, 0.91), 5: (0.96, 0.91, 0.95, 0.92)}
JAX = {3: (0.955, 0.90, 0.94, 0.90), 5: (0.955, 0.91, 0.95, 0.925)}
WHERE = ["--data", "travel", "--out", ".", "--runs", "runs"]


def results(seed: int) -> dict[str, Any]:
    """As `fpga-bridge train` writes them."""
    (dev, test), (jax_dev, jax_test) = (
        [dict(zip(("intent_accuracy", "slot_f1"), scores[i : i + 2], strict=True)) for i in (0, 2)]
        for scores in (DEVICE[seed], JAX[seed])
    )
    told: dict[str, Any] = {name: name for name in ("preset", "data", "config", "device")}
    told |= {"recipe": {"epochs": 10, "seed": seed}, "versions": {"jax": "1"}}
    told |= {"seed": seed, "commit": f"c{seed}", "simulated": True, "test": test, "jax": {"test": jax_test}}
    told["epochs"] = [{"epoch": 1, "dev": dev, "jax": {"dev": jax_dev}}]
    return told | {"compared": compared(told)}


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds that were trained, in a working folder of their own."""
    seeds: list[int] = []

    def train(arguments: Sequence[str]) -> int:
        options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
        assert (arguments[0], options["--device"], options["--epochs"]) == ("train", "csim", "10")
        seed, folder = int(options["--seed"]), Path(options["--out"])
        assert options["--data"] == "travel"
        if seed not in DEVICE:
            return 130 if seed == 130 else 2
        seeds.append(seed)
        (folder / "kernel_training.json").write_text(json.dumps(results(seed)))
        (folder / "kernel_training.png").write_bytes(b"picture of %d" % seed)
        return 0

    monkeypatch.setattr(train_on_kernel, "fpga_bridge_command", train)
    monkeypatch.chdir(tmp_path)
    return seeds


def test_each_seed_is_trained_once_and_the_means_are_told(
    trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["--seeds", "3", "5", *WHERE]) == 0
        assert trained == [3, 5]
    found = json.loads(Path("train_on_kernel.json").read_text())
    assert [(one["seed"], one["commit"]) for one in found["seeds"]] == [(3, "c3"), (5, "c5")]
    dev, test = found["difference"]["dev"], found["difference"]["test"]
    assert (dev["intent_accuracy"], dev["slot_f1"], dev["passed"]) == (0.0, 0.0, True)
    assert dev["intent_accuracy_range"] == pytest.approx([-0.5, 0.5])
    assert (test["slot_f1"], test["passed"]) == (pytest.approx(0.25), True)
    assert found["seeds"][0]["device"] == {"intent_accuracy": 94.0, "slot_f1": 91.0}
    assert found["seeds"][0]["jax"] == {"intent_accuracy": 94.0, "slot_f1": 90.0}
    assert (found["recipe"], found["versions"]) == ({"epochs": 10}, {"jax": "1"})
    assert Path("train_on_kernel.png").read_bytes() == b"picture of 3"
    lines = capsys.readouterr().out.splitlines()
    assert "trainings: 2, of which 0 are done" in lines
    assert "trainings: 2, of which 2 are done by other code than this (c3, c5)" in lines
    *_, mean = (line.split() for line in lines if line.strip().startswith("mean"))
    assert mean == ["mean", "+0.00", "+0.00", "+0.00", "+0.25"]


def test_another_training_is_not_taken_for_it(trained: list[int]) -> None:
    for n, more in enumerate(([], ["--limit", "100"], ["--preset", "tiny"], [])):
        Path(f"out{n}").mkdir()
        assert main(["--seeds", "3", *WHERE, *more, "--out", f"out{n}"]) == 0
    assert trained == [3, 3, 3]


@pytest.mark.parametrize("name", ["versions", "recipe", "config"])
def test_a_mean_is_of_trainings_of_one_kind(name: str) -> None:
    first, second = results(3), results(5)
    assert summarised([first, second])["seeds"][1]["seed"] == 5
    second[name] = {"jax": "2"}
    with pytest.raises(UserError, match=f"with the seeds 3 and 5: expected the same {name}, found different"):
        summarised([first, second])


def test_a_mean_beyond_the_limit_does_not_pass(trained: list[int]) -> None:
    assert main(["--seeds", "3", *WHERE]) == 0
    found = json.loads(Path("train_on_kernel.json").read_text())["difference"]
    assert [found[split]["passed"] for split in ("dev", "test")] == [False, False]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seeds", "3", "3"], "--seeds: expected different numbers, found 3 3"),
        (["--seeds", "4"], "the training with seed 4 ended with status 2"),
        (["--out", "none"], "--out: expected an existing folder, found none"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(
    trained: list[int], options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WHERE, *options]) == 2
    assert said in capsys.readouterr().err
    assert not Path("train_on_kernel.json").exists()


def test_an_interrupted_training_interrupts_the_study(
    trained: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WHERE, "--seeds", "130"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
