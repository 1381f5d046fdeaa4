"""The options by which every command chooses a model: a preset, and what to change in it.

Checked by ``ModelConfig`` and ``preset``, so that a wrong choice is one line of error.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ttjax.config import ModelConfig, equal_ranks, preset
from ttjax.errors import UserError, check_count

# Options that replace the ModelConfig field of the same name.
_SAME_NAME = (
    "format",
    "seq_len",
    "vocab_size",
    "in_modes",
    "out_modes",
    "vocab_modes",
    "embed_modes",
    "recompute",
    "rederive",
    "immediate",
    "frozen",
)


def _preset_hint(default: str) -> str:
    """A training has none of its own: it may go on from a checkpoint."""
    return f"(default: {default})" if default else "(default: enc2; resuming, the checkpoint's)"


@dataclass(frozen=True)
class ModelArgs:
    """A preset and changes to it; what isn't given stays as the preset has it."""

    preset: Annotated[str, tyro.conf.arg(help_behavior_hint=_preset_hint)] = "enc2"
    """Model to start from: enc2, enc4 or enc6 (the paper's), or tiny (for tests)."""
    format: str | None = None
    """tt (tensor-train) or dense (uncompressed)."""
    blocks: int | None = None
    """Number of encoder blocks."""
    seq_len: int | None = None
    """Tokens of a sentence, [CLS] included."""
    vocab_size: int | None = None
    """Rows of the embedding; must be the product of the vocab modes."""
    in_modes: tuple[int, ...] | None = None
    """Input modes of a linear layer; multiply to the model's width."""
    out_modes: tuple[int, ...] | None = None
    """Output modes of a linear layer; multiply to the model's width."""
    rank: int | None = None
    """Every interior TT rank of the linear layers."""
    tt_ranks: tuple[int, ...] | None = None
    """All TT ranks of the linear layers, instead of --rank; 1 at both ends."""
    vocab_modes: tuple[int, ...] | None = None
    """Row modes of the embedding; multiply to the vocabulary size."""
    embed_modes: tuple[int, ...] | None = None
    """Column modes of the embedding; multiply to the model's width."""
    embedding_rank: int | None = None
    """Every interior TTM rank of the embedding."""
    ttm_ranks: tuple[int, ...] | None = None
    """All TTM ranks of the embedding, instead of --embedding-rank; 1 at both ends."""
    recompute: tuple[int, ...] | None = None
    """Blocks whose activations are made again in the backward pass instead of being kept.
    For the kernel and its memory: ttjax train gives the same bits with and without, at the same cost."""
    rederive: bool | None = None
    """Make cheap values again in the backward pass: merged halves, norm outputs, the embedding.
    For the kernel, likewise."""
    immediate: bool | None = None
    """Apply a gradient as soon as it is complete instead of holding all to the end of the step.
    For the kernel, likewise."""
    frozen: tuple[str, ...] | None = None
    """Layers that don't train, such as embed, block0.q or slot_norm."""

    def config(self, start: ModelConfig | None = None) -> ModelConfig:
        """The validated configuration: the preset, or in its place ``start``, with the changes.

        Raises:
            UserError: an unknown preset, numbers that don't fit together, ranks given twice or above the
                model's width.
        """
        start = preset(self.preset) if start is None else start
        changes: dict[str, Any] = {name: getattr(self, name) for name in _SAME_NAME}
        changes["n_blocks"] = self.blocks
        n_cores = len(self.in_modes or start.in_modes) + len(self.out_modes or start.out_modes)
        changes["tt_ranks"] = _ranks(
            "rank", self.rank, "tt-ranks", self.tt_ranks, n_cores, start.tt_ranks, start.d_model
        )
        n_cores = len(self.vocab_modes or start.vocab_modes)
        changes["ttm_ranks"] = _ranks(
            "embedding-rank",
            self.embedding_rank,
            "ttm-ranks",
            self.ttm_ranks,
            n_cores,
            start.ttm_ranks,
            start.d_model,
        )
        return start.replace(**{name: value for name, value in changes.items() if value is not None})

    def line(self, config: ModelConfig) -> str:
        """What is worked on, in a line: the preset of this ``config``, and what differs from it."""
        before = preset(self.preset)
        # The labels are the corpus's.
        names = [f.name for f in dataclasses.fields(config) if f.name not in ("n_intents", "n_slots")]
        changed = [name for name in names if getattr(config, name) != getattr(before, name)]
        values = "".join(f", {name} {_shown(getattr(config, name))}" for name in changed)
        return f"model: {self.preset}{values}"


def _shown(value: object) -> str:
    """A field's value as its option takes it."""
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _ranks(
    one_name: str,
    one: int | None,
    all_name: str,
    every: tuple[int, ...] | None,
    n_cores: int,
    before: tuple[int, ...],
    width: int,
) -> tuple[int, ...] | None:
    """The ranks asked for; None for those of ``before``, which must then be as many."""
    if one is None and every is None:
        if len(before) != n_cores + 1:
            raise UserError(
                f"expected --{one_name} or --{all_name}, found neither: {n_cores} cores don't take the"
                f" {len(before)} ranks there are"
            )
        return None
    if one is not None and every is not None:
        raise UserError(f"expected --{one_name} or --{all_name}, found both: leave one out")
    if one is not None:
        check_count(f"--{one_name}", one)
    name, ranks = (one_name, equal_ranks(one, n_cores)) if one is not None else (all_name, every or ())
    # No bond has a use for more than the model is wide, and a model of more may not fit the machine.
    if max(ranks, default=1) > width:
        raise UserError(f"--{name}: expected at most the model's width, {width}, found {max(ranks)}")
    return ranks
