"""The example that compresses an MLP: a short run of it, its files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import pytest

from experiments.compress_mlp import CompressMlp, Mlp, convert, count, fresh
from ttjax.errors import UserError

KEY = jax.random.key(0)


def test_a_short_run_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # optax's adam mixes dtypes by itself.
    with jax.numpy_dtype_promotion("standard"):
        assert CompressMlp(tmp_path, ranks=(8,), epochs=2).run() == 0
    result = json.loads((tmp_path / "compress_mlp.json").read_text())
    (row,) = result["tensor"]
    assert result["options"] == {"ranks": [8], "epochs": 2, "seed": 0}
    assert result["data"]["synthetic"] and "synthetic" in capsys.readouterr().out
    assert row["parameters"] < result["dense"]["parameters"] / 30
    assert result["dense"]["accuracy"] > 0.3 and 0 < row["relative_error"] < 1
    assert all(0 <= row[f"{way}_accuracy"] <= 1 for way in ("scratch", "converted", "fine_tuned"))
    assert (tmp_path / "compress_mlp.png").stat().st_size > 1000


def test_conversion_at_full_rank_is_the_same_classifier() -> None:
    params = fresh(Mlp(27), KEY)
    converted, error = convert(params, rank=512)
    assert error < 1e-5 and count(converted) > count(params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs: expected a whole number from 1 up, found 0"),
        ({"ranks": ()}, "--ranks: expected whole numbers from 1 up"),
        ({"ranks": (4, 0)}, "--ranks: expected whole numbers from 1 up"),
        ({"out": Path("no/such/folder")}, "--out: expected an existing folder"),
    ],
)
def test_options_it_refuses(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CompressMlp(**options).run()
