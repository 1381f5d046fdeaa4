"""A picture that can't be drawn is refused before the work that it would show, and nothing is written.

The work itself is replaced by a failure: reaching it is the defect. What is drawn says what it is of.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from fpga_bridge.cli import main

# A command that draws, with its option for where to, and the first of the work it does.
COMMANDS = {
    "cycles": ("--out", "", "load_corpus"),
    "compare": ("--picture", "drift.png", "load_corpus"),
    "memory": ("--picture", "dies.png", "make_memory_map"),
    "train": ("--out", "", "load_corpus"),
}


def reached(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("the work was begun")


@pytest.mark.parametrize("missing", ["folder", "matplotlib"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_picture_that_cannot_be_drawn_is_refused_first(
    command: str,
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    option, name, work = COMMANDS[command]
    monkeypatch.setattr(f"fpga_bridge.cli.{command}.{work}", reached)
    if missing == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib", None)
    folder = tmp_path / "absent" if missing == "folder" else tmp_path
    asked = ["--preset", "tiny", option, str(folder / name)]
    assert main([command, *asked]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {option}: expected ") and said.count("\n") == 1
    assert ("make it first" if missing == "folder" else "pip install 'ttjax-fpga[plot]'") in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [name for name, (option, *_) in COMMANDS.items() if option == "--picture"]
)
def test_a_picture_s_path_that_cannot_be_one_is_refused_first(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    monkeypatch.setattr(f"fpga_bridge.cli.{command}.{COMMANDS[command][2]}", reached)
    (tmp_path / "folder.png").mkdir()
    for name, expected in (
        ("x.xyz", "a file ending in one of"),
        ("x", "a file ending in one of"),
        ("folder.png", "a file to write or replace"),
    ):
        assert main([command, "--preset", "tiny", "--picture", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: --picture: expected {expected}") and said.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["folder.png"]


def test_the_picture_of_drift_names_its_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    monkeypatch.chdir(tmp_path)
    command = ["compare", "--preset", "tiny", "--data", "travel", "--steps", "1", "--devices", "jax-cpu"]
    assert main([*command, "--picture", "drift.svg"]) == 0
    assert "tiny on travel (synthetic) (SYNTHETIC data), 1 steps" in Path("drift.svg").read_text()
