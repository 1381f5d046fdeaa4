"""The driver layer of the simulated U50 under a memory checker: no leak, no wrong access in 10,000 runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fpga_bridge.kernel.build import find_compiler
from fpga_bridge.simulated_u50 import simulated_xrt

pytestmark = pytest.mark.xrt

VALGRIND = (
    "valgrind",
    "-q",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite",
    "--show-leak-kinds=definite",
    "--error-exitcode=9",
)


def test_10000_runs_leave_nothing_behind(pyxrt: Any, xclbin: Path, tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind (Debian: apt install valgrind)")
    source = Path(__file__).with_name("xrt_loop.cpp")
    program = tmp_path / "loop"
    flags = ("-std=c++17", "-g", "-I/usr/include/xrt", "-l:libxrt_coreutil.so.2")
    subprocess.run([find_compiler(), str(source), *flags, "-o", str(program)], check=True)
    environment = {**os.environ, "XILINX_XRT": str(simulated_xrt())}
    result = subprocess.run(
        [*VALGRIND, str(program), str(xclbin), "5000"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
