"""Ctrl-C on a kernel that never ends: the command stops, in status 130, and says where the kernel was.

Each in a process of its own, which is killed where the signal does not end it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.program.instructions import Op
from fpga_bridge.program.make_program import make_program
from tests.fpga_bridge.test_outside_arrays import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
TRIP = "    if (wait == 0) subtract(sentence);\n"
NEXT = "    if (++wait < job.interval) return;\n"
# A step that does not end. What the shell makes of the signal is set aside: it may ignore it.
STEP = """
import signal, sys, threading
from pathlib import Path
import numpy as np
from fpga_bridge.devices.csim import CsimDevice
from tests.fpga_bridge.samples import RATE, TINY, one_of, random_params, sentences
from ttjax.cli import exit_status

device, sentence = CsimDevice(TINY, Path(sys.argv[1])), one_of(sentences(TINY, 1))
device.load(random_params(TINY))
signal.signal(signal.SIGINT, signal.default_int_handler)

def step():
    print("begins", flush=True)
    device.step(sentence, RATE)

def command():
    {}
sys.exit(exit_status(command, own_process=True))
"""


@pytest.fixture(scope="module")
def endless() -> Path:
    """The update unit stays busy after its first trip: the loop goes round and round."""
    return planted(NEXT, "    wait = 1;\n    return;\n")


def planted(old: str, new: str) -> Path:
    sources = kernel_sources()
    assert sources["update.hpp"].count(old) == 1
    return build_kernel(MANIFEST, {**sources, "update.hpp": sources["update.hpp"].replace(old, new)})


def after_signals(
    kernel: Path, command: str, n: int = 1, patience: float = 10
) -> tuple[int | None, str, str]:
    """Status (None: it had to be killed) and both outputs, after n SIGINTs half a second apart."""
    process = subprocess.Popen(
        [sys.executable, "-c", STEP.format(command), str(kernel)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    # Milliseconds pass until the kernel is where it stays.
    time.sleep(1)
    for _ in range(n):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    killed = False
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        killed = True
    output, errors = process.communicate()
    return None if killed else process.returncode, output, errors


def test_an_interruption_ends_a_kernel_that_never_does_and_names_the_instruction(endless: Path) -> None:
    """The device lives on (inference has no update), and Python has its handler back."""
    command = """try:
        step()
    except KeyboardInterrupt:
        print("finite", np.isfinite(device.infer(sentence).slots).all())
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as second:
            print("again", second.args)
        raise"""
    status, output, errors = after_signals(endless, command)
    assert (status, output) == (130, "finite True\nagain ()\n")
    found = re.fullmatch(
        r"interrupted: the kernel was at instruction (\d+) \(UPDATE of (backward \w+)\)\n", errors
    )
    assert found, errors
    job = make_program(MANIFEST).instructions[int(found[1])]
    assert (job.op, " ".join(job.stage)) == (Op.UPDATE, found[2])


def test_a_second_interruption_ends_a_process_whose_kernel_hangs_within_a_trip() -> None:
    hanging = planted(TRIP, f"    for (volatile bool always = true; always;) continue;\n{TRIP}")
    assert after_signals(hanging, "step()", n=2) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(
    "command",
    [
        "import ctypes; ctypes.CDLL(None).signal(2, ctypes.c_void_p(1)); step()",
        "signal.signal(signal.SIGINT, lambda *_: None); step()",
    ],
    ids=["the signal is ignored, unknown to Python", "a handler that goes on"],
)
def test_who_does_not_want_to_be_interrupted_is_not(endless: Path, command: str) -> None:
    assert after_signals(endless, command, n=2, patience=1)[0] is None


def test_a_command_in_another_thread_leaves_the_signal_to_the_main_one(endless: Path) -> None:
    """As ever: the main thread is interrupted, and the process ends without the other's command."""
    command = "thread = threading.Thread(target=step, daemon=True); thread.start(); thread.join()"
    status, _, errors = after_signals(endless, command)
    assert (status, errors) == (130, "interrupted\n")
