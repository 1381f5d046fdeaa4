"""Banks mapped by the synthesis tool against the model; and, without the tool, the module and the parsing.

Tests marked ``memory`` need yosys; where it is missing they are skipped, by name.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fpga_bridge.budget import synthesis
from fpga_bridge.budget.synthesis import (
    check,
    compare,
    count_blocks,
    describe,
    parse_cells,
    synthesise,
    verilog,
)
from fpga_bridge.memory.banks import bank_shapes
from fpga_bridge.memory.blocks import BankShape, BlockCount, Kind, block_count
from fpga_bridge.memory.memory_map import make_memory_map
from ttjax import UserError, preset
from ttjax.output import Output

needs_yosys = pytest.mark.skipif(
    shutil.which("yosys") is None, reason="no yosys on the PATH: apt-get install yosys, or make test-memory"
)


def bank(width: int, depth: int, kind: Kind, write_ports: int = 1, read_ports: int = 1) -> BankShape:
    name = f"{kind}-{width}x{depth}-{write_ports}W{read_ports}R"
    return BankShape(name, width, depth, kind, write_ports, read_ports)


# The kernel's kinds of bank: cores of a position over all layers, merged halves, activations, lanes, scratch.
KERNEL = [
    bank(384, 1344, "bram"),
    bank(384, 768, "bram"),
    bank(384, 96, "bram"),
    bank(96, 168, "bram"),
    bank(512, 768, "bram"),
    bank(512, 1536, "bram"),
    bank(512, 3072, "bram"),
    bank(256, 3072, "bram"),
    bank(352, 768, "bram"),
    bank(480, 2400, "bram"),
    bank(576, 1024, "bram"),
    bank(576, 512, "bram"),
    bank(32, 64, "bram"),
    bank(32, 512, "bram"),
    bank(32, 1024, "bram"),
    bank(32, 4096, "bram"),
    bank(72, 512, "bram"),
    bank(72, 4096, "bram"),
    bank(576, 4096, "uram"),
    bank(384, 6144, "uram"),
    bank(480, 2400, "uram"),
    bank(65, 5000, "uram"),
    bank(32, 64, "lutram"),
    bank(384, 48, "lutram"),
    bank(96, 12, "registers"),
]
PORTS = [
    bank(384, 768, "bram", 1, 2),
    bank(512, 1536, "bram", 1, 3),
    bank(32, 1, "bram", 1, 2),
    bank(384, 1344, "bram", 2, 2),
    bank(72, 512, "bram", 2, 1),
    bank(384, 6144, "uram", 1, 2),
    bank(512, 1536, "uram", 2, 2),
    bank(480, 9000, "uram", 2, 2),
    bank(65, 5000, "uram", 2, 2),
    bank(1792, 2340, "bram"),
    bank(32, 64, "lutram", 1, 3),
]
# Where a bit more or less changes the aspect, and where a wider bank takes fewer blocks.
EDGES = [
    bank(37, 512, "bram"),
    bank(36, 513, "bram"),
    bank(207, 3378, "bram"),
    bank(208, 3378, "bram"),
    bank(73, 4097, "uram"),
]


def drawn(count: int) -> list[BankShape]:
    """Shapes that nobody chose: the rule was not made for the lists above."""
    draw = random.Random(4)
    kinds: list[Kind] = ["bram", "bram", "bram", "uram"]
    ports = ((1, 1), (2, 2))
    return [
        bank(draw.randint(1, 600), draw.randint(1, 6000), draw.choice(kinds), *ports[i % 2])
        for i in range(count)
    ]


CASES = [*KERNEL, *PORTS, *EDGES, *drawn(8)]


@pytest.mark.memory
@needs_yosys
@pytest.mark.parametrize("shape", CASES, ids=lambda shape: shape.name)
def test_the_tool_takes_as_many_blocks_as_the_model_says(shape: BankShape) -> None:
    (row,) = compare([shape])
    assert row.equal, row.reason
    assert row.tool == row.model == block_count(shape)


@pytest.mark.memory
@pytest.mark.timeout(1500)  # some seventy shapes, 3 to 5 seconds each on an idle core
@needs_yosys
def test_every_memory_of_the_papers_models_takes_the_blocks_the_model_says() -> None:
    """As the presets are, with gradients held, and with everything made again; each distinct shape once."""
    shapes: dict[BankShape, BankShape] = {}
    for name in ("enc2", "enc4", "enc6"):
        config = preset(name)
        again = config.replace(recompute=tuple(range(config.n_blocks)), rederive=True)
        for plan in (config, config.replace(immediate=False), again):
            for shape in bank_shapes(make_memory_map(plan)):
                shapes.setdefault(replace(shape, name="bank"), shape)
    rows = compare(list(shapes.values()))
    assert {row.shape.kind for row in rows} == {"bram", "uram", "lutram", "registers"}
    assert [f"{row.shape}: {row.reason}" for row in rows if not row.equal] == []


@pytest.mark.memory
@needs_yosys
def test_a_wrong_model_is_reported(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    shapes = [BankShape("right", 72, 512, "bram"), BankShape("wrong", 36, 512, "bram")]

    def wrong(shape: BankShape) -> BlockCount:
        return BlockCount(7) if shape.name == "wrong" else block_count(shape)

    rows = compare(shapes, model=wrong)
    assert [row.equal for row in rows] == [True, False]
    assert rows[0].reason == ""
    assert rows[1].reason.startswith("model: 3.5 BRAM36, yosys: 1 RAMB18E2")

    monkeypatch.setattr(synthesis, "compare", lambda shapes: rows)
    assert not check(shapes, Output(None))
    printed = capsys.readouterr().out
    assert "wrong: model: 3.5 BRAM36, yosys: 1 RAMB18E2" in printed
    assert "2 banks, 1 unequal; Yosys" in printed


@pytest.mark.memory
@needs_yosys
def test_equal_counts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert check([BankShape("cores", 72, 512, "bram"), BankShape("same", 72, 512, "bram")], Output(None))
    printed = capsys.readouterr().out
    assert "cores" in printed
    assert "2 banks, 0 unequal; Yosys" in printed


@pytest.mark.memory
@needs_yosys
def test_a_shape_is_mapped_once(monkeypatch, tmp_path: Path) -> None:
    """The second bank of a shape, and the same shape later, cost no run: yosys gets no time for one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shape, again = BankShape("first", 36, 512, "bram"), BankShape("second", 36, 512, "bram")
    assert synthesise(shape) == {"RAMB18E2": 1}
    (kept,) = (tmp_path / "ttjax" / "synthesis").iterdir()
    assert json.loads(kept.read_text())["tool"].startswith("Yosys")
    assert synthesise(again, timeout=0.001) == {"RAMB18E2": 1}


