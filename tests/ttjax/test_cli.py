"""The command line: what it prints and writes, and each wrong input as one line and status 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttjax.cli import exit_status, main
from ttjax.cli_model import ModelArgs
from ttjax.data import Sentence, write_corpus
from ttjax.data.corpus import Corpus


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Path:
    """A small corpus in files of its own."""
    words = ["rome", "oslo", "lima", "riga", "bonn", "kyiv"]
    sentences = tuple(
        Sentence(
            ("fly", "to", word) if i % 2 else ("far", word), ("O",) * (1 + i % 2) + ("B-city",), f"i{i % 2}"
        )
        for i, word in enumerate(words)
    )
    write_corpus(Corpus("small", False, sentences, sentences[:2], sentences[2:4]), tmp_path / "corpus")
    return tmp_path / "corpus"


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that must fail with status 2."""
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.endswith("\n") and line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "enc3"], "unknown preset 'enc3': expected one of enc2, enc4, enc6, tiny"),
        (["--rank", "0"], "--rank: expected a whole number from 1 up, found 0"),
        (["--embedding-rank", "0"], "--embedding-rank: expected a whole number from 1 up, found 0"),
        (["--rank", "769"], "--rank: expected at most the model's width, 768, found 769"),
        (["--embedding-rank", "999999999"], "--embedding-rank: expected at most the model's width, 768"),
        (["--ttm-ranks", "1", "30", "800", "1"], "--ttm-ranks: expected at most the model's width, 768"),
        (
            ["--tt-ranks", "1", "12", "0", "12", "12", "12", "1"],
            "tt_ranks: expected a whole number from 1 up",
        ),
        (["--rank", "4", "--tt-ranks", "1", "2", "1"], "expected --rank or --tt-ranks, found both"),
        (
            ["--in-modes", "96", "8"],
            "expected --rank or --tt-ranks, found neither: 5 cores don't take the 7 ranks there are",
        ),
        (["--in-modes", "12", "8", "9"], "factors must multiply to d_model 768, found 12·8·9 = 864"),
        (["--blocks", "0"], "n_blocks: expected a whole number from 1 up, found 0"),
        (["--seq-len", "1"], "seq_len: expected at least 2"),
        (
            ["--flow", "sideways"],
            "unknown flow 'sideways': expected one of dense, right_to_left, bidirectional, planned",
        ),
    ],
)
@pytest.mark.parametrize("command", ["info", "train"])
def test_a_model_that_does_not_fit(
    command: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.json"
    assert message in failure([command, *options, "--json", str(target)], capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "0"], "--epochs: expected a whole number from 1 up, found 0"),
        (["--limit", "0"], "--limit: expected a whole number from 1 up, found 0"),
        (["--lr", "0"], "learning rate: expected a finite number above 0, found 0.0"),
        (["--lr", "nan"], "learning rate: expected a finite number above 0, found nan"),
        (["--word-dropout", "1"], "word dropout: expected a probability from 0 to below 1, found 1.0"),
        (["--optimizer", "sdg"], "unknown optimizer 'sdg': expected one of sgd, momentum"),
        (["--schedule", "line"], "unknown schedule 'line': expected one of linear, cosine, constant"),
        (["--warm-up", "41"], "warm-up: expected from 0 to 40 epochs, found 41.0"),
        (["--seed", "-1"], "seed: expected a whole number from 0 to 2^32 - 1, found -1"),
        (["--format", "dense", "--rank", "3"], "--rank: expected a tensor model, found --format dense"),
        (["--format", "dense", "--flow", "dense"], "--flow: expected a tensor model, found --format dense"),
        (["--lr", "1e30"], "training diverged: expected a finite loss"),
        # The only loss is the one before the step.
        (["--lr", "1e38", "--limit", "1", "--epochs", "1"], "training diverged: expected finite parameters"),
    ],
)
def test_training_options_out_of_range(
    options: list[str], message: str, corpus_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = corpus_folder.parent / "out.json"
    common = [
        "train",
        "--preset",
        "tiny",
        "--blocks",
        "1",
        "--data",
        str(corpus_folder),
        "--json",
        str(target),
    ]
    assert main([*common, *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert not target.exists()


@pytest.mark.parametrize("name", ["a" * 300, "b" * 300 + "/c"])
def test_a_path_that_the_system_refuses(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / name)
    assert "File name too long" in failure(["info", "--preset", "tiny", "--json", path], capsys)
    assert "File name too long" in failure(["data", "show", "--data", path], capsys)


def break_folder(folder: Path) -> Path:
    return folder / "nowhere"


def break_missing(folder: Path) -> Path:
    (folder / "dev" / "seq.out").unlink()
    return folder


def break_ragged(folder: Path) -> Path:
    file = folder / "train" / "seq.out"
    file.write_text(file.read_text().replace("O B-city", "O", 1))
    return folder


def break_short(folder: Path) -> Path:
    file = folder / "test" / "label"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    return folder


def break_empty(folder: Path) -> Path:
    for name in ("seq.in", "seq.out"):
        file = folder / "train" / name
        file.write_text("\n".join(["", *file.read_text().splitlines()[1:]]) + "\n")
    return folder


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (break_folder, "nowhere: expected a folder"),
        (break_missing, "dev/seq.out: can't read it"),
        (break_ragged, "train/seq.out"),
        (break_short, "test"),
        (break_empty, "train/seq.in"),
    ],
)
def test_data_that_is_no_corpus(
    breaking: Callable[[Path], Path],
    message: str,
    corpus_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, target = breaking(corpus_folder), corpus_folder.parent / "out.json"
    assert message in failure(["train", "--data", str(folder), "--json", str(target)], capsys)
    assert not target.exists()


def test_a_json_path_without_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected an existing folder" in failure(
        ["info", "--json", str(tmp_path / "no" / "x.json")], capsys
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["info", "--rank", "many"], ["info", "--colour"], ["fly"], []])
def test_options_that_do_not_parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err


