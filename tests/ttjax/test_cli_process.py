"""A command as a process of its own: how it ends, and what a narrow output makes of its signs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# An interpreter that crashes while it ends, as XLA can make it.
INTERRUPTED = """
import atexit, os
from ttjax.cli import exit_status
atexit.register(os.abort)
def command():
    print("so far")
    raise KeyboardInterrupt
exit_status(command, own_process=True)
"""
INFO = "import sys; from ttjax.cli import main; sys.exit(main())"


def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        check=False,
    )


def test_an_interruption_ends_the_process_before_anything_can_crash() -> None:
    done = run(INTERRUPTED)
    assert (done.returncode, done.stdout, done.stderr) == (130, "so far\n", "interrupted\n")


def test_an_output_that_cannot_show_a_sign_shows_another() -> None:
    done = run(INFO, "info", "--preset", "tiny", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "? fewer multiplications" in done.stdout
