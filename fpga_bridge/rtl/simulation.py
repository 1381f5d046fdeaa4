"""Runs the Verilog of bodies on vectors of operands, one a cycle, with an open simulator (yosys's CXXRTL)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from fpga_bridge.kernel.build import find_compiler, run_compiler
from fpga_bridge.rtl.bodies import CompiledBody
from fpga_bridge.rtl.netlist import Netlist
from ttjax import UserError

Words = Float[np.ndarray, "vectors floats"]
Integers = Int[np.ndarray, "vectors integers"]
TESTBENCH = "testbench.cpp"
# Without flattening: an operator is compiled once, not once for each of its instances.
SCRIPT = "read_verilog bodies.v; hierarchy -top bodies; proc; write_cxxrtl -g0 -noflatten bodies.cc"
FLAGS = ("-std=c++14", "-O1", "-w")


def headers() -> Path:
    """The folder of the simulator's headers.

    Raises:
        UserError: yosys or its headers are not installed.
    """
    missing = [name for name in ("yosys", "yosys-config") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"no simulator: expected yosys and yosys-config on the PATH, found no {' and no '.join(missing)};"
            " run `apt-get install yosys yosys-dev` (Debian, Ubuntu), or `make test-rtl`, which does"
        )
    tool = "yosys-config"
    said = subprocess.run([tool, "--datdir"], capture_output=True, text=True, check=True).stdout.strip()
    return Path(said, "include")


def design(bodies: Mapping[str, tuple[CompiledBody, Netlist]], operators: str) -> str:
    """Verilog of all bodies side by side: a module ``bodies`` of them, theirs, and the operators'."""
    return "\n".join([operators, *(netlist.text for _, netlist in bodies.values()), _top(bodies)])


def simulate(
    bodies: Mapping[str, tuple[CompiledBody, Netlist]],
    verilog: str,
    operands: Mapping[str, tuple[Words, Integers]],
) -> dict[str, Float[np.ndarray, "vectors results"]]:
    """Results of each body's Verilog for each vector, all bodies side by side in one simulation.

    ``verilog``: their ``design``. All bodies have as many vectors.

    Raises:
        UserError: there is no simulator or compiler, or it refuses the Verilog (its first words are quoted).
    """
    include, compiler = headers(), find_compiler()
    (vectors,) = {len(x) for x, _ in operands.values()}
    with tempfile.TemporaryDirectory(prefix="ttfpga-rtl-") as scratch:
        folder = Path(scratch)
        (folder / "bodies.v").write_text(verilog)
        (folder / "bodies.inc").write_text("".join(_ports(i, *of) for i, of in enumerate(bodies.values())))
        (folder / TESTBENCH).write_text(Path(__file__).with_name(TESTBENCH).read_text())
        with (folder / "operands").open("wb") as file:
            for x, n in (operands[name] for name in bodies):
                file.write(np.ascontiguousarray(x, np.float32).tobytes())
                file.write(np.ascontiguousarray(n, np.int32).tobytes())
        _run(["yosys", "-q", "-p", SCRIPT], folder, "yosys does not take the bodies' Verilog")
        build = [compiler, *FLAGS, f"-I{include}", TESTBENCH, "-o", "simulation"]
        _run(build, folder, f"{compiler} does not compile the simulation")
        _run(["./simulation", str(vectors), "operands", "results"], folder, "the simulation failed")
        words = np.fromfile(folder / "results", np.float32)
    sizes = [vectors * body.results for body, _ in bodies.values()]
    parts = np.split(words, np.cumsum(sizes)[:-1])
    return {name: part.reshape(vectors, -1) for name, part in zip(bodies, parts, strict=True)}


def _run(command: Sequence[str], folder: Path, failure: str) -> None:
    done = run_compiler(command, folder)
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        raise UserError(f"{failure}: {(said or ['no message'])[0]}")


def _top(bodies: Mapping[str, tuple[CompiledBody, Netlist]]) -> str:
    """A module of all bodies, each with ports of its own: body 0 has x0, n0 and y0."""
    ports, instances = ["input wire clk"], []
    for i, (name, (body, _)) in enumerate(bodies.items()):
        words = {"x": body.floats, "n": body.integers, "y": body.results}
        used = {port: count for port, count in words.items() if count}
        for port, count in used.items():
            ports.append(f"{'output' if port == 'y' else 'input'} wire [{32 * count - 1}:0] {port}{i}")
        connected = ", ".join(f".{port}({port}{i})" for port in used)
        instances.append(f"  {name} the_{name}(.clk(clk), {connected});")
    return "\n".join(["module bodies(", "  " + ",\n  ".join(ports), ");", *instances, "endmodule", ""])


def _ports(i: int, body: CompiledBody, netlist: Netlist) -> str:
    """The testbench's line of body i."""
    words = {"x": body.floats, "n": body.integers, "y": body.results}
    ports = [f"top.p_{port}{i}.data" if count else "nullptr" for port, count in words.items()]
    return f"{{{', '.join([*ports, *map(str, words.values()), str(netlist.cycles)])}, {{}}, {{}}}},\n"
