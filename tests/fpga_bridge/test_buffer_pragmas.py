"""The units' memories and the program are asked for as the budget counts them: their pragmas, word for word.

What Vitis makes of these isn't seen here; what they mean is read in AMD's UG1399.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest

from fpga_bridge.budget.buffers import INSTRUCTION_WORDS, buffer_shapes, program_shape
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.kernel.lint import load_libclang, synthesis_flags
from fpga_bridge.kernel.lint_tree import hls_pragmas
from fpga_bridge.memory.banks import WORD_BITS
from fpga_bridge.memory.blocks import BankShape
from fpga_bridge.program.manifest import make_manifest
from ttjax import ModelConfig, preset

HLS = Path(__file__).parents[2] / "hls"

# Where the pragmas stand, and what they call the arrays of a buffer. One sentence at a time is no unit's own.
BUFFERS = {
    "engine_tiles": ("engine.hpp", ["c.tile"]),
    "engine_turns": ("engine.hpp", ["c.slots"]),
    "engine_columns": ("engine.hpp", ["c.column_sums"]),
    "engine_parts": ("engine.hpp", ["c.part_sums"]),
    "engine_sums": ("engine.hpp", ["c.sums"]),
    "norm_rows": ("norm.hpp", ["minus_mean", "minus_slope", "inverse"]),
    "norm_gradients": ("norm.hpp", ["d_scale", "d_shift"]),
    "norm_sums": ("norm.hpp", ["partial", "slope_partial"]),
    "nonlinear_rows": ("nonlinear.hpp", ["highest", "sums"]),
    "update_digits": ("update.hpp", ["values"]),
    "program": ("sequencer.hpp", ["kProgram"]),
}
ELSEWHERE = {"sentence"}
STRUCTS = {"engine.hpp": "Engine", "norm.hpp": "Norm", "nonlinear.hpp": "Nonlinear", "update.hpp": "Update"}


def pragmas_of(text: str) -> dict[str, list[dict[str, str]]]:
    """The options of each variable's pragmas, "" without a value; the pragma's name is under "is"."""
    found: dict[str, list[dict[str, str]]] = {}
    for pragma in hls_pragmas(text.encode()):
        name, *_ = words = re.sub(r"\s*=\s*", "=", pragma.decode()).split()
        options = {key: value for key, _, value in (word.partition("=") for word in words[1:])}
        found.setdefault(options.pop("variable", ""), []).append({"is": name, **options})
    return found


def memories(extents: list[int], pragmas: list[dict[str, str]]) -> tuple[int, int]:
    """Of an array: the memories side by side that its pragmas make, and the words of each."""
    split = {
        int(pragma.get("dim", 1))
        for pragma in pragmas
        if pragma["is"] == "ARRAY_PARTITION" and "complete" in pragma
    }
    lanes = [n for dim, n in enumerate(extents, 1) if 0 in split or dim in split]
    return prod(lanes), prod(extents) // prod(lanes)


def unbound(
    shapes: list[BankShape], sources: Mapping[str, str], declared: Mapping[str, list[int]]
) -> Iterator[str]:
    """The buffers whose arrays aren't partitioned and bound as counted."""
    for buffer, (file, variables) in BUFFERS.items():
        counted = [shape for shape in shapes if shape.name.partition("[")[0] == buffer]
        pragmas = pragmas_of(sources[file])
        made = [memories(declared[name], pragmas.get(name, [])) for name in variables]
        bits = WORD_BITS * (INSTRUCTION_WORDS if buffer == "program" else 1)
        if sum(n for n, _ in made) * bits != sum(shape.width for shape in counted):
            yield f"{buffer}: width"
        if {words for _, words in made} != {shape.depth for shape in counted}:
            yield f"{buffer}: words"
        kind = counted[0].kind
        bound = {
            "is": "BIND_STORAGE",
            "type": "rom_1p" if buffer == "program" else "ram_s2p",
            "impl": kind.upper(),
        }
        for name in variables:
            if kind != "registers" and bound not in pragmas.get(name, []):
                yield f"{buffer}: {name} is not bound to {kind}"
        if buffer == "program" and {"is": "AGGREGATE"} not in pragmas.get("kProgram", []):
            yield "program: not one word an instruction"


