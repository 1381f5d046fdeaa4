"""The command `cycles`: its tables, JSON, picture and count, and each wrong option as one line of error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from fpga_bridge.cli import main
from fpga_bridge.cycles import report
from fpga_bridge.cycles.model import make_step_model
from fpga_bridge.cycles.power import watts
from fpga_bridge.cycles.trips import SentenceShape
from fpga_bridge.program.accelerator import CLASSES, DEFAULT
from fpga_bridge.program.schedule import UNITS
from tests.fpga_bridge.samples import TINY
from ttjax import PRESETS
from ttjax.data import Sentence, write_corpus
from ttjax.data.corpus import Corpus

COMMAND = ["cycles", "--preset", "tiny", "--data", "corpus"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a corpus of three sentences in it: two of 3 tokens with [CLS], one of 5."""
    words = (("to", "rome"), ("to", "oslo"), ("to", "lima", "and", "riga"))
    some = tuple(Sentence(w, ("O",) * len(w), f"intent{len(w)}") for w in words)
    write_corpus(Corpus("small", False, some, some[:1], some[1:]), tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def figures(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*COMMAND, *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_figures_are_the_model_s(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(["--length", "7", "--clock", "250"], capsys)
    config = TINY.replace(**{name: found["config"][name] for name in ("n_intents", "n_slots")})
    model = make_step_model(config)
    for c in CLASSES:
        cycles = model.step(SentenceShape(7), c)
        assert found["cycles"][c] == cycles
        assert found["seconds"]["step"][c] == pytest.approx(cycles / 250e6)
        mean = found["cycles_mean_corpus"][c]
        short, long = (model.step(SentenceShape(n), c) for n in (3, 5))
        assert mean == pytest.approx((2 * short + long) / 3)
        assert found["seconds"]["epoch"][c] == pytest.approx(3 * mean / 250e6)
        assert found["utilisation"][c] == pytest.approx(model.utilisation(7, cycles))
        assert found["dsp"][c] == sum(model.dsp(c).values())
        assert found["dsp"][c] == sum(found["dsp_by_unit"][unit][c] for unit in UNITS)
        stages, units = found["by_stage"], found["by_unit"]
        busy = sum(units[unit][c] for unit in UNITS)
        assert sum(stage[c] for stage in stages) == busy > cycles
        assert 0 < found["at_once"][c] < 1
        assert found["seconds"]["step_mean_corpus"][c] == pytest.approx(mean / 250e6)
        products = (2 * model.products(3) + model.products(5)) / 3
        assert found["utilisation_mean_corpus"][c] == pytest.approx(products / (DEFAULT.macs * mean))
        busy_part = {unit: units[unit][c] / cycles for unit in UNITS}
        power = watts(model.dsp(c), model.luts(), model.blocks, busy_part, 250)
        assert found["watts"][c] == pytest.approx(power) and power > 15
        assert found["joules_step"][c] == pytest.approx(found["watts"][c] * cycles / 250e6)
        assert found["joules_step_mean_corpus"][c] == pytest.approx(found["watts"][c] * mean / 250e6)
    assert (found["clock"], found["length"], found["sentences"]) == (250, 7, 3)
    assert found["luts"] == sum(model.luts().values()) == sum(found["luts_by_unit"].values())
    assert found["products"] == sum(kind["products"] for kind in found["by_kind"]) == model.products(7)
    assert sum(kind["cycles"] for kind in found["by_kind"]) == found["by_unit"]["engine"]["typical"]
    assert found["data"]["name"] == "corpus" and found["counted_differences"] is None
    named = {(stage["phase"], stage["name"]) for stage in found["by_stage"]}
    assert {("forward", "embed"), ("backward", "block0.attention"), ("forward", "loss")} <= named


def test_sizes_of_the_accelerator_are_options(capsys: pytest.CaptureFixture[str]) -> None:
    default = figures([], capsys)
    smaller = figures(["--tile-rows", "4", "--tile-lanes", "8", "--sum-distance", "9"], capsys)
    assert smaller["accelerator"]["tile_lanes"] == 8
    assert smaller["dsp"]["typical"] < default["dsp"]["typical"]
    assert (default["interval"]["fast"], smaller["interval"]["fast"]) == (2, 1)


def test_tables_say_what_they_are_and_the_roofline_is_drawn(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, "--out", ".", "--json", "figures.json"]) == 0
    out = capsys.readouterr().out
    for text in (
        "block1.attention",
        "backward",
        "nonlinear",
        "two or more at once",
        "estimate",
        "a model, not a measurement",
    ):
        assert text in out
    assert (folder / "roofline.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "figures.json").read_text())["preset"] == "tiny"


def rows(table: Table) -> dict[str, list[str]]:
    """Cells by what stands in the first column, digits in one piece."""
    first, *columns = ([str(cell).replace(" ", "") for cell in column.cells] for column in table.columns)
    cells = ([cell.replace(",", "") for cell in row] for row in zip(*columns, strict=True))
    return dict(zip(first, cells, strict=True))


def test_each_cell_is_the_figure_that_its_row_and_column_name() -> None:
    # So many sentences that an epoch of them takes seconds.
    found = report.figures(make_step_model(TINY), 7, {3: 200_000, 5: 100_000}, 250.0)
    seconds, joules = found["seconds"], found["joules_step_mean_corpus"]
    step = rows(report.step_table(found))
    for name, text in {
        "cycles, 7 tokens": lambda c: f"{found['cycles'][c]}",
        "cycles, corpus mean": lambda c: f"{found['cycles_mean_corpus'][c]:.0f}",
        "engine's utilisation, 7 tokens": lambda c: f"{100 * found['utilisation'][c]:.1f}%",
        "engine's utilisation, corpus mean": lambda c: f"{100 * found['utilisation_mean_corpus'][c]:.1f}%",
        "ms a step, 7 tokens": lambda c: f"{1e3 * seconds['step'][c]:.3f}",
        "ms a step, corpus mean": lambda c: f"{1e3 * seconds['step_mean_corpus'][c]:.3f}",
        "s an epoch of 300000 sentences": lambda c: f"{seconds['epoch'][c]:.2f}",
        "W, estimate": lambda c: f"{found['watts'][c]:.1f}",
        "mJ a step, corpus mean, estimate at the power of 7 tokens": lambda c: f"{1e3 * joules[c]:.1f}",
    }.items():
        assert step[name.replace(" ", "")] == [text(c) for c in CLASSES], name
    units = rows(report.unit_table(found))
    for unit in UNITS:
        by_class = [str(found["by_unit"][unit][c]) for c in CLASSES]
        dsp = "/".join(str(found["dsp_by_unit"][unit][c]) for c in CLASSES)
        assert units[unit] == [*by_class, dsp, str(found["luts_by_unit"][unit])]
    dsp = "/".join(str(found["dsp"][c]) for c in CLASSES)
    assert units["thestep"] == [*(str(found["cycles"][c]) for c in CLASSES), dsp, str(found["luts"])]
    whole, stages = found["cycles"]["typical"], rows(report.stage_table(found))
    of_stage = {s["phase"]: s["typical"] for s in found["by_stage"] if s["name"] == "block1.q"}
    part = 100 * sum(of_stage.values()) / whole
    assert stages["block1.q"] == [str(of_stage["forward"]), str(of_stage["backward"]), f"{part:.1f}%"]
    assert stages["all"][-1] == f"{100 * sum(s['typical'] for s in found['by_stage']) / whole:.1f}%"


def test_figures_are_whole_on_a_terminal_of_80_columns() -> None:
    """Of cycles by the million, beside the longest of names: the names are folded."""
    found = report.figures(make_step_model(PRESETS["enc6"].replace(seq_len=128)), 128, {128: 1}, 200.0)
    console = Console(width=80)
    for table in (report.stage_table(found), report.unit_table(found), report.step_table(found)):
        with console.capture() as capture:
            console.print(table)
        text = capture.get()
        assert "…" not in text
        for column in table.columns[1:]:
            assert all(str(cell) in text for cell in column.cells)


def test_remarks_say_where_the_loop_waits_and_what_does_not_fit() -> None:
    fine = {"interval": dict.fromkeys(CLASSES, 1), "dsp_fits": dict.fromkeys(CLASSES, True)}
    always = report.remarks(fine)
    assert len(always) == 2
    found = {"interval": {**fine["interval"], "fast": 2}, "dsp_fits": {**fine["dsp_fits"], "typical": False}}
    fits, waits = report.remarks(found)[2:]
    assert fits.startswith("typical: the units' DSP blocks do not fit")
    assert waits.startswith("fast: an addition takes longer") and waits.endswith("interval 2")


def test_counting_on_the_kernel_agrees_or_gives_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*COMMAND, "--count", "--length", "5"]) == 0
    assert "counted by the kernel: the same trips and cycles" in capsys.readouterr().out
    monkeypatch.setattr("fpga_bridge.cli.cycles.differences", lambda *_: ["instruction 3 differs"])
    assert main([*COMMAND, "--count"]) == 1
    assert "counted by the kernel: instruction 3 differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clock", "99"], "--clock: expected 100 to 300 MHz, found 99"),
        (["--clock", "nan"], "--clock: expected 100 to 300 MHz, found nan"),
        (["--length", "1"], "--length: expected 2 to 10 tokens, found 1"),
        (["--length", "11"], "--length: expected 2 to 10 tokens, found 11"),
        (["--out", "absent"], "--out: expected an existing folder, found none at absent"),
        (["--tile-lanes", "1"], "tile_lanes: expected at least 2, as many as the fewest tile_rows, found 1"),
        (["--tile-rows", "5"], "tile_rows: expected an even number from 2 to 16, found 5"),
        (["--norm-lanes", "12"], "norm_lanes: expected a divisor of 32"),
        (
            ["--nonlinear-lanes", "1"],
            "nonlinear_lanes: expected at least 2, one for each of the two losses that are added",
        ),
        (["--sum-distance", "0"], "sum_distance: expected at least 1, found 0"),
        (["--preset", "enc3"], "unknown preset 'enc3'"),
        (["--format", "dense"], "expected format 'tt', found 'dense'"),
        (["--data", "absent"], "absent: expected a folder"),
        (["--json", "absent/out.json"], "expected an existing folder"),
    ],
)
def test_wrong_options_are_refused_in_a_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and message in said
