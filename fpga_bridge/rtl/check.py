"""Rung 5: the Verilog of every body against C simulation, on vectors that reach into the corners of float32.

What is compared are bits, but for NaN: which NaN an operation makes is nowhere said.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from fpga_bridge.budget.synthesis import tool_version
from fpga_bridge.kernel.operators import OPERATORS
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.manifest import Manifest
from fpga_bridge.rtl.bodies import BODIES, CompiledBody, compile_bodies, find_clang
from fpga_bridge.rtl.netlist import Netlist, make_netlist
from fpga_bridge.rtl.operators import operator_modules, xls_version
from fpga_bridge.rtl.simulation import design, simulate
from ttjax import UserError
from ttjax.output import write_whole

SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal
# Zeros, ones, what overflows and underflows, infinities, NaN, and bounds within the kernel's own functions.
SPECIAL = np.array(
    [
        *(0.0, -0.0, 1.0, -1.0, 0.5625, 16.0, -16.0, 88.72283, -87.33, 2.0**-126, -(2.0**-126)),
        *(3.4028235e38, -3.4028235e38, np.inf, -np.inf, np.nan, 1.0 + 2.0**-23, 1.0 - 2.0**-24),
    ],
    np.float32,
)


@dataclass(frozen=True)
class Difference:
    """A result that isn't csim's: which vector's, its number, its bits on either side."""

    vector: int
    result: int
    expected: int
    found: int


@dataclass(frozen=True)
class BodyReport:
    """A body: its operators, those on its longest path and that path's cycles; vectors, words that differ.

    ``first``: the first difference, None if there is none.
    """

    name: str
    operators: dict[str, int]
    path: dict[str, int]
    cycles: int
    results: int
    vectors: int
    differing: int
    first: Difference | None


def check_bodies(
    manifest: Manifest,
    accelerator: Accelerator,
    *,
    names: Sequence[str] = tuple(BODIES),
    vectors: int = 2000,
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    keep: Path | None = None,
) -> list[BodyReport]:
    """Compiles bodies to Verilog, simulates it, and holds each result against C simulation's.

    ``sources`` replaces the kernel's own where the Verilog is made of them (a planted fault).
    ``keep``: a file for the Verilog.

    Raises:
        UserError: no such body, no vectors, or a tool is missing or refuses what it is given.
    """
    unknown = [name for name in names if name not in BODIES]
    if unknown or not names:
        raise UserError(f"bodies: expected some of {', '.join(BODIES)}, found {', '.join(unknown) or 'none'}")
    if vectors < 1:
        raise UserError(f"vectors: expected at least 1, found {vectors}")
    cycles = {kind: operator.cycles[accelerator.clock_class] for kind, operator in OPERATORS.items()}
    modules = operator_modules({kind: cycles[kind] for kind in ("add", "mul", "div", "sqrt")})
    compiled = compile_bodies(manifest, accelerator, tuple(dict.fromkeys(names)), sources)
    rng = np.random.default_rng(seed)
    operands = {name: random_operands(body, vectors, rng) for name, (body, _) in compiled.items()}
    netlists = {
        name: (body, make_netlist(graph, cycles, body.floats, body.integers))
        for name, (body, graph) in compiled.items()
    }
    verilog = design(netlists, modules)
    if keep is not None:
        write_whole(keep, verilog.encode(), "Verilog")
    found = simulate(netlists, verilog, operands)
    return [
        _report(body, graph.count(), netlists[name][1], body(*operands[name]), found[name])
        for name, (body, graph) in compiled.items()
    ]


def tool_versions() -> dict[str, str]:
    """The tools of this flow, and what they call themselves.

    Raises:
        UserError: one is missing.
    """
    said = subprocess.run([find_clang(), "--version"], capture_output=True, text=True, check=True).stdout
    return {"clang": said.splitlines()[0], "XLS": xls_version(), "simulator": tool_version()}


def random_operands(
    body: CompiledBody, vectors: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "vectors floats"], Int[np.ndarray, "vectors integers"]]:
    """Floats (vectors, floats) and integers (vectors, integers) for a body.

    A quarter of the floats are any bits, an eighth special values, an eighth close to the one before them or
    to its negative, where sums cancel; the rest are normally distributed, at a scale that varies by vector.
    Every other vector has finite numbers of moderate size alone: elsewhere most sums end in NaN. None is
    denormal: what a body is given is a parameter or comes from an operator, which makes none. (Where one
    would pass a body untouched, a compiler may multiply it by 1, and that flushes it.)
    """
    shape = (vectors, body.floats)
    scale = 2.0 ** rng.uniform(-12, 6, (vectors, 1))
    x = (rng.standard_normal(shape) * scale).astype(np.float32)
    kind = rng.integers(0, 8, shape)
    near = np.roll(x, 1).view(np.uint32) + rng.integers(-2, 3, shape).astype(np.uint32)
    near ^= rng.integers(0, 2, shape).astype(np.uint32) << np.uint32(31)
    x = np.where(kind == 0, near.view(np.float32), x)
    x = np.where(kind == 1, rng.choice(SPECIAL, shape), x)
    anything = rng.integers(0, 1 << 32, shape, dtype=np.uint32).view(np.float32)
    moderate = np.arange(vectors)[:, None] % 2 == 0
    x = np.where((kind < 4) & (kind > 1) & ~moderate, anything, x)
    x = np.where(moderate & ~(np.abs(x) < 1e6), np.float32(0.75), x)
    x = np.where(np.abs(x) < SMALLEST_NORMAL, np.copysign(np.float32(0), x), x)
    draws = {
        "flag": lambda: rng.integers(0, 2, vectors),
        "setting": lambda: -rng.integers(0, 2, vectors),
        "lanes": lambda: rng.integers(-1, 34, vectors),
    }
    columns = [draws[kind]() for kind in BODIES[body.name]]
    n = np.stack(columns, axis=1) if columns else np.zeros((vectors, 0))
    return x, n.astype(np.int32)


def _report(
    body: CompiledBody,
    operators: dict[str, int],
    netlist: Netlist,
    expected: Float[np.ndarray, "vectors results"],
    found: Float[np.ndarray, "vectors results"],
) -> BodyReport:
    differs = _differing(expected, found)
    first = None
    if differs.any():
        vector, result = (int(i) for i in np.argwhere(differs)[0])
        words = (int(side.view(np.uint32)[vector, result]) for side in (expected, found))
        first = Difference(vector, result, *words)
    return BodyReport(
        body.name,
        operators,
        path=netlist.path,
        cycles=netlist.cycles,
        results=body.results,
        vectors=len(expected),
        differing=int(differs.sum()),
        first=first,
    )


def _differing(
    expected: Float[np.ndarray, "vectors results"], found: Float[np.ndarray, "vectors results"]
) -> Bool[np.ndarray, "vectors results"]:
    """Where the bits differ and not both are NaN."""
    same = expected.view(np.uint32) == found.view(np.uint32)
    return ~(same | (np.isnan(expected) & np.isnan(found)))
