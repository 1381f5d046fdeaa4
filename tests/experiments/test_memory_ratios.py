"""The study of memory ratios: its committed rows are counted anew, its plans do what they are called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from experiments import memory_ratios
from experiments.memory_ratios import BLOCKS, _row, plans_of
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.memory.uncompressed import dense_live_bytes
from ttjax import PRESETS
from ttjax.output import Output

COMMITTED = json.loads((Path(__file__).parents[2] / "experiments/results/memory_ratios.json").read_text())[
    "rows"
]
# Of a block as the device has it, parity included.
BITS = {"bram36": 36_864, "uram": 294_912}


def test_the_committed_rows_are_what_is_counted_now() -> None:
    """For the smallest preset, all but what XLA reports, which takes a compilation."""
    config = PRESETS[BLOCKS[0]]
    fresh = [_row(BLOCKS[0], name, make_memory_map(plan)) for name, plan in plans_of(config).items()]
    committed = [row for row in COMMITTED if row["preset"] == BLOCKS[0]]
    assert [{name: row[name] for name in fresh[0]} for row in committed] == fresh
    assert {row["dense_live_bytes"] for row in committed} == {dense_live_bytes(config)}
    for row in fresh:
        assert row["occupied_bytes"] == sum(BITS[name] * row[name] for name in BITS) / 8


def test_a_bar_goes_on_with_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA compiles each uncompressed model, which takes seconds."""
    bar = Progress(console=Console(quiet=True), auto_refresh=False)
    seen: list[list[float]] = []
    monkeypatch.setattr(Output, "progress", lambda _: bar)
    monkeypatch.setattr(memory_ratios, "_rows", lambda _: seen.append([t.completed for t in bar.tasks]) or [])
    for shown in ("_table", "_draw"):
        monkeypatch.setattr(memory_ratios, shown, lambda *_: "")
    assert memory_ratios.MemoryRatios(tmp_path).run() == 0
    assert seen == [[0], [1], [2]]


def test_each_plan_does_more_to_hold_less() -> None:
    """Each row is of the plan it names: it makes again what it says, which takes multiplications."""
    config = PRESETS["tiny"]
    plans = plans_of(config)
    kept, at_once, rederived, recomputed = (
        _row("tiny", name, make_memory_map(of)) for name, of in plans.items()
    )
    assert plans["+ recomputed"].recompute == tuple(range(config.n_blocks))
    extra = [row["extra_multiplications"] for row in (kept, at_once, rederived, recomputed)]
    assert 0 == extra[0] == extra[1] < extra[2] < extra[3]
    held = [row["allocated_bytes"] for row in (kept, at_once, rederived, recomputed)]
    assert held[0] > held[1] and held[2] > held[3]
