"""`ttjax train --checkpoint` and `--resume`: a broken run ends in an unbroken one's bits, or is refused."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.numpy

from ttjax import training_run
from ttjax.checkpoint import read_checkpoint
from ttjax.cli import main
from ttjax.data import Sentence, write_corpus
from ttjax.data.corpus import Corpus
from ttjax.evaluate import evaluate
from ttjax.train import TrainState
from ttjax.training_run import Run

ROOT = Path(__file__).resolve().parents[2]
# Adam has the largest state. The sentences aren't a multiple of those between two reports.
OPTIONS = ["--preset", "tiny", "--blocks", "1", "--data", "travel", "--limit", "130", "--seed", "3"]
RECIPE = ["--optimizer", "adam", "--schedule", "cosine", "--warm-up", "0.25", "--average", "1"]


class Files(NamedTuple):
    """What one unbroken and one broken run of two epochs leave behind."""

    unbroken: Path
    unbroken_json: Path
    first: Path  # of the broken run, after its first epoch
    resumed: Path
    resumed_json: Path


def falling_scores(*args: Any, **options: Any) -> dict[str, Any]:
    """The true scores but for the best epoch, which is to be the first: training makes the bias grow."""
    size = float(np.abs(np.asarray(args[0]["intent_out"]["bias"])).sum())
    return {**evaluate(*args, **options), "intent_accuracy": 1 / (1 + size), "slot_f1": 0.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("runs")
    files = Files(*(folder / f"{name}" for name in Files._fields))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "evaluate", falling_scores)
        train = ["train", *OPTIONS, *RECIPE]
        saved = ["--checkpoint", str(files.unbroken), "--json", str(files.unbroken_json)]
        assert main([*train, "--epochs", "2", *saved]) == 0
        assert (
            main([*train, "--epochs", "1", "--schedule-epochs", "2", "--checkpoint", str(files.first)]) == 0
        )
        resumed = ["--checkpoint", str(files.resumed), "--json", str(files.resumed_json)]
        assert main(["train", "--resume", str(files.first), "--epochs", "2", *resumed]) == 0
        yield files


def tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    loaded = safetensors.numpy.load_file(path)
    return {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in loaded.items()}


def timeless(path: Path) -> dict[str, Any]:
    results = json.loads(path.read_text())
    for row in results["epochs"]:
        assert row.pop("train_seconds") >= row.pop("ms_per_step") / 1e3 > 0
    return results


def test_a_broken_run_ends_in_the_bits_of_an_unbroken_one(runs: Files) -> None:
    assert tensors(runs.resumed) == tensors(runs.unbroken)
    assert timeless(runs.resumed_json) == timeless(runs.unbroken_json)
    first, last = tensors(runs.first), tensors(runs.resumed)
    assert first.keys() == last.keys()
    assert first["intent_out.weight"] != last["intent_out.weight"]
    assert read_checkpoint(runs.first).state.epoch == 1


def test_the_best_on_dev_is_kept_and_tested(runs: Files) -> None:
    results, first, last = (
        json.loads(runs.resumed_json.read_text()),
        tensors(runs.first),
        tensors(runs.resumed),
    )
    assert results["best"]["epoch"] == 1
    assert results["best"]["dev"] == results["epochs"][0]["dev"]
    assert results["best"]["test"] != results["test"]
    assert last["best/intent_out.weight"] == first["intent_out.weight"]
    assert results["recipe"]["optimizer"] == "adam" and results["recipe"]["epochs"] == 2


def test_a_run_that_is_done_is_scored_again(runs: Files, tmp_path: Path) -> None:
    """As after a kill between the last checkpoint and the results."""
    before, again = runs.unbroken.read_bytes(), tmp_path / "again.json"
    assert main(["train", "--resume", str(runs.unbroken), "--json", str(again)]) == 0
    assert json.loads(again.read_text()) == json.loads(runs.unbroken_json.read_text())
    assert runs.unbroken.read_bytes() == before


def test_a_run_that_is_done_is_saved_elsewhere(runs: Files, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    assert main(["train", "--resume", str(runs.unbroken), "--checkpoint", str(copy)]) == 0
    assert tensors(copy) == tensors(runs.unbroken)
    assert read_checkpoint(copy).rows == read_checkpoint(runs.unbroken).rows


def test_a_file_that_another_run_has_begun_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, start = tmp_path / "run.safetensors", Run.start

    def late_start(self: Run) -> TrainState:
        target.write_bytes(b"another's")
        return start(self)

    monkeypatch.setattr(Run, "start", late_start)
    assert main(["train", *OPTIONS, "--epochs", "1", "--limit", "4", "--checkpoint", str(target)]) == 2
    assert "expected no file at" in capsys.readouterr().err
    assert target.read_bytes() == b"another's"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--epochs", "3"],
            "expected at most 2, for which the cosine schedule and the average of 1 were made, found 3",
        ),
        (["--schedule-epochs", "3"], "recipe: expected epochs 2 as in the checkpoint, found 3"),
        (["--optimizer", "sgd"], "recipe: expected optimizer adam as in the checkpoint, found sgd"),
        (["--schedule", "linear"], "recipe: expected schedule cosine as in the checkpoint, found linear"),
        (["--lr", "0.5"], "recipe: expected peak_learning_rate 0.001 as in the checkpoint, found 0.5"),
        (["--warm-up", "1"], "recipe: expected warm_up 0.25 as in the checkpoint, found 1.0"),
        (["--word-dropout", "0"], "recipe: expected word_dropout 0.05 as in the checkpoint, found 0.0"),
        (["--seed", "4"], "recipe: expected seed 3 as in the checkpoint, found 4"),
        (["--flow", "dense"], "recipe: expected flow bidirectional as in the checkpoint, found dense"),
        (["--preset", "tiny"], "model: expected n_blocks 1 as in the checkpoint, found 2"),
        (
            ["--rank", "3"],
            "model: expected tt_ranks (1, 5, 4, 3, 2, 1) as in the checkpoint, found (1, 3, 3,",
        ),
        (["--limit", "9"], "data: expected train_sentences 130 as in the checkpoint, found 9"),
        (["--data", "small"], "data: expected digest "),
    ],
)
def test_a_resumed_run_that_would_not_be_the_same(
    options: list[str],
    message: str,
    runs: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sentence = (Sentence(("fly",), ("O",), "go"),)
    write_corpus(Corpus("small", False, sentence, sentence, sentence), tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    before = runs.first.read_bytes()
    assert main(["train", "--resume", str(runs.first), *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and message in line
    assert runs.first.read_bytes() == before


def test_a_run_does_not_go_back_or_write_over_another(
    runs: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, link = runs.unbroken.read_bytes(), tmp_path / "link"
    link.symlink_to(runs.unbroken)
    for command, message in [
        (["--resume", str(runs.unbroken), "--epochs", "1"], "--epochs: expected at least 2, which"),
        (["--resume", str(runs.first), "--checkpoint", str(runs.unbroken)], "expected no file at"),
        ([*OPTIONS, "--checkpoint", str(runs.unbroken)], "expected no file at"),
        ([*OPTIONS, "--epochs", "2", "--schedule-epochs", "1"], "--schedule-epochs: expected at least 2"),
        (["--resume", str(runs.first.with_name("none"))], "can't read it"),
        ([*OPTIONS, "--checkpoint", str(runs.first / "below")], "expected an existing folder"),
        (
            ["--resume", str(runs.unbroken), "--json", str(runs.unbroken)],
            "--json: expected another file than --resume",
        ),
        (
            ["--resume", str(runs.first), "--checkpoint", str(runs.unbroken), "--json", str(link)],
            "--json: expected another file than --checkpoint",
        ),
    ]:
        assert main(["train", *command]) == 2
        assert message in capsys.readouterr().err
    assert runs.unbroken.read_bytes() == before


def test_a_checkpoint_that_could_not_be_replaced_is_refused_before_the_work(
    runs: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name leaves no room for the temporary file's. What has nothing left to train is scored again."""
    first, done = tmp_path / ("f" * 246), tmp_path / ("d" * 246)
    first.write_bytes(runs.first.read_bytes())
    done.write_bytes(runs.unbroken.read_bytes())
    capsys.readouterr()
    assert main(["train", "--resume", str(first)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert f"{first}: expected a folder to write to" in captured.err and "File name too long" in captured.err
    assert main(["train", "--resume", str(done)]) == 0


def run(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_goes_on_to_the_same_bits(seed: int, tmp_path: Path) -> None:
    train = "import sys; from ttjax.cli import main; sys.exit(main(['train', *sys.argv[1:]]))"
    options = [*OPTIONS, *RECIPE, "--epochs", "6"]
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    assert run(train, *options, "--checkpoint", str(unbroken)).wait() == 0
    rng, kills = random.Random(seed), 0
    while True:
        if killed.exists():
            seen = killed.stat().st_mtime_ns
            process = run(train, "--resume", str(killed))
        else:
            seen = 0
            process = run(train, *options, "--checkpoint", str(killed))
        if rng.random() < 0.2:
            time.sleep(rng.uniform(0, 8))  # in the middle of importing or compiling
        else:
            while process.poll() is None and not (killed.exists() and killed.stat().st_mtime_ns > seen):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.4))  # in a later epoch, in scoring, or in writing
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        if killed.exists() and read_checkpoint(killed).state.epoch == 6:
            break
    assert kills
    assert run(train, "--resume", str(killed)).wait() == 0
    assert tensors(killed) == tensors(unbroken)
