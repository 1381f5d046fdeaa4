"""The sweep over accelerators: what its front keeps, and that a small one runs and writes what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import cycle_sweep
from experiments.cycle_sweep import CycleSweep, front
from fpga_bridge.cycles.model import USABLE_DSP
from fpga_bridge.program.accelerator import DEFAULT
from tests.fpga_bridge.samples import TINY
from ttjax import PRESETS


def test_the_front_keeps_what_nothing_is_better_than() -> None:
    rows = [{"dsp": d, "cycles": c} for d, c in [(3, 5), (1, 9), (2, 9), (4, 5), (5, 2), (1, 10), (6, 3)]]
    assert [(row["dsp"], row["cycles"]) for row in front(rows, "dsp")] == [(1, 9), (3, 5), (5, 2)]


def test_the_models_at_the_presets_rank_and_length_are_the_presets() -> None:
    """With all that a preset says besides, such as what enc6 makes again to fit."""
    models = dict(cycle_sweep._models())
    assert {name: models[f"{name} rank 12, 32"] for name in cycle_sweep.MODELS} == {
        name: PRESETS[name] for name in ("enc2", "enc4", "enc6")
    }


def test_a_small_sweep_writes_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_sweep, "PRESETS", {"enc2": TINY})
    monkeypatch.setattr(cycle_sweep, "MODELS", ("enc2",))
    monkeypatch.setattr(cycle_sweep, "_tiles", lambda: iter([DEFAULT]))
    monkeypatch.setattr(cycle_sweep, "_models", lambda: iter([("one", TINY)]))
    assert CycleSweep(out=tmp_path).run() == 0
    found = json.loads((tmp_path / "cycle_sweep.json").read_text())
    rows = found["accelerators"]
    assert len(rows) == 9 and all(row["fits"] == (row["dsp"] <= USABLE_DSP) for row in rows)
    assert found["fastest"]["enc2"]["cycles"] == min(row["cycles"] for row in rows if row["fits"])
    assert found["models"][0]["cycles"] > 0
    assert (tmp_path / "cycle_sweep.png").is_file()
