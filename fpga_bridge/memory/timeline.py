"""The stages of one training step, in the order that on-chip lifetimes are counted in.

Forward, loss, backward; a recomputed block's forward stages stand again before its backward ones. The program
is emitted in this order but for each attention, part of which comes before the block's v and part after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from fpga_bridge.memory.layout import make_layout
from ttjax import ModelConfig
from ttjax.params import BLOCK_LINEARS

Phase = Literal["forward", "recompute", "backward", "update"]

BLOCK_STAGES = ("q", "k", "v", "attention", "o", "norm1", "ffn_in", "gelu", "ffn_out", "norm2")
# The intent's few products run beside the slots' GELU and norm; the slots' gradients come first.
HEAD_STAGES = ("slot_pre", "intent_pre", "intent_tanh", "slot_gelu", "slot_norm", "intent_out", "slot_out")
HEAD_STAGES_BACK = (
    "slot_out",
    "slot_norm",
    "slot_gelu",
    "slot_pre",
    "intent_out",
    "intent_tanh",
    "intent_pre",
)


@dataclass(frozen=True)
class Timeline:
    """Stages as (phase, name); a moment is an index into them."""

    stages: tuple[tuple[Phase, str], ...]

    @cached_property
    def _moments(self) -> dict[tuple[Phase, str], int]:
        return {stage: i for i, stage in enumerate(self.stages)}

    def at(self, phase: Phase, name: str) -> int:
        """The moment of a stage.

        Raises:
            KeyError: there is no such stage.
        """
        return self._moments[phase, name]


def merged_together(config: ModelConfig) -> bool:
    """Whether all layers' halves are merged in one stage, and their cores' gradients made in one.

    Where all halves are kept from the forward to the backward pass, and there is room for the gradients of
    all cores at once: in banks of their own if they are held, else in activations that are dead by then, as
    many as linear layers of the blocks had for their results.
    """
    if config.rederive or config.recompute or config.format == "dense":
        return False
    slot = config.seq_len * config.d_model
    cores = [bank.size for bank in make_layout(config).banks if bank.name.startswith("linear_core")]
    room = len(BLOCK_LINEARS) * config.n_blocks
    return not config.immediate or sum(-(-size // slot) for size in cores) <= room


def make_timeline(config: ModelConfig) -> Timeline:
    """The stages of one step of a config."""
    stages: list[tuple[Phase, str]] = []

    def run(phase: Phase, names: Iterable[str]) -> None:
        stages.extend((phase, name) for name in names)

    def of_block(b: int) -> list[str]:
        return [f"block{b}.{stage}" for stage in BLOCK_STAGES]

    # While the first norm is at work, the engine merges; while the embedding is updated, it takes apart.
    merges = ("merges",) if merged_together(config) else ()
    run("forward", ("embed", *merges, "embed_norm"))
    for b in range(config.n_blocks):
        run("forward", of_block(b))
    run("forward", (*HEAD_STAGES, "loss"))
    run("backward", HEAD_STAGES_BACK)
    for b in reversed(range(config.n_blocks)):
        if b in config.recompute:
            run("recompute", of_block(b))
        run("backward", reversed(of_block(b)))
    run("backward", ("embed_norm", "embed", *merges))
    run("update", ("parameters",))
    return Timeline(tuple(stages))
