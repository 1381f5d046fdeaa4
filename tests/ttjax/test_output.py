"""Where results go: whole files only, links in a circle, a full disk, a reader that has gone."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ttjax.cli import main
from ttjax.data.corpus import write_files
from ttjax.errors import UserError
from ttjax.output import replace_file
from ttjax.picture import save, subplots

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_and_then_its_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the folder's, a loss of power could undo the renaming."""
    done: list[str] = []
    replace = os.replace

    def fsync(file: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")

    def renamed(part: Path, target: Path) -> None:
        done.append("renamed")
        replace(part, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
    replace_file(tmp_path / "a", b"content")
    assert done == ["file", "renamed", "folder"]


def test_a_picture_that_cannot_be_written_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "drift.svg"
    figure, axes = subplots(figsize=(2, 1))
    save(figure, path)
    earlier = path.read_bytes()
    assert b"<svg" in earlier

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    axes.plot([1, 2])
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"can't write .*drift.svg: No space left on device; choose another"):
        save(figure, path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == earlier


@pytest.mark.parametrize("name", ["drift", "drift.xyz"])
def test_a_picture_of_no_known_format_is_refused(name: str, tmp_path: Path) -> None:
    figure, _ = subplots(figsize=(2, 1))
    with pytest.raises(UserError, match=r"can't write .* is not supported"):
        save(figure, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ["info", "--preset", "tiny", "--json", "loop"],
        ["data", "show", "--data", "loop"],
        ["train", "--preset", "tiny", "--checkpoint", "loop"],
        ["train", "--preset", "tiny", "--checkpoint", "loop", "--json", "results.json"],
    ],
)
def test_a_link_in_a_circle_is_said_in_one_line(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert main(options) == 2
    said = capsys.readouterr().err
    assert (
        said
        == "error: loop: expected a path, found symbolic links that lead in a circle: remove one of them\n"
    )
    with pytest.raises(UserError, match="in a circle"):
        write_files({}, Path("loop"))


SAYS = """import sys
from ttjax.cli import exit_status
from ttjax.output import Output
sys.exit(exit_status(lambda: [Output(None).say("x" * 999) for _ in range(999)] and 0))"""
# More than one write of an output's buffer, some of which is left when the first fails.
PRINTS = """import sys
from ttjax.cli import exit_status
sys.exit(exit_status(lambda: print("x" * 100_000) or sys.stdout.flush() or 0))"""


def printing_to(stdout: int, program: str) -> tuple[int, str]:
    """Status and standard error of a program that prints to ``stdout``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment)
    return done.returncode, done.stderr


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        assert printing_to(full.fileno(), PRINTS) == (
            2,
            "error: can't write the output (No space left on device): make room for it\n",
        )


@pytest.mark.parametrize("program", [PRINTS, SAYS], ids=["printed", "said"])
def test_a_reader_that_has_gone_is_status_141(program: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        assert printing_to(write, program) == (141, "")
    finally:
        os.close(write)
