"""A result that would be written over an input, or over another result, is refused before the work.

The work itself is replaced by a failure: reaching it is the defect.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

from fpga_bridge.cli import main
from fpga_bridge.kernel.header import HEADER_NAME

# A command's module, and the first of the work it does.
WORK = {
    "build": "kernel.build_kernel",
    "compare": "compare.load_corpus",
    "cosim": "cosim.load_corpus",
    "cycles": "cycles.load_corpus",
    "memory": "memory.make_memory_map",
    "train": "train.load_corpus",
}


def reached(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("the work was begun")


@pytest.mark.parametrize(
    ("command", "options", "names"),
    [
        ("cosim", ["--replay", "x.npz", "--json", "./x.npz"], ("--json", "--replay")),
        ("cosim", ["--kernel", "x.so", "--json", "x.so"], ("--json", "--kernel")),
        ("cosim", ["--device", "xrt:0", "--xclbin", "x", "--json", "x"], ("--json", "--xclbin")),
        ("cosim", ["--fault", "wrong_label", "--keep", "x", "--json", "x"], ("--json", "--keep")),
        ("cosim", ["--kernel", "x.so", "--keep", "x.so"], ("--keep", "--kernel")),
        ("cosim", ["--device", "xrt:0", "--xclbin", "x", "--keep", "x"], ("--keep", "--xclbin")),
        ("compare", ["--json", "x.svg", "--picture", "x.svg"], ("--picture", "--json")),
        ("compare", ["--devices", "xrt:0", "--xclbin", "x", "--json", "x"], ("--json", "--xclbin")),
        ("memory", ["--json", "x.svg", "--picture", "x.svg"], ("--picture", "--json")),
        ("cycles", ["--json", "roofline.png", "--out", "."], ("--out", "--json")),
        ("build", ["--json", "kernel.so", "--to", "."], ("--to", "--json")),
        ("build", ["--json", HEADER_NAME, "--to", "."], ("--to", "--json")),
        ("train", ["--device", "xrt:0", "--xclbin", "x", "--json", "x"], ("--json", "--xclbin")),
        ("train", ["--json", "kernel_training.json", "--out", "."], ("--out", "--json")),
    ],
)
def test_one_file_for_two_things_is_refused(
    command: str,
    options: list[str],
    names: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(f"fpga_bridge.cli.{WORK[command]}", reached)
    if not (last := Path(options[-1])).is_dir():
        last.write_bytes(b"what was there")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main([command, "--preset", "tiny", *options]) == 2
    said = capsys.readouterr().err
    result, other = names
    assert said.startswith(f"error: {result}: expected another file than {other}, found "), said
    assert said.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
