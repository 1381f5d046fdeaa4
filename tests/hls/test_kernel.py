"""The whole kernel under the compiler's strictest eye: no warning, and no finding of the sanitizers.

kernel_sanitized.cpp runs every command on buffers of exact length; meanwhile memory_guard.hpp watches that
units which work at once never use one memory.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fpga_bridge.kernel.build import find_compiler, kernel_sources, write_sources
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.instructions import NONE, Op
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.schedule import UNITS
from tests.fpga_bridge.samples import OTHER_CONFIGS
from ttjax import ModelConfig, preset

PROGRAM = Path(__file__).with_name("kernel_sanitized.cpp")
GUARD = "-DTTFPGA_CHECK_MEMORIES"
SANITIZE = [
    *("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-D_GLIBCXX_ASSERTIONS"),
    GUARD,
]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
# HLS has pragmas and uses labels as names of loops.
NOT_OURS = ["-Wno-unknown-pragmas", "-Wno-unused-label"]
CONFIGS: Mapping[str, ModelConfig] = {"tiny": preset("tiny"), **OTHER_CONFIGS}


def compiled(folder: Path, config: ModelConfig, flags: list[str], sources: Mapping[str, str]) -> Path:
    """The sanitized program of a kernel."""
    write_sources({HEADER_NAME: header(make_manifest(config)), **sources}, folder)
    program = folder / "kernel"
    command = [find_compiler(), "-std=c++14", "-DTTFPGA_TAPS=1", "-ffp-contract=off", f"-I{folder}", *flags]
    subprocess.run([*command, str(PROGRAM), "-o", str(program)], check=True)
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["tiny", "head_width_1_and_a_single_intent"])
def test_sanitizers_find_nothing_in_any_command(name: str, tmp_path: Path) -> None:
    done = run(compiled(tmp_path, CONFIGS[name], SANITIZE, kernel_sources()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "clean\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enc2", *OTHER_CONFIGS])
def test_sanitizers_find_nothing_in_other_configs(name: str, tmp_path: Path) -> None:
    config = OTHER_CONFIGS.get(name) or preset(name)
    done = run(compiled(tmp_path, config, SANITIZE, kernel_sources()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "clean\n", "")


@pytest.mark.parametrize(
    ("file", "old", "new", "finding"),
    [
        ("arrays.hpp", "lane < count ? from[at + lane]", "true ? from[at + lane]", "global-buffer-overflow"),
        (
            "step.hpp",
            "results[at + c] = intent_logits[c];",
            "results[at + c + 400] = 0.0f;",
            "heap-buffer-overflow",
        ),
        (
            "step.hpp",
            "const int digit = token % kVocabModes[k]",
            "const int digit = token % kVocabModes[k] + 999999",
            "reads 4 elements from index",
        ),
        ("engine_state.hpp", "kTurns = 2 * kSumDistance;", "kTurns = kSumDistance - 1;", "out of bounds"),
    ],
    ids=["lane too many", "result written past its end", "token digit out of range", "sum too few"],
)
def test_sanitizers_stop_a_kernel_that_leaves_its_arrays(
    file: str, old: str, new: str, finding: str, tmp_path: Path
) -> None:
    sources = kernel_sources()
    assert old in sources[file]
    broken = {**sources, file: sources[file].replace(old, new)}
    done = run(compiled(tmp_path, CONFIGS["tiny"], SANITIZE, broken))
    assert done.returncode != 0 and "clean" not in done.stdout
    assert finding in done.stderr, done.stderr[-2000:]


@pytest.mark.parametrize(("op", "when"), [(Op.NORM, "while"), (Op.SOFTMAX, "after"), (Op.UPDATE, "while")])
def test_a_wait_left_out_is_stopped_where_units_meet_in_a_memory(op: Op, when: str, tmp_path: Path) -> None:
    """Only of the first instruction of its kind, and only for the engine."""
    manifest = make_manifest(CONFIGS["tiny"])
    program = make_program(manifest)
    number = next(
        i
        for i, job in enumerate(program.instructions)
        if job.op == op and job.waits[UNITS.index("engine")] != NONE
    )
    jobs = list(program.instructions)
    jobs[number] = replace(jobs[number], waits=(NONE, *jobs[number].waits[1:]))
    text = header(manifest, program=replace(program, instructions=tuple(jobs)))
    done = run(compiled(tmp_path, CONFIGS["tiny"], ["-O1", GUARD], {**kernel_sources(), HEADER_NAME: text}))
    assert done.returncode != 0 and "clean" not in done.stdout
    assert f"instruction {number} " in done.stderr and when in done.stderr


@pytest.mark.parametrize("taps", [0, 1])
@pytest.mark.parametrize("name", ["tiny", "two_cores_a_side", "rank_1_everywhere_and_one_word"])
def test_the_kernel_compiles_without_a_warning(name: str, taps: int, tmp_path: Path) -> None:
    write_sources({**kernel_sources(), HEADER_NAME: header(make_manifest(CONFIGS[name]))}, tmp_path)
    flags = ["-std=c++14", "-O1", f"-DTTFPGA_TAPS={taps}", *WARNINGS, *NOT_OURS]
    command = [find_compiler(), *flags, "-I.", "-c", "-o", "kernel.o", "kernel.cpp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
