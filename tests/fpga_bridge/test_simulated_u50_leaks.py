"""10,000 runs on the simulated U50 under memory checkers: no leak, no wrong access, no growth."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.kernel.build import find_compiler
from fpga_bridge.simulated_u50 import simulated_xrt
from tests.fpga_bridge.samples import TINY, random_params, sentences

pytestmark = [pytest.mark.xrt, pytest.mark.usefixtures("two_sound_cards")]

RUNS = 10_000
ASAN = ("-g", "-fsanitize=address", "-fno-omit-frame-pointer")
VALGRIND = (
    "valgrind",
    "-q",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite",
    "--show-leak-kinds=definite",
    "--error-exitcode=9",
)
# KiB that a process may grow by: 116 bytes a run, a third of it is what comes and goes.
SLACK = 1024


def loop(
    folder: Path, xclbin: Path, *, checker: tuple[str, ...] = (), flags: tuple[str, ...] = (), leak: int = 0
) -> subprocess.CompletedProcess[str]:
    """The runs in a process of their own, program and driver layer built with the flags."""
    program = folder / "loop"
    source = Path(__file__).with_name("xrt_loop.cpp")
    building = ("-std=c++17", "-g", *flags, "-I/usr/include/xrt", "-l:libxrt_coreutil.so.2")
    subprocess.run([find_compiler(), str(source), *building, "-o", str(program)], check=True)
    # One arena: glibc reserves 64 MiB of addresses for each further one.
    environment = {**os.environ, "XILINX_XRT": str(simulated_xrt(flags)), "MALLOC_ARENA_MAX": "1"}
    command = [*checker, str(program), str(xclbin), str(RUNS), str(leak)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def growth(folder: Path, xclbin: Path, leak: int = 0) -> list[int]:
    """KiB of resident memory that the last nine tenths of the runs add, of address space the last tenth."""
    result = loop(folder, xclbin, leak=leak)
    assert result.returncode == 0, result.stderr
    return [int(kib) for kib in result.stdout.split()]


@pytest.mark.parametrize("checker", ["address sanitizer", "valgrind"])
def test_runs_leave_nothing_behind(checker: str, pyxrt: Any, xclbin: Path, tmp_path: Path) -> None:
    if checker == "valgrind" and shutil.which("valgrind") is None:
        pytest.skip("no valgrind (Debian: apt install valgrind)")
    options: dict[str, Any] = {"checker": VALGRIND} if checker == "valgrind" else {"flags": ASAN}
    result = loop(tmp_path, xclbin, **options)
    assert result.returncode == 0, result.stdout + result.stderr


def test_memory_stays_flat(pyxrt: Any, xclbin: Path, tmp_path: Path) -> None:
    assert max(growth(tmp_path, xclbin)) < SLACK


def test_a_leak_would_be_seen(pyxrt: Any, xclbin: Path, tmp_path: Path) -> None:
    """1,000 bytes a run; without it a checker that sees nothing would pass."""
    result = loop(tmp_path, xclbin, flags=ASAN, leak=1000)
    assert result.returncode != 0 and f"{1000 * RUNS} byte(s) leaked" in result.stderr
    resident, _ = growth(tmp_path, xclbin, leak=1000)
    assert resident > 8 * SLACK


def test_the_bridge_stays_flat(pyxrt: Any, xclbin: Path) -> None:
    """10,000 runs of the bridge, two in flight; the first thousand of them are its warming up."""
    with XrtDevice(TINY, "0", xclbin, examples_per_run=1) as device:
        device.load(random_params(TINY))
        batch, zeros = sentences(TINY, 1000), np.zeros(1000, np.float32)
        resident = []
        for _ in range(10):
            device.steps(batch, zeros)
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4)
    assert resident[-1] - resident[0] < SLACK
