"""The list of experiments: complete, in words that the modules themselves have, and able to run them."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import experiments, main

ROOT = Path(__file__).resolve().parents[2]


def test_every_module_with_a_main_is_listed() -> None:
    """Told apart in another way than the list does it: by how each of them begins when it is run."""
    with_main = {
        path.stem
        for path in (ROOT / "experiments").glob("*.py")
        if path.stem != "__main__" and '__name__ == "__main__"' in path.read_text()
    }
    assert {"accuracy", "ablation", "compress_mlp", "memory_ratios"} <= with_main
    listed = experiments()
    assert {name for name in listed if "." not in name} == with_main
    assert "benchmarks.step" in listed
    for experiment in listed.values():
        assert 20 < len(experiment.what) < 120, experiment
        assert experiment.minutes is None or experiment.minutes > 0, experiment
    assert all(listed[name].minutes for name in ("accuracy", "ablation", "benchmarks.step"))


@pytest.mark.parametrize("module", sorted(experiment.module for experiment in experiments().values()))
def test_its_help_has_an_example(module: str) -> None:
    """Where ``--help`` takes its text from: the description of the class of its options."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8"))
    texts = [ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.ClassDef)]
    assert any(f"Examples: python -m {module}" in text for text in texts)


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_list_says_what_how_long_and_the_command(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m experiments [NAME [OPTIONS]]")
    for name, experiment in experiments().items():
        assert experiment.what in shown and f"make experiments RUN={name}\n" in shown
    assert "2 cores" in shown and f"{experiments()['accuracy'].minutes:g} minutes" in shown


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accurate"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "unknown experiment 'accurate': expected one of ablation, acc" in error


def test_one_is_run_with_its_options(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments", "ablation", "--variants", "x", "--out", str(tmp_path)]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("error: --variants: expected some of")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_passes_the_name_and_the_options_on() -> None:
    """And its RUN, as a variable of the command line, replaces none that other targets need."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    make = ["make", "-n", "experiments", "RUN=accuracy", "ARGS=--blocks 2"]
    shown = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True, env=environment).stdout
    assert shown.rstrip().endswith("-m experiments accuracy --blocks 2")
    assert "touch accuracy" not in shown
