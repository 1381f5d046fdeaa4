"""What stands beside a figure: the commit of this project's checkout and of no other, versions, processor.

git runs on folders of the tests' own.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from ttjax import provenance
from ttjax.provenance import code_version, commit_of, processor, versions


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    results = tmp_path / "experiments" / "results"
    results.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    assert commit_of(tmp_path) == "unknown"  # nothing is committed
    (results / "accuracy.json").write_text("[]")
    study = tmp_path / "experiments" / "accuracy.py"
    study.touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert commit_of(tmp_path) == head
    (results / "accuracy.json").write_text("[1]")
    assert commit_of(tmp_path) == head
    study.write_text("pass")
    assert commit_of(tmp_path) == head + "-dirty"
    study.write_text("")
    assert commit_of(tmp_path) == head
    (tmp_path / "new.py").touch()
    assert commit_of(tmp_path) == head + "-dirty"


def test_a_checkout_around_the_installed_package_is_not_ours(tmp_path: Path) -> None:
    installed = tmp_path / ".venv" / "site-packages"
    installed.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    (tmp_path / "theirs.py").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "theirs")
    assert commit_of(installed) == "unknown"


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Something is committed between any two looks at the checkout."""
    found = itertools.count()
    monkeypatch.setattr(provenance, "commit_of", lambda _: f"commit {next(found)}")
    code_version.cache_clear()
    yield
    code_version.cache_clear()


@pytest.mark.usefixtures("commits")
def test_what_is_committed_while_a_process_works_is_not_what_it_runs() -> None:
    assert [code_version() for _ in range(3)] == ["commit 0"] * 3


def test_versions_and_processor_are_named() -> None:
    found = versions(("numpy", "no-such-package"))
    assert found["numpy"] == metadata.version("numpy")
    assert found["no-such-package"] == "not installed"
    assert processor().endswith(" cores")