def parsed(config: ModelConfig, folder: Path) -> tuple[list[BankShape], dict[str, list[int]], Any]:
    """What is counted of a model, its kernel's arrays' extents, and the type of the program's words."""
    (folder / HEADER_NAME).write_text(header(make_manifest(config)))
    clang = load_libclang()
    unit = clang.Index.create().parse(str(HLS / "sequencer.hpp"), args=synthesis_flags([folder, HLS]))
    assert [str(found) for found in unit.diagnostics if found.severity >= found.Error] == []
    (space,) = (
        child
        for child in unit.cursor.get_children()
        if child.kind.name == "NAMESPACE" and child.location.file.name.endswith("sequencer.hpp")
    )
    (program,) = (child for child in space.get_children() if child.spelling == "kProgram")
    units = {child.type.spelling.rpartition("::")[2]: child.type for child in space.get_children()}
    declared = {"kProgram": [program.type.get_array_size()]}
    for file, names in BUFFERS.values():
        for name in names:
            if name not in declared:
                declared[name] = extents_of(units[STRUCTS[file]], name)
    return [*buffer_shapes(config), program_shape(config)], declared, program.type.element_type


def extents_of(struct: Any, path: str) -> list[int]:
    """The extents of a struct's member, or of a member's."""
    for name in path.split("."):
        (struct,) = (field.type for field in struct.get_canonical().get_fields() if field.spelling == name)
    extents = []
    while struct.kind.name == "CONSTANTARRAY":
        extents.append(struct.get_array_size())
        struct = struct.element_type
    return extents


def sources() -> dict[str, str]:
    return {file: (HLS / file).read_text() for file, _ in BUFFERS.values()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[BankShape], dict[str, list[int]], Any]:
    return parsed(preset("tiny"), tmp_path_factory.mktemp("tiny"))


def test_every_buffer_is_accounted_for(tiny: tuple[list[BankShape], dict[str, list[int]], Any]) -> None:
    assert {shape.name.partition("[")[0] for shape in tiny[0]} == {*BUFFERS, *ELSEWHERE}


@pytest.mark.parametrize("name", ["tiny", "enc2"])
def test_pragmas_ask_for_the_memories_that_are_counted(name: str, tmp_path: Path) -> None:
    shapes, declared, _ = parsed(preset(name), tmp_path)
    assert [*unbound(shapes, sources(), declared)] == []


def test_each_pragma_left_out_is_missed(tiny: tuple[list[BankShape], dict[str, list[int]], Any]) -> None:
    shapes, declared, _ = tiny
    missed = 0
    for file, text in sources().items():
        names = [re.escape(name) for where, names in BUFFERS.values() if where == file for name in names]
        pattern = rf"^#pragma HLS (?!DEPENDENCE)\w+ variable = (?:{'|'.join(names)})(?: .*)?\n"
        for pragma in re.findall(pattern, text, re.MULTILINE):
            assert [*unbound(shapes, {**sources(), file: text.replace(pragma, "", 1)}, declared)], pragma
            missed += 1
    assert missed > len(BUFFERS)


def test_a_word_of_the_program_holds_no_structs(
    tiny: tuple[list[BankShape], dict[str, list[int]], Any],
) -> None:
    """AMD's UG1399 on AGGREGATE: not supported of structs that contain structs."""
    fields = [field.type.get_canonical() for field in tiny[2].get_canonical().get_fields()]
    assert fields
    for field in fields:
        while field.kind.name == "CONSTANTARRAY":
            field = field.element_type
        assert field.kind.name in {"INT", "FLOAT"}
