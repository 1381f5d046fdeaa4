"""Every rule of ModelConfig refuses what breaks it, in one line that says expected and found."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from math import prod
from typing import Any

import pytest

from ttjax.config import PRESETS, ConfigError, ModelConfig, preset
from ttjax.errors import UserError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq_len": 0}, "seq_len: expected a whole number from 1 up, found 0"),
        ({"seq_len": 1}, "seq_len: expected at least 2 ([CLS] and one word), found 1"),
        ({"d_model": -1}, "d_model: expected a whole number from 1 up, found -1"),
        ({"n_heads": 0}, "n_heads: expected a whole number from 1 up, found 0"),
        ({"n_heads": 7}, "n_heads: 7 heads don't divide d_model 768"),
        ({"n_blocks": 0}, "n_blocks: expected a whole number from 1 up, found 0"),
        ({"vocab_size": 0}, "vocab_size: expected a whole number from 1 up, found 0"),
        ({"n_intents": 0}, "n_intents: expected a whole number from 1 up, found 0"),
        ({"n_slots": 0}, "n_slots: expected a whole number from 1 up, found 0"),
        ({"norm_eps": 0.0}, "norm_eps: expected a finite number above 0, found 0.0"),
        ({"slot_weight": float("nan")}, "slot_weight: expected a finite number above 0, found nan"),
        ({"norm_eps": float("inf")}, "norm_eps: expected a finite number above 0, found inf"),
        ({"in_modes": (12, 8, 9)}, "in_modes: factors must multiply to d_model 768, found 12·8·9 = 864"),
        ({"out_modes": (0, 8, 12)}, "out_modes: expected a whole number from 1 up, found 0"),
        (
            {"vocab_modes": (10, 10, 9)},
            "vocab_modes: factors must multiply to vocab_size 1000, found 10·10·9",
        ),
        (
            {"embed_modes": (12, 8, 9)},
            "embed_modes: factors must multiply to d_model 768, found 12·8·9 = 864",
        ),
        ({"out_modes": (768,)}, "out_modes: expected at least two factors, found (768,)"),
        ({"vocab_modes": (1000,)}, "vocab_modes: expected at least two factors, found (1000,)"),
        ({"recompute": (2,)}, "recompute: expected blocks 0 to 1, found 2"),
        ({"recompute": (-1,)}, "recompute: expected blocks 0 to 1, found -1"),
        ({"recompute": (1, 0)}, "recompute: expected blocks in rising order, found (1, 0)"),
        ({"frozen": ("block2.q",)}, "frozen: 'block2.q' is no layer; expected one of embed, embed_norm, "),
        ({"embed_modes": (768,)}, "embed_modes: expected 3 factors, one for each of vocab_modes, found 1"),
        ({"in_modes": (768,)}, "in_modes: expected at least two factors, found (768,)"),
        ({"tt_ranks": (1, 12, 1)}, "tt_ranks: expected 7 ranks for 6 cores, found 3"),
        ({"tt_ranks": (1, 12, 0, 12, 12, 12, 1)}, "tt_ranks: expected a whole number from 1 up, found 0"),
        ({"tt_ranks": (2, 12, 12, 12, 12, 12, 1)}, "tt_ranks: the first and the last rank are 1, found 2"),
        ({"n_heads": True}, "n_heads: expected a whole number from 1 up, found True"),
        ({"ttm_ranks": (1, 30, 30, 3)}, "ttm_ranks: the first and the last rank are 1, found 1 and 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ModelConfig(**changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def unchecked(**values: object) -> ModelConfig:
    """A config as users make it: in tests the types that it is given are checked before it is."""
    config = object.__new__(ModelConfig)
    for field in fields(ModelConfig):
        object.__setattr__(config, field.name, values.get(field.name, field.default))
    config.__post_init__()
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_blocks": "2"}, "n_blocks: expected a whole number from 1 up, found '2'"),
        ({"seq_len": 32.0}, "seq_len: expected a whole number from 1 up, found 32.0"),
        ({"recompute": 1}, "recompute: expected a tuple, found 1"),
        ({"frozen": "embed"}, "frozen: expected a tuple, found 'embed'"),
    ],
)
def test_what_is_of_another_type_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        unchecked(**changes)


def test_a_config_read_back_from_json_is_the_same() -> None:
    config = preset("tiny").replace(recompute=(1,), frozen=("embed",))
    again = unchecked(**json.loads(json.dumps(asdict(config))))
    assert again == config and hash(again) == hash(config)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="unknown preset 'enc3': expected one of enc2, enc4, enc6, tiny"):
        preset("enc3")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_heads_and_ranks_that_fit(name: str) -> None:
    config = preset(name)
    assert config.head_dim * config.n_heads == config.d_model
    assert prod(config.embed_modes) == prod(config.in_modes) == config.d_model
    assert config.bond == config.tt_ranks[len(config.in_modes)]


def test_with_rank_changes_interior_ranks_only() -> None:
    assert preset("enc2").with_rank(5).tt_ranks == (1, 5, 5, 5, 5, 5, 1)
    with pytest.raises(ConfigError, match="tt_ranks"):
        preset("enc2").with_rank(0)


def test_a_changed_copy_is_validated_again() -> None:
    with pytest.raises(ConfigError, match="n_heads"):
        preset("enc2").replace(n_heads=5)