@pytest.mark.memory
@needs_yosys
def test_a_run_that_takes_too_long_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"^bank slow \(36 × 512, bram\): expected .* within 0\.05 s"):
        synthesise(BankShape("slow", 36, 512, "bram"), timeout=0.05)


@pytest.mark.memory
@needs_yosys
def test_what_the_tool_refuses_is_quoted(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthesis, "verilog", lambda shape: "module bank(input clk); nonsense endmodule")
    with pytest.raises(UserError, match=r"^bank odd \(8 × 8, bram\): yosys does not map it: .*ERROR"):
        synthesise(BankShape("odd", 8, 8, "bram"))


def test_without_the_tool_the_error_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"apt-get install yosys.*make test-memory"):
        compare([BankShape("any", 8, 8, "bram")])


@pytest.mark.parametrize(
    ("version", "note"),
    [
        ("Yosys 0.23 (git sha1 7ce5011c24b)", ""),
        ("Yosys 0.230", "; the model is of Yosys 0.23, this is Yosys 0.230"),
    ],
)
def test_an_unequal_row_names_a_tool_that_is_not_the_modelled_one(monkeypatch, version, note) -> None:
    monkeypatch.setattr(synthesis, "tool_version", lambda: version)
    monkeypatch.setattr(synthesis, "synthesise", lambda shape, timeout: {"RAMB36E2": 2})
    (row,) = compare([BankShape("any", 72, 512, "bram")])
    assert not row.equal
    assert row.reason == f"model: 1 BRAM36, yosys: 2 RAMB36E2{note}"


