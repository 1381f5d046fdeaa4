"""The units' own memories are as large as the C++ that declares them, and the program as long as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fpga_bridge.budget.buffers import buffer_shapes, kernel_shapes, program_shape, training_bytes
from fpga_bridge.kernel.build import find_compiler, kernel_folder
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BlockCount, total_blocks
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import OTHER_CONFIGS, TINY
from ttjax import preset

# Buffers of a struct's members, in C++: what they are called here, and the member.
MEMBERS = {
    "engine_tiles": "EngineState::tile",
    "engine_turns": "EngineState::slots",
    "engine_columns": "EngineState::column_sums",
    "engine_parts": "EngineState::part_sums",
    "engine_sums": "EngineState::sums",
    "sentence": "Sentence",
}


@pytest.mark.parametrize("name", ["tiny", "enc2", *OTHER_CONFIGS])
def test_buffers_and_program_are_as_large_as_the_kernel_declares_them(name: str, tmp_path: Path) -> None:
    config = OTHER_CONFIGS.get(name) or preset(name)
    (tmp_path / HEADER_NAME).write_text(header(make_manifest(config)))
    sizes = dict.fromkeys(MEMBERS.values(), 0)
    for shape in buffer_shapes(config):
        buffer = shape.name.partition("[")[0]
        if buffer in MEMBERS:
            sizes[MEMBERS[buffer]] += shape.bits // 8
    sizes["kProgram"] = program_shape(config).bits // 8
    checks = [f'static_assert(sizeof({what}) == {size}, "{what}");' for what, size in sizes.items()]
    source = tmp_path / "check.cpp"
    source.write_text('#include "sequencer.hpp"\nusing namespace ttfpga;\n' + "\n".join(checks) + "\n")
    # As the hardware has them: in simulation a tile's columns are whole vectors.
    flags = ["-std=c++14", "-w", "-fsyntax-only", "-D__SYNTHESIS__", f"-I{tmp_path}", f"-I{kernel_folder()}"]
    done = subprocess.run([find_compiler(), *flags, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_buffers_take_no_memory_blocks_and_the_program_is_no_data() -> None:
    memory = make_memory_map(TINY)
    buffers, program = buffer_shapes(TINY), program_shape(TINY)
    assert total_blocks(buffers) == BlockCount()
    assert kernel_shapes(memory) == [*bank_shapes(memory), *buffers, program]
    assert 8 * (training_bytes(memory) - memory.total_bytes) == sum(shape.bits for shape in buffers)


def test_the_buffers_are_the_same_however_much_is_made_again() -> None:
    """So one program tells the accumulators' rows for all plans."""
    for options in ({"recompute": (1,)}, {"recompute": (0, 1), "rederive": True}, {"immediate": False}):
        config = TINY.replace(**options)
        manifest = make_manifest(config)
        assert buffer_shapes(config) == buffer_shapes(TINY)
        depth = next(shape.depth for shape in buffer_shapes(config) if shape.name == "engine_sums")
        assert f"constexpr int kSumDepth = {depth};" in header(manifest)
