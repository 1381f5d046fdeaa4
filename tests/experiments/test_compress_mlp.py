"""The example that compresses an MLP: a short run of it, its files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.linalg import norm

from experiments.compress_mlp import LARGEST_RANK, CompressMlp, Mlp, convert, count, fresh, hidden_of
from ttjax.errors import UserError
from ttjax.modules import TTDense

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
    # The synthetic sentences are easily told apart: what isn't trained, or not enough, shows.
    trained = (row["fine_tuned_accuracy"], row["scratch_accuracy"])
    assert 0 <= row["converted_accuracy"] < min(trained) and max(trained) <= 1
    assert (tmp_path / "compress_mlp.png").stat().st_size > 1000


def test_the_error_of_a_conversion_is_that_of_all_kernels_together() -> None:
    params = fresh(Mlp(27), KEY)
    converted, error = convert(params, rank=8)
    layers = hidden_of(params)
    again = [
        TTDense(512, in_modes=(8, 8, 8), out_modes=(8, 8, 8), rank=8).to_dense(converted[name])["kernel"]
        for name in layers
    ]
    kernels = [layer["kernel"] for layer in layers.values()]
    assert error == pytest.approx(norm(np.subtract(again, kernels)) / norm(np.asarray(kernels)), rel=1e-4)
    assert 0.5 < error < 0.999, "too near 1 for its square to differ"


def test_conversion_at_full_rank_is_the_same_classifier() -> None:
    params = fresh(Mlp(27), KEY)
    converted, error = convert(params, rank=LARGEST_RANK)
    assert error < 1e-5 and count(converted) > count(params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs: expected a whole number from 1 up, found 0"),
        ({"ranks": ()}, "--ranks: expected whole numbers from 1 to 512"),
        ({"ranks": (4, 0)}, "--ranks: expected whole numbers from 1 to 512"),
        ({"ranks": (4, 513)}, "--ranks: expected whole numbers from 1 to 512, .*, found .4, 513."),
        ({"out": Path("no/such/folder")}, "--out: expected an existing folder"),
    ],
)
def test_options_it_refuses(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        CompressMlp(**options).run()