def test_an_unknown_format_in_a_process_of_its_own() -> None:
    """Also shows what the in-process tests can't: no traceback, and main's status as the process's."""
    program = "import sys; from ttjax.cli import main; sys.exit(main())"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, "info", "--format", "sparse", "--json", "-"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: format: expected 'tt' or 'dense', found 'sparse'\n"


def test_an_interruption_is_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert exit_status(interrupted) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", [[], ["info"], ["data"], ["train"], ["evaluate"], ["predict"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert "Example" in capsys.readouterr().out


def test_info_json_is_pure_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--preset", "enc2", "--format", "tt", "--json", "-"]) == 0
    captured = capsys.readouterr()
    info = json.loads(captured.out)
    assert (info["preset"], info["format"], info["parameters"], info["bytes"]) == (
        "enc2",
        "tt",
        301_055,
        1_204_220,
    )
    assert info["multiplications"]["bidirectional"] == 838_656
    assert info["stored"]["bidirectional"] == 26_016
    assert info["backward_multiplications"]["bidirectional"] == 1_677_312
    assert sum(info["parts"].values()) == info["parameters"]
    assert info["config"]["tt_ranks"] == [1, 12, 12, 12, 12, 12, 1]
    assert "22.51×" in captured.err and "22.67×" in captured.err and "1.49×" in captured.err
    assert "planned: y = (((x (G1 G2)) G3) G4) (G5 G6)" in captured.err


def test_info_follows_the_model_options(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "enc2", "--rank", "8", "--blocks", "3", "--flow", "dense", "--format", "dense"]
    assert main(["info", *options, "--json", "-"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["config"]["tt_ranks"] == [1, 8, 8, 8, 8, 8, 1]
    assert (info["format"], info["config"]["n_blocks"]) == ("dense", 3)
    assert list(info["multiplications"]) == ["dense", "dense_from_cores"]


def test_train_writes_every_result(corpus_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = corpus_folder.parent / "out.json"
    options = [
        "--preset",
        "tiny",
        "--data",
        str(corpus_folder),
        "--epochs",
        "2",
        "--limit",
        "5",
        "--blocks",
        "1",
    ]
    assert main(["train", *options, "--json", str(target)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("data: corpus (")
    assert "limit: training on the first 5 of 6 sentences" in text
    assert "SYNTHETIC" not in text
    results = json.loads(target.read_text())
    assert results["data"]["train_sentences"] == 5 and results["data"]["limited"] is True
    assert [row["epoch"] for row in results["epochs"]] == [1, 2]
    assert results["epochs"][1]["dev"]["sentences"] == 2
    assert 0 <= results["test"]["intent_accuracy"] <= 1
    assert results["versions"]["jax"] and results["config"]["n_slots"] == 3
    assert results["recipe"]["peak_learning_rate"] == results["peak_learning_rate"] == 7e-3
    best = max(results["epochs"], key=lambda row: row["dev"]["intent_accuracy"] + row["dev"]["slot_f1"])
    assert results["best"]["epoch"] == best["epoch"] and results["best"]["dev"] == best["dev"]
    assert results["best"]["test"]["sentences"] == results["test"]["sentences"] == 2


def test_train_on_synthetic_data_says_so_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--preset",
        "tiny",
        "--blocks",
        "1",
        "--format",
        "dense",
        "--data",
        "travel",
        "--epochs",
        "1",
        "--limit",
        "9",
    ]
    assert main(["train", *options, "--json", "-"]) == 0
    captured = capsys.readouterr()
    results = json.loads(captured.out)
    assert results["data"]["synthetic"] is True and results["format"] == "dense"
    assert captured.err.startswith("data: travel, SYNTHETIC")
    assert captured.err.count("SYNTHETIC") == 2


def test_the_line_of_a_model_names_what_differs_from_its_preset() -> None:
    def line(**changes: Any) -> str:
        args = ModelArgs("enc2", **changes)
        return args.line(args.config().replace(n_slots=7))

    assert line() == "model: enc2"
    assert line(rank=8, recompute=(0, 1)) == "model: enc2, tt_ranks 1 8 8 8 8 8 1, recompute 0 1"
    assert line(blocks=3, format="dense") == "model: enc2, format dense, n_blocks 3"
