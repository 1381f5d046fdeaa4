"""The waits of a program: units that work at once never meet in a memory, and end in the same bits."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.instructions import NONE
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.schedule import UNITS, finish, memories, unit_of
from tests.fpga_bridge.samples import OTHER_CONFIGS, RATE, TINY, one_of, random_params, sentences
from ttjax import ModelConfig, flatten

CONFIGS = {
    "tiny": TINY,
    "rederived": TINY.replace(rederive=True, recompute=(0,)),
    "held": TINY.replace(immediate=False),
    **OTHER_CONFIGS,
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_units_at_once_never_touch_one_memory(config: ModelConfig, seed: int) -> None:
    program, memory = make_program(make_manifest(config)).instructions, make_memory_map(config)
    timed = [unit_of(job.op) != NONE for job in program]
    cycles = np.random.default_rng(seed).integers(1, 1000, len(program)) * timed
    begin, end = finish(program, cycles.tolist())
    users: dict[tuple[str, int], list[int]] = {}
    for i, job in enumerate(program):
        if timed[i]:
            for place in set(memories(job, memory)):
                users.setdefault(place, []).append(i)
    for place, instructions in users.items():
        for before, after in itertools.pairwise(instructions):
            assert end[before] <= begin[after], (place, program[before].stage, program[after].stage)
    for unit in range(len(UNITS)):
        of_unit = [i for i, job in enumerate(program) if unit_of(job.op) == unit]
        assert all(end[a] <= begin[b] for a, b in itertools.pairwise(of_unit))


def test_units_do_overlap() -> None:
    program = make_program(make_manifest(TINY)).instructions
    cycles = [100 * (unit_of(job.op) != NONE) for job in program]
    _, end = finish(program, cycles)
    assert end.max() < 0.9 * sum(cycles)


def updated(device: CsimDevice, *, in_order: bool) -> dict[str, np.ndarray]:
    """Parameters after two steps; a trace makes the kernel run its program in order."""
    device.load(random_params(TINY, seed=3))
    for seed in (4, 5):
        device.step(one_of(sentences(TINY, 1, seed)), RATE, trace=in_order)
    return {name: np.asarray(leaf) for name, leaf in flatten(device.read()).items()}


def differ(device: CsimDevice) -> bool:
    """Whether units that work at once end in other bits than the program's order."""
    in_order, at_once = updated(device, in_order=True), updated(device, in_order=False)
    return any(not np.array_equal(in_order[name], at_once[name]) for name in in_order)


def test_working_at_once_ends_in_the_same_bits() -> None:
    assert not differ(CsimDevice(TINY))


def test_without_waits_it_does_not(tmp_path: Path) -> None:
    manifest = make_manifest(TINY)
    program = make_program(manifest)
    free = tuple(replace(job, waits=(NONE,) * len(UNITS)) for job in program.instructions)
    text = header(manifest, program=replace(program, instructions=free))
    kernel = build_kernel(manifest, {**kernel_sources(), HEADER_NAME: text})
    assert differ(CsimDevice(TINY, kernel))