def test_the_module_of_a_bank() -> None:
    assert verilog(BankShape("any", 8, 5, "uram", read_ports=2)) == (
        "module bank(input clk, input we0, input [2:0] wa0, input [7:0] wd0,"
        " output reg [7:0] rd0, input [2:0] ra0, output reg [7:0] rd1, input [2:0] ra1);\n"
        '  (* ram_style = "ultra" *) reg [7:0] mem [0:4];\n'
        "  always @(posedge clk) if (we0) mem[wa0] <= wd0;\n"
        "  always @(posedge clk) rd0 <= mem[ra0];\n"
        "  always @(posedge clk) rd1 <= mem[ra1];\n"
        "endmodule\n"
    )


@pytest.mark.parametrize("kind", ["bram", "uram"])
def test_true_dual_ports_share_their_addresses(kind: Kind) -> None:
    text = verilog(BankShape("any", 8, 4, kind, write_ports=2, read_ports=1))
    assert "if (we0) mem[wa0] <= wd0; else rd0 <= we1 && wa1 == wa0 ? 8'bx : mem[wa0];" in text
    assert "if (we1) mem[wa1] <= wd1;\n" in text
    assert "ra0" not in text


@pytest.mark.parametrize(
    ("kind", "style"),
    [("bram", "block"), ("uram", "ultra"), ("lutram", "distributed"), ("registers", "registers")],
)
def test_the_kind_is_asked_for(kind: Kind, style: str) -> None:
    assert f'(* ram_style = "{style}" *)' in verilog(BankShape("any", 8, 1, kind))


def test_memory_cells_are_counted() -> None:
    cells = {"RAMB36E2": 3, "RAMB18E2": 1, "URAM288": 2, "RAM64M8": 20, "IBUF": 5, "$_DFF_P_": 7}
    parsed = parse_cells(json.dumps({"design": {"num_cells_by_type": cells}}))
    assert parsed == {"RAM64M8": 20, "RAMB18E2": 1, "RAMB36E2": 3, "URAM288": 2}
    assert count_blocks(parsed) == BlockCount(bram18=7, uram=2)


@pytest.mark.parametrize("stat", ["", "[]", "{}", '{"design": {}}'])
def test_other_output_is_not_taken_for_counts(stat: str) -> None:
    with pytest.raises(ValueError):
        parse_cells(stat)


def test_another_version_s_statistics_are_refused_by_its_name(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool = tmp_path / "yosys"
    tool.write_text("#!/bin/sh\n[ $1 = -V ] && echo Yosys 9.9 || echo '{\"modules\": {}}' > cells.json\n")
    tool.chmod(0o755)
    monkeypatch.setattr(synthesis, "find_tool", lambda: str(tool))
    message = r"^bank any \(8 × 8, bram\): expected statistics as Yosys 0\.23 writes them, .* by Yosys 9\.9 "
    with pytest.raises(UserError, match=message):
        synthesise(BankShape("any", 8, 8, "bram"))
    assert not (tmp_path / "ttjax").exists()  # nothing is kept


def test_counts_in_words() -> None:
    assert describe(BlockCount()) == "none"
    assert describe(BlockCount(33)) == "16.5 BRAM36"
    assert describe(BlockCount(2, 3)) == "1 BRAM36 + 3 URAM"
