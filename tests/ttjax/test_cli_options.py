"""Every option of a model and of a recipe reaches it, and `ttjax info` shows each figure in its place."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ttjax.cli import main
from ttjax.cli_model import ModelArgs
from ttjax.cli_train import Train
from ttjax.config import preset

TINY = preset("tiny")
# Options of `ttjax train`, with values that are no defaults, and the recipe's fields with other names.
RECIPE: dict[str, Any] = {
    "optimizer": "adam",
    "schedule": "cosine",
    "lr": 0.5,
    "schedule_epochs": 77,
    "warm_up": 0.25,
    "hide_digits": False,
    "exchange": 0.125,
    "recombine": 0.375,
    "reopen": 0.625,
    "word_dropout": 0.875,
    "average": 0.75,
    "seed": 9,
    "flow": "dense",
}
FIELDS = {"lr": "peak_learning_rate", "schedule_epochs": "epochs"}
NOT_RECIPE = {"model", "data", "epochs", "limit", "checkpoint", "resume", "picture", "json"}
# Options of a model, and what they change in tiny's configuration.
MODEL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"format": "dense"}, {"format": "dense"}),
    ({"blocks": 3}, {"n_blocks": 3}),
    ({"seq_len": 7}, {"seq_len": 7}),
    ({"in_modes": (2, 3, 4)}, {"in_modes": (2, 3, 4)}),
    ({"out_modes": (4, 6)}, {"out_modes": (4, 6)}),
    ({"rank": 2}, {"tt_ranks": (1, 2, 2, 2, 2, 1)}),
    ({"tt_ranks": (1, 2, 3, 4, 5, 1)}, {"tt_ranks": (1, 2, 3, 4, 5, 1)}),
    ({"vocab_size": 120, "vocab_modes": (5, 4, 6)}, {"vocab_size": 120, "vocab_modes": (5, 4, 6)}),
    ({"embed_modes": (4, 3, 2)}, {"embed_modes": (4, 3, 2)}),
    ({"embedding_rank": 2}, {"ttm_ranks": (1, 2, 2, 1)}),
    ({"ttm_ranks": (1, 2, 5, 1)}, {"ttm_ranks": (1, 2, 5, 1)}),
    ({"recompute": (1,)}, {"recompute": (1,)}),
    ({"rederive": True}, {"rederive": True}),
    ({"immediate": False}, {"immediate": False}),
    ({"frozen": ("embed",)}, {"frozen": ("embed",)}),
]


def names(kind: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_every_option_of_the_recipe_reaches_it() -> None:
    assert RECIPE.keys() == names(Train) - NOT_RECIPE
    untold = dataclasses.asdict(Train(ModelArgs("tiny")).plan().recipe)
    for name, value in RECIPE.items():
        found = dataclasses.asdict(Train(ModelArgs("tiny"), **{name: value}).plan().recipe)
        field = FIELDS.get(name, name)
        assert found[field] == value != untold[field], name


def test_every_option_of_a_model_reaches_it() -> None:
    assert {name for options, _ in MODEL for name in options} == names(ModelArgs) - {"preset"}
    for options, changes in MODEL:
        assert ModelArgs("tiny", **options).config() == TINY.replace(**changes) != TINY, options


def test_info_shows_each_figure_under_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's figures; a megabyte is 10^6 bytes."""
    assert main(["info", "--preset", "enc2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert ["all", "301,055", "1,204,220", "1.20"] in rows
    assert ["dense", "18,874,368", "1.00×", "37,748,736", "589,824", "1.00×"] in rows
    assert ["bidirectional", "838,656", "22.51×", "1,677,312", "26,016", "22.67×"] in rows
