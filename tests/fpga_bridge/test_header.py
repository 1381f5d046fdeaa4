"""The generated header: it declares and binds exactly the memories that are counted."""

from __future__ import annotations

import re
from math import prod

import pytest
from hypothesis import given

from fpga_bridge.kernel.header import header
from fpga_bridge.memory.banks import SLOT_MEMORIES, bank_shapes
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import memory_configs
from ttjax import ModelConfig, preset
from ttjax.costs import model_costs

PRESETS = ("tiny", "enc2", "enc4", "enc6")


@given(memory_configs())
def test_the_total_is_what_the_header_declares(config: ModelConfig) -> None:
    memory = make_memory_map(config)
    text = header(make_manifest(config))
    declared = {name: int(size) for name, size in re.findall(r"static float (\w+)\[(\d+)\](?: = .*)?;", text)}
    assert 4 * sum(declared.values()) == memory.total_bytes
    shapes = bank_shapes(memory)
    # Whole words; of LUTRAM, words of twice the width.
    assert 0 <= sum(shape.bits for shape in shapes) - 8 * memory.total_bytes < 1024 * len(shapes)
    padding = sum(p.size - prod(p.shape) for p in memory.layout.placements)
    assert memory.parameter_bytes == model_costs(config).bytes + 4 * padding
    gradients = {name: size for name, size in declared.items() if name == "slot_weight_gradient"}
    assert bool(gradients) is not config.immediate
    assert memory.gradient_bytes == (0 if config.immediate else memory.parameter_bytes)


@pytest.mark.parametrize("name", PRESETS)
def test_the_pragmas_bind_every_array_to_the_memories_that_are_counted(name: str) -> None:
    memory = make_memory_map(preset(name))
    bind = re.search(r"#define TTFPGA_BIND_MEMORY (.*)", header(make_manifest(memory.config)))
    assert bind is not None
    slots = dict(re.findall(r"ARRAY_PARTITION variable=(\w+) block factor=(\d+)", bind[1]))
    in_registers = set(re.findall(r"ARRAY_PARTITION variable=(\w+) complete", bind[1]))
    lanes = {
        array: (divided, int(factor))
        for divided, array, factor in re.findall(r"ARRAY_(\w+) variable=(\w+) cyclic factor=(\d+)", bind[1])
    }
    bound = {
        n: rest for n, *rest in re.findall(r"BIND_STORAGE variable=(\w+) type=(\w+) impl=(\w+)", bind[1])
    }
    for shape in bank_shapes(memory):
        array = shape.name.partition("[")[0]
        if shape.kind == "registers":
            assert array in in_registers and array not in lanes.keys() | bound.keys(), array
            continue
        # In LUTRAM every lane has an address of its own, and one port that writes.
        separate = shape.kind == "lutram"
        assert separate is (shape.write_ports == 1), array
        assert lanes[array] == ("PARTITION" if separate else "RESHAPE", shape.width // 32), array
        assert bound[array] == ["RAM_S2P" if separate else "RAM_T2P", shape.kind.upper()], array
        assert int(slots.get(array, 1)) == (memory.slots[array] if array in SLOT_MEMORIES else 1)  # type: ignore[index]
