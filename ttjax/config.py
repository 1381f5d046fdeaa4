"""The one typed source of every dimension of the model, validated when it is made.

Parameter shapes, the memory map, the kernel's header, the trace and the reports derive from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod
from typing import Any, Literal

from ttjax.errors import UserError, check_count

Format = Literal["tt", "dense"]


class ConfigError(UserError, ValueError):
    """A ModelConfig whose numbers don't fit together."""


# Fields of several numbers or names.
_RANKS_AND_MODES = ("tt_ranks", "in_modes", "out_modes", "ttm_ranks", "vocab_modes", "embed_modes")
_SEVERAL = (*_RANKS_AND_MODES, "recompute", "frozen")


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions of the joint intent and slot transformer (arXiv 2501.06663, section II and VI).

    A TT linear layer maps d_model to d_model through ``len(in_modes) + len(out_modes)`` cores,
    core k of shape (tt_ranks[k], mode k, tt_ranks[k + 1]), input modes first. The TTM embedding
    has cores of shape (ttm_ranks[k], vocab_modes[k], embed_modes[k], ttm_ranks[k + 1]).

    ``recompute``, ``rederive`` and ``immediate`` say what a training step keeps, not what it computes: the
    blocks whose activations are made again in the backward pass; whether cheap values of every block are made
    again too (merged halves, the output of norm1, the normalised embedding); whether a gradient is applied as
    soon as it is complete. ``frozen``: the layers (``embed``, ``block0.q``, ``slot_norm``) that don't train.

    Raises:
        ConfigError: a dimension is not positive, factors don't multiply to the width they factor,
            a list of ranks has the wrong length or ends, or a block or layer doesn't exist.
    """

    format: Format = "tt"
    seq_len: int = 32
    d_model: int = 768
    n_heads: int = 12
    n_blocks: int = 2
    vocab_size: int = 1000
    n_intents: int = 22
    n_slots: int = 121
    in_modes: tuple[int, ...] = (12, 8, 8)
    out_modes: tuple[int, ...] = (8, 8, 12)
    tt_ranks: tuple[int, ...] = (1, 12, 12, 12, 12, 12, 1)
    vocab_modes: tuple[int, ...] = (10, 10, 10)
    embed_modes: tuple[int, ...] = (12, 8, 8)
    ttm_ranks: tuple[int, ...] = (1, 30, 30, 1)
    norm_eps: float = 1e-5
    slot_weight: float = 3.0
    recompute: tuple[int, ...] = ()
    rederive: bool = False
    immediate: bool = True
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format not in ("tt", "dense"):
            raise ConfigError(f"format: expected 'tt' or 'dense', found {self.format!r}")
        for name in _SEVERAL:
            if isinstance(value := getattr(self, name), list):  # as JSON has it; a config is hashed
                object.__setattr__(self, name, tuple(value))
            elif not isinstance(value, tuple):
                raise ConfigError(f"{name}: expected a tuple, found {value!r}")
        for name in ("seq_len", "d_model", "n_heads", "n_blocks", "vocab_size", "n_intents", "n_slots"):
            _positive(name, getattr(self, name))
        if self.seq_len < 2:
            raise ConfigError("seq_len: expected at least 2 ([CLS] and one word), found 1")
        if self.d_model % self.n_heads:
            raise ConfigError(f"n_heads: {self.n_heads} heads don't divide d_model {self.d_model}")
        for name in ("norm_eps", "slot_weight"):
            if not 0 < getattr(self, name) < inf:
                raise ConfigError(f"{name}: expected a finite number above 0, found {getattr(self, name)}")
        _factors("in_modes", self.in_modes, "d_model", self.d_model)
        _factors("out_modes", self.out_modes, "d_model", self.d_model)
        _factors("vocab_modes", self.vocab_modes, "vocab_size", self.vocab_size)
        _factors("embed_modes", self.embed_modes, "d_model", self.d_model)
        for name in ("in_modes", "out_modes", "vocab_modes"):
            if len(getattr(self, name)) < 2:
                raise ConfigError(f"{name}: expected at least two factors, found {getattr(self, name)}")
        if len(self.vocab_modes) != len(self.embed_modes):
            raise ConfigError(
                f"embed_modes: expected {len(self.vocab_modes)} factors, one for each of vocab_modes,"
                f" found {len(self.embed_modes)}"
            )
        _ranks("tt_ranks", self.tt_ranks, len(self.in_modes) + len(self.out_modes))
        _ranks("ttm_ranks", self.ttm_ranks, len(self.vocab_modes))
        if sorted(set(self.recompute)) != list(self.recompute):
            raise ConfigError(f"recompute: expected blocks in rising order, found {self.recompute}")
        for block in self.recompute:
            if not 0 <= block < self.n_blocks:
                raise ConfigError(f"recompute: expected blocks 0 to {self.n_blocks - 1}, found {block}")
        for layer in self.frozen:
            if layer not in self.layers:
                raise ConfigError(f"frozen: {layer!r} is no layer; expected one of {', '.join(self.layers)}")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_heads

    @property
    def bond(self) -> int:
        """Rank between the input and the output cores of a TT linear layer."""
        return self.tt_ranks[len(self.in_modes)]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that hold parameters, in order of execution."""
        parts = ("q", "k", "v", "o", "norm1", "ffn_in", "ffn_out", "norm2")
        blocks = (f"block{b}.{part}" for b in range(self.n_blocks) for part in parts)
        heads = ("intent_pre", "intent_out", "slot_pre", "slot_norm", "slot_out")
        return ("embed", "embed_norm", *blocks, *heads)

    def trains(self, layer: str) -> bool:
        """Whether a layer's parameters change in training: it is not frozen."""
        return layer not in self.frozen

    def replace(self, **changes: object) -> ModelConfig:
        """A copy with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def with_rank(self, rank: int) -> ModelConfig:
        """A copy in which every interior TT rank of the linear layers is ``rank``."""
        return self.replace(tt_ranks=equal_ranks(rank, len(self.tt_ranks) - 1))


def fields_of_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a frozen dataclass out of JSON, which has lists where they are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def equal_ranks(rank: int, n_cores: int) -> tuple[int, ...]:
    """The n_cores + 1 ranks of a tensor train whose interior ranks are all ``rank``."""
    return (1, *[rank] * (n_cores - 1), 1)


def _positive(name: str, value: object) -> None:
    check_count(name, value, error=ConfigError)


def _factors(name: str, factors: tuple[int, ...], whole_name: str, whole: int) -> None:
    for factor in factors:
        _positive(name, factor)
    if prod(factors) != whole:
        product = "·".join(map(str, factors))
        raise ConfigError(
            f"{name}: factors must multiply to {whole_name} {whole}, found {product} = {prod(factors)}"
        )


def _ranks(name: str, ranks: tuple[int, ...], n_cores: int) -> None:
    if len(ranks) != n_cores + 1:
        raise ConfigError(f"{name}: expected {n_cores + 1} ranks for {n_cores} cores, found {len(ranks)}")
    for rank in ranks:
        _positive(name, rank)
    if ranks[0] != 1 or ranks[-1] != 1:
        raise ConfigError(f"{name}: the first and the last rank are 1, found {ranks[0]} and {ranks[-1]}")


PRESETS: dict[str, ModelConfig] = {
    "enc2": ModelConfig(n_blocks=2),
    "enc4": ModelConfig(n_blocks=4),
    # Kept as it is for enc2 and enc4, a step of six blocks would not fit the U50.
    "enc6": ModelConfig(n_blocks=6, rederive=True),
    # For tests: uneven factors and ranks, two output cores, one rank above its mode's size.
    "tiny": ModelConfig(
        seq_len=10,
        d_model=24,
        n_heads=3,
        n_blocks=2,
        vocab_size=240,
        n_intents=5,
        n_slots=11,
        in_modes=(4, 3, 2),
        out_modes=(6, 4),
        tt_ranks=(1, 5, 4, 3, 2, 1),
        vocab_modes=(5, 8, 6),
        embed_modes=(2, 3, 4),
        ttm_ranks=(1, 3, 4, 1),
    ),
}


def preset(name: str) -> ModelConfig:
    """The preset of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
