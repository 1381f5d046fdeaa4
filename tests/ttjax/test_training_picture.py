"""The picture that `ttjax train --picture` draws: what its lines show, and what is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttjax import training_picture
from ttjax.cli import main

pytest.importorskip("matplotlib")

RESULTS: dict[str, Any] = {
    "preset": "enc2",
    "format": "tt",
    "data": {"name": "travel (synthetic)"},
    "epochs": [
        {"epoch": n, "loss": loss, "dev": {"intent_accuracy": intent, "slot_f1": f1}}
        for n, loss, intent, f1 in ((1, 3.0, 0.5, 0.25), (2, 2.0, 0.75, 0.5))
    ],
    "test": {"intent_accuracy": 0.625, "slot_f1": 0.375},
    "best": {"epoch": 1},
}


def test_each_line_shows_what_its_label_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(training_picture, "save", lambda figure, *_: kept.append(figure))
    training_picture.draw_training(RESULTS, tmp_path / "run.png")
    [figure] = kept
    of_loss, of_scores = figure.axes
    assert figure.get_suptitle() == "enc2, tt, on travel (synthetic)"
    [loss] = of_loss.lines
    assert (list(loss.get_xdata()), list(loss.get_ydata())) == ([1, 2], [3.0, 2.0])
    lines = {line.get_label(): [float(y) for y in line.get_ydata()] for line in of_scores.lines}
    assert lines.pop("best on dev: epoch 1") == [0, 1]
    assert lines == {"intent accuracy (test: 62.50)": [50, 75], "slot F1 (test: 37.50)": [25, 50]}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("run.txt", "--picture: expected a file ending in one of"),
        ("no/run.png", "--picture: expected an existing"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_training(
    path: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "run.st"
    options = ["--preset", "tiny", "--data", "travel", "--checkpoint", str(saved)]
    assert main(["train", *options, "--picture", str(tmp_path / path)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.out == "" and not saved.exists()


def test_the_picture_does_not_take_the_checkpoint_s_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "run.png")
    assert main(["train", "--preset", "tiny", "--checkpoint", path, "--picture", path]) == 2
    assert "--picture: expected another file than --checkpoint" in capsys.readouterr().err


def test_the_picture_does_not_take_the_figures_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "both.svg")
    options = ["--preset", "tiny", "--blocks", "1", "--data", "travel", "--epochs", "1", "--limit", "4"]
    assert main(["train", *options, "--json", path, "--picture", path]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: --picture: expected another file than --json, found {path} for both\n"
    assert captured.out == "" and list(tmp_path.iterdir()) == []
