"""The sweep over accelerators: what its front keeps, and that a small one runs and writes what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from experiments import cycle_sweep
from experiments.cycle_sweep import CycleSweep, front
from experiments.files import Row
from fpga_bridge.cycles.model import USABLE_DSP, make_step_model
from fpga_bridge.memory.blocks import U50_USABLE
from fpga_bridge.program.accelerator import DEFAULT
from tests.fpga_bridge.samples import TINY
from ttjax import PRESETS
from ttjax.output import Output


def test_the_front_keeps_what_nothing_is_better_than() -> None:
    rows = [{"dsp": d, "cycles": c} for d, c in [(3, 5), (1, 9), (2, 9), (4, 5), (5, 2), (1, 10), (6, 3)]]
    assert [(row["dsp"], row["cycles"]) for row in front(rows, "dsp")] == [(1, 9), (3, 5), (5, 2)]


def test_the_models_at_the_presets_rank_and_length_are_the_presets() -> None:
    """With all that a preset says besides, such as what enc6 makes again to fit."""
    models = dict(cycle_sweep._models())
    assert {name: models[f"{name} rank 12, 32"] for name in cycle_sweep.MODELS} == {
        name: PRESETS[name] for name in ("enc2", "enc4", "enc6")
    }


def test_what_fits_in_dsp_but_not_on_the_dies_does_not_fit() -> None:
    """The largest of all: its engine takes a die, the other units more than the other one."""
    largest = replace(DEFAULT, tile_rows=16, tile_lanes=32, norm_lanes=32, nonlinear_lanes=16)
    row = cycle_sweep._row("enc2", make_step_model(PRESETS["enc2"], largest))
    assert row["dsp"] == 4756 < USABLE_DSP and not row["fits"]


def test_a_model_whose_arrays_do_not_fit_does_not_fit() -> None:
    row = cycle_sweep._row("enc2", make_step_model(PRESETS["enc2"].replace(seq_len=512)))
    assert row["bram36"] > U50_USABLE.bram36 and row["dsp"] < USABLE_DSP and not row["fits"]


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_sweep, "PRESETS", {"enc2": TINY})
    monkeypatch.setattr(cycle_sweep, "MODELS", ("enc2",))
    monkeypatch.setattr(cycle_sweep, "_tiles", lambda: iter([DEFAULT]))
    monkeypatch.setattr(cycle_sweep, "_models", lambda: iter([("one", TINY)]))


def test_where_none_fits_none_is_the_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(monkeypatch)
    monkeypatch.setattr(cycle_sweep, "fits_dies", lambda _: False)
    assert CycleSweep(out=tmp_path).run() == 0
    assert json.loads((tmp_path / "cycle_sweep.json").read_text())["fastest"] == {"enc2": None}
    assert "enc2: none of 9 accelerators fits" in capsys.readouterr().out


def test_the_front_that_is_drawn_is_of_those_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"model": "enc2", "blocks": 2, "rank": 4, "tokens": 32, "dsp": dsp, "bram36": 9, "cycles": cycles}
        | {"fits": fits}
        for dsp, cycles, fits in [(1, 9, True), (2, 3, False), (3, 5, True)]
    ]
    drawn = []
    monkeypatch.setattr(cycle_sweep, "save", lambda figure, _: drawn.extend(figure.axes))
    cycle_sweep._draw(rows, rows, tmp_path / "cycle_sweep.png")
    (front_of_enc2,) = [line for line in drawn[0].lines if line.get_label().startswith("enc2")]
    assert list(front_of_enc2.get_xdata()) == [1, 3]
    # Of both panels: in a face's colour only what fits.
    for axes in drawn:
        faces = [len(dots.get_facecolors()) for dots in axes.collections for _ in dots.get_offsets()]
        assert sorted(map(bool, faces)) == [False, True, True]


def test_the_bars_go_on_with_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each row: what is at work, and how many of its parts are done."""
    bars: list[Progress] = []
    seen: list[tuple[str, float]] = []

    def progress(_: Output) -> Progress:
        bars.append(Progress(console=Console(quiet=True), auto_refresh=False))
        return bars[0]

    def row(*_: object) -> Row:
        task = bars[0].tasks[-1]
        seen.append((task.description, task.completed))
        return {"model": "enc2", "fits": False, "cycles": 1}

    monkeypatch.setattr(Output, "progress", progress)
    small(monkeypatch)
    monkeypatch.setattr(cycle_sweep, "_tiles", lambda: iter([DEFAULT] * 2))
    monkeypatch.setattr(cycle_sweep, "_row", row)
    monkeypatch.setattr(cycle_sweep, "_draw", lambda *_: None)
    assert CycleSweep(out=tmp_path).run() == 0
    assert seen == [("accelerators", 0.0)] * 9 + [("accelerators", 1.0)] * 9 + [("models", 0.0)]


def test_a_small_sweep_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        small(monkeypatch)
        assert CycleSweep(out=tmp_path).run() == 0
    found = json.loads((tmp_path / "cycle_sweep.json").read_text())
    assert found["versions"]["machine"] and found["commit"]
    rows = found["accelerators"]
    assert len(rows) == 9 and all(row["fits"] == (row["dsp"] <= USABLE_DSP) for row in rows)
    assert found["fastest"]["enc2"]["cycles"] == min(row["cycles"] for row in rows if row["fits"])
    assert found["models"][0]["cycles"] > 0
    assert (tmp_path / "cycle_sweep.png").is_file()
