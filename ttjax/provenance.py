"""Where a figure comes from: versions, device, processor and commit, for the JSON beside every result.

A commit is named where the code lies in a git checkout; an installed package has none.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
# Without these there is no training.
PACKAGES = ("jax", "jaxlib", "optax", "numpy")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """What a result depends on besides the code: versions, device and the precision of products."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "machine": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "matmul_precision": str(jax.config.values["jax_default_matmul_precision"]),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """The processor's name, and how many cores the machine has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or "unknown"
    return f"{name}, {os.cpu_count()} cores"


@cache
def code_version() -> str:
    """The commit that this process's code is of: the one that was checked out when it first asked.

    To be asked for before the work: what is committed meanwhile isn't what this process runs.
    """
    return commit_of(ROOT)


def commit_of(root: Path = ROOT) -> str:
    """The commit that is checked out now, with "-dirty" if files differ from it (results of studies aside).

    "unknown" where there is no checkout of this project: not that of a project it is installed in.
    """
    if not (root / ".git").exists():
        return "unknown"

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--", ".", ":(exclude)experiments/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head
