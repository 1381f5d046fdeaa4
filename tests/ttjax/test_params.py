"""Fresh parameters: each part of the stated size, no two alike; and the first wrong leaf is the one named."""

from __future__ import annotations

from functools import cache
from typing import get_args

import jax
import numpy as np
import pytest

from ttjax import params
from ttjax.config import Format, ModelConfig, preset
from ttjax.errors import UserError
from ttjax.params import (
    EMBED_STD,
    POSITION_STD,
    abstract_params,
    check_params,
    core_list,
    flatten,
    init_params,
    linear_names,
    norm_names,
    parameter_shapes,
    unflatten,
)
from ttjax.tt import to_dense, ttm_to_dense

TINY = preset("tiny")
FORMATS: tuple[Format, ...] = get_args(Format)


@cache
def fresh(form: Format) -> dict[str, jax.Array]:
    return flatten(init_params(jax.random.key(0), TINY.replace(format=form)))


def rms(*parts: jax.Array) -> float:
    entries = np.concatenate([np.ravel(part) for part in parts])
    return float(np.sqrt(np.mean(entries**2)))


@pytest.mark.parametrize("form", FORMATS)
def test_fresh_parts_have_the_stated_size(form: Format) -> None:
    """All linear layers together: the product of a few small cores scatters in size."""
    leaves = fresh(form)
    n_in, n_cores = len(TINY.in_modes), len(TINY.in_modes + TINY.out_modes)
    if form == "dense":
        linears = [leaves[f"{name}.weight"] for name in linear_names(TINY)]
        table = leaves["embed.table"]
    else:
        cores = [[leaves[f"{name}.core{k}"] for k in range(n_cores)] for name in linear_names(TINY)]
        linears = [to_dense(of_layer, n_in) for of_layer in cores]
        table = ttm_to_dense(core_list(unflatten(leaves)["embed"]))
    assert rms(*linears) == pytest.approx(TINY.d_model**-0.5, rel=0.3)
    assert rms(table) == pytest.approx(EMBED_STD, rel=0.3)
    for head in ("intent_out", "slot_out"):
        assert rms(leaves[f"{head}.weight"]) == pytest.approx(TINY.d_model**-0.5, rel=0.25)
    assert rms(leaves["embed.position"]) == pytest.approx(POSITION_STD, rel=1e-5)
    for name, leaf in leaves.items():
        if name.endswith(("scale", "bias")):
            assert (np.asarray(leaf) == name.endswith("scale")).all(), name


@pytest.mark.parametrize("form", FORMATS)
def test_no_two_fresh_leaves_are_alike(form: Format) -> None:
    drawn = {
        name: np.asarray(leaf).tobytes()
        for name, leaf in fresh(form).items()
        if not name.endswith(("scale", "bias"))
    }
    assert len(drawn) >= len(linear_names(TINY)) + 4 and len(set(drawn.values())) == len(drawn)


@pytest.mark.parametrize("form", FORMATS)
def test_abstract_parameters_are_the_fresh_ones_without_values(form: Format) -> None:
    config = TINY.replace(format=form, n_blocks=11, frozen=("block3.q",), recompute=(2,))
    fresh = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    abstract = abstract_params(config)
    assert abstract == fresh
    assert list(flatten(abstract)) == list(flatten(fresh))
    # An eleventh block comes before the third, as JAX sorts names: files are written in this order.
    assert list(abstract)[:4] == ["block0", "block1", "block10", "block2"]


def test_abstract_parameters_of_a_long_model_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine could make its position table."""
    sinusoids = params._sinusoids

    def of_few_rows(config: ModelConfig) -> jax.Array:
        assert config.seq_len <= TINY.seq_len
        return sinusoids(config)

    monkeypatch.setattr(params, "_sinusoids", of_few_rows)
    long = TINY.replace(seq_len=10**12)
    assert parameter_shapes(long)["embed.position"] == (10**12, TINY.d_model)


@pytest.mark.parametrize("form", FORMATS)
def test_the_layers_that_a_config_names_are_those_with_parameters(form: Format) -> None:
    layers = {name.rpartition(".")[0] for name in fresh(form)}
    assert sorted(layers) == sorted(TINY.layers)
    linears = {name.rpartition(".")[0] for name in fresh("tt") if name.endswith("core0")} - {"embed"}
    assert linears == set(linear_names(TINY))
    assert {name for name in layers if f"{name}.scale" in fresh(form)} == set(norm_names(TINY))


def test_the_first_wrong_leaf_is_the_one_named() -> None:
    leaves = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes(TINY).items()}
    with pytest.raises(UserError, match=rf"{next(iter(leaves))} is missing"):
        check_params({}, TINY)
    odd = {f"odd{k}": np.zeros(0, np.float32) for k in range(20)}
    with pytest.raises(UserError, match="odd0 is not a parameter"):
        check_params(unflatten(leaves | odd), TINY)
