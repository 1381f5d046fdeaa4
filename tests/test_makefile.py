"""The Makefile's environment is the checkout's own: another checkout's, behind a link, is left alone.

An environment here is a folder of scripts that say what they are called with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the Makefile reads of a checkout."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def make_environment(folder: Path) -> Path:
    """An environment into which nothing has been installed yet."""
    for name in ("python", "fpga-bridge", "pytest"):
        script = folder / "bin" / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        script.chmod(0o755)
    return folder


def run_make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` with nothing of an outer one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-s", *arguments]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["cosim", "faults", "experiments", "lint", "unit", "test-xrt", "test-rtl"])
@pytest.mark.parametrize("installed", [False, True])
def test_an_environment_behind_a_link_is_refused_and_untouched(
    target: str, installed: bool, checkout: Path, tmp_path: Path
) -> None:
    """Where it is as new as this checkout it would not be installed into: the other's code would be run."""
    other = make_environment(tmp_path / "other" / ".venv")
    if installed:
        for name in (".installed", ".installed-dev", ".installed-xrt", ".installed-rtl"):
            (other / name).write_text("")
    before = sorted(other.rglob("*"))
    (checkout / ".venv").symlink_to(other)
    refused = run_make(checkout, target)
    assert (refused.returncode, refused.stdout) == (2, "")
    said = [line for line in refused.stderr.splitlines() if "***" not in line]
    assert said == [
        f"make: .venv must be this checkout's own, and is a link to {other}; remove the link (rm .venv)"
        " and run make again, which makes an environment here"
    ]
    assert sorted(other.rglob("*")) == before


def test_a_link_to_nowhere_is_refused_too(checkout: Path) -> None:
    (checkout / ".venv").symlink_to("no/such/folder")
    refused = run_make(checkout, "cosim", "PYTHON=false")
    assert refused.returncode == 2 and "is a link to " in refused.stderr
    assert "no/such/folder; remove the link" in refused.stderr and "Python" not in refused.stderr


def test_an_environment_of_its_own_is_installed_into_once(checkout: Path) -> None:
    environment = make_environment(checkout / ".venv")
    first, second = (run_make(checkout, "cosim", "ARGS=--rank 8") for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    installing, running = first.stdout.splitlines()
    assert installing.startswith("python -m pip install ")
    assert running.startswith("fpga-bridge cosim ") and running.endswith(" --rank 8")
    assert second.stdout.splitlines() == [running]
    assert (environment / ".installed").is_file()
