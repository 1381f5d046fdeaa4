"""The bodies of the units' pipelines (``hls/rtl/bodies.cpp``): compiled for the host, and read as graphs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from fpga_bridge.kernel.build import (
    FLAGS,
    find_compiler,
    first_errors,
    kernel_sources,
    run_compiler,
    write_sources,
)
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.rtl.dataflow import Graph, read_graph
from ttjax import UserError

SOURCE = "rtl/bodies.cpp"

Integer = Literal["flag", "setting", "lanes"]
_FLAG: tuple[Integer, ...] = ("flag",)
_SETTING: tuple[Integer, ...] = ("setting",)
_LANES: tuple[Integer, ...] = ("lanes",)
# What a body's integers are, in their order: flags (0 or 1), settings (no bit or all), numbers of lanes.
BODIES: dict[str, tuple[Integer, ...]] = {
    "engine_to_wide": (),
    "engine_to_narrow": (),
    "engine_to_tile": _FLAG,
    "norm_lanes": 5 * _FLAG + _LANES,
    "norm_add": _FLAG,
    "norm_join": _LANES,
    "norm_inverse": (),
    "nonlinear_lanes": 11 * _SETTING + 2 * _LANES,
    "nonlinear_sum": (),
    "nonlinear_highest": _LANES,
    "nonlinear_tanh": (),
    "nonlinear_log": (),
    "update_lanes": (),
}

# Calls and loops vanish, and nothing that would change a bit is done to numbers that are not denormal.
CLANG_FLAGS = (
    *("-x", "c++", "-std=c++14", "-O2", "-D__SYNTHESIS__", "-ffp-contract=off", "-fno-math-errno"),
    "-fdenormal-fp-math=preserve-sign",
    *("-fno-vectorize", "-fno-slp-vectorize", "-Wno-unknown-pragmas", "-Wno-unused-label"),
    *("-mllvm", "-inline-threshold=1000000", "-mllvm", "-unroll-threshold=100000000"),
    *("-mllvm", "-unroll-full-max-count=100000", "-mllvm", "-unroll-max-iteration-count-to-analyze=100000"),
    *("-S", "-emit-llvm"),
)


@dataclass(frozen=True)
class CompiledBody:
    """A body of the library: how many floats, integers and results it has, and what it computes."""

    name: str
    floats: int
    integers: int
    results: int
    library: ctypes.CDLL

    def __call__(
        self, x: Float[np.ndarray, "vectors floats"], n: Int[np.ndarray, "vectors integers"]
    ) -> Float[np.ndarray, "vectors results"]:
        """Results (vectors, results) in the hardware's arithmetic mode, which flushes denormals."""
        x, n = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(n, np.int32)
        assert x.shape == (len(x), self.floats) and n.shape == (len(x), self.integers)
        y = np.empty((len(x), self.results), np.float32)
        words = (ctypes.c_int32 * 3).in_dll(self.library, f"words_{self.name}")
        body = ctypes.cast(getattr(self.library, f"body_{self.name}"), ctypes.c_void_p)
        run = self.library.run_body
        run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, *(ctypes.c_void_p,) * 3]
        run.restype = None
        run(body, words, len(x), x.ctypes.data, n.ctypes.data, y.ctypes.data)
        return y


def find_clang() -> str:
    """Path of clang, which gives its intermediate code away.

    Raises:
        UserError: there is none.
    """
    tool = shutil.which("clang") or shutil.which("clang-14")
    if tool is None:
        raise UserError(
            "no clang, which reads the bodies' C++: expected it on the PATH, found none; run"
            " `apt-get install clang` (Debian, Ubuntu), or `make test-rtl`, which does"
        )
    return tool


def compile_bodies(
    manifest: Manifest,
    accelerator: Accelerator,
    names: Sequence[str] = tuple(BODIES),
    sources: Mapping[str, str] | None = None,
) -> dict[str, tuple[CompiledBody, Graph]]:
    """Bodies of an accelerator's kernel, by name: as C simulation runs them, and as synthesis sees them.

    ``sources`` replaces the kernel's own (a planted fault) where the graphs are read.

    Raises:
        UserError: a compiler is missing or refuses the sources (its first errors are quoted), or a body is
            not straight-line code.
    """
    clang, compiler, own = find_clang(), find_compiler(), kernel_sources()
    generated = header(manifest, accelerator)
    with tempfile.TemporaryDirectory(prefix="ttfpga-rtl-") as scratch:
        folder = Path(scratch)
        write_sources({HEADER_NAME: generated, **own}, folder / "csim")
        write_sources({HEADER_NAME: generated, **(sources or own)}, folder / "synthesis")
        _compile([compiler, *FLAGS, "-Wno-unknown-pragmas", SOURCE, "-o", "bodies.so"], folder / "csim")
        _compile([clang, *CLANG_FLAGS, SOURCE, "-o", "bodies.ll"], folder / "synthesis")
        library = ctypes.CDLL(str(folder / "csim" / "bodies.so"))
        code = (folder / "synthesis" / "bodies.ll").read_text()
    compiled = {}
    for name in names:
        floats, integers, results = (ctypes.c_int32 * 3).in_dll(library, f"words_{name}")
        body = CompiledBody(name, floats, integers, results, library)
        if body.integers != len(BODIES[name]):
            raise AssertionError(
                f"{SOURCE} gives {name} {body.integers} integers, BODIES {len(BODIES[name])}"
            )
        compiled[name] = body, read_graph(code, name, body.results)
    return compiled


def _compile(command: Sequence[str], folder: Path) -> None:
    done: subprocess.CompletedProcess[str] = run_compiler([*command, "-I."], folder)
    if done.returncode:
        raise UserError(f"{command[0]} does not compile the bodies: {first_errors(done.stderr)}")
