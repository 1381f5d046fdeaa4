"""What the pictures of accuracy and of the ablation show: one recipe, and a range where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from experiments import runs
from experiments.ablation import FULL
from experiments.ablation import _draw as draw_ablation
from experiments.accuracy import _draw_epochs, _draw_ranks
from ttjax.recipe import Recipe

PATH = Path("none.png")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Figures in the place of their files."""
    figures: list[Any] = []
    monkeypatch.setattr(runs, "save", lambda figure, _: figures.append(figure))
    return figures


def row(form: str, parameters: int, score: float, seeds: int = 1, **changes: Any) -> dict[str, Any]:
    """As the studies write them, of the default recipe but for ``changes``."""
    recipe = dataclasses.asdict(Recipe().written_out("dense" if form == "dense" else "tt")) | changes
    scores = {name: score for of in ("", "dev_") for name in (f"{of}intent", f"{of}slot_f1")}
    scores |= {f"{name}_range": [score - 1, score + 1] for name in scores}
    curve = [{"epoch": epoch, **scores} for epoch in (1, 2)]
    told = {"preset": "enc2", "format": form, "parameters": parameters, "seeds": [*range(seeds)]}
    return told | {"recipe": recipe, "data": {"name": "atis"}, "by_epoch": curve, **scores}


def test_the_plot_by_rank_is_of_one_recipe(drawn: list[Any]) -> None:
    """The dense model's too; and only a mean over several seeds has whiskers."""
    ranks = [
        row("tt", 10 * rank, 90 + rank, seeds=rank, **of) | {"rank": rank} for rank in (1, 2) for of in OTHERS
    ]
    dense = [row("dense", 500, 97, **OTHERS[1]), row("dense", 600, 98, **OTHERS[0]), row("tt", 700, 99)]
    _draw_ranks(ranks, dense, "", PATH)
    (figure,) = drawn
    assert figure.get_suptitle() == "atis, test, seed 0 or seeds 0, 1"
    for axes in figure.axes:
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        shown = {name: points for name, points in lines.items() if not name.startswith("_")}
        assert shown == {"enc2 tt": [[10, 91], [20, 92]], "enc2 dense": [[600, 98]]}
        assert [text.get_text() for text in axes.texts] == ["1", "2"]
        assert len(axes.containers) == 1
    _draw_ranks(ranks, dense, "recombine=0.0", PATH)
    assert drawn[1].get_suptitle().endswith(", recipe with recombine=0.0")
    assert drawn[1].axes[0].lines[-1].get_xydata().tolist() == [[500, 97]]


OTHERS: tuple[dict[str, Any], ...] = ({}, {"recombine": 0.0})


def test_the_plot_by_epoch_is_of_one_recipe_and_explains_its_bands(drawn: list[Any]) -> None:
    rows = [row("dense", 500, 97), row("tt", 10, 90, 3), row("tt", 10, 80, recombine=0.0)]
    _draw_epochs(rows, "", PATH)
    for axes in drawn[0].axes:
        assert [line.get_label() for line in axes.lines] == [
            "enc2 dense (seed 0): test 97.00",
            "enc2 tt (seeds 0, 1, 2, shaded: their range): test 90.00",
        ]


@pytest.mark.parametrize("seeds", [1, 2])
def test_an_ablation_of_one_seed_has_no_whiskers(seeds: int, drawn: list[Any]) -> None:
    differences = {"intent_difference": 1.0, "intent_difference_range": [0.5, 1.5]}
    differences |= {"slot_f1_difference": 1.0, "slot_f1_difference_range": [0.5, 1.5]}
    rows = [{"variant": name, "seeds": [*range(seeds)], **differences} for name in (FULL, "no warm-up")]
    draw_ablation(rows, "enc2", PATH)
    (figure,) = drawn
    assert figure.get_suptitle() == ("enc2, seed 0" if seeds == 1 else "enc2, seeds 0, 1")
    assert all(bool(axes.collections) == (seeds > 1) for axes in figure.axes)
