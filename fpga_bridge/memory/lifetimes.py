"""What a training step holds besides its parameters: every temporary array, its size and when it is live.

Arrays of one pool are interchangeable: two whose lifetimes don't meet may share memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
from operator import or_
from typing import Literal

from fpga_bridge.memory.layout import make_layout, pitch_of
from fpga_bridge.memory.timeline import Phase, Timeline, merged_together
from ttjax import ModelConfig
from ttjax.params import BLOCK_LINEARS, HEAD_LINEARS

Pool = Literal["activation", "attention", "left", "right", "left_inner", "right_inner", "bond"]

# Arrays of a block: pool, the stage that makes it, the last forward stage that reads it, and the backward
# stage that reads it. The inputs of linear layers are read there only for the layers' own gradients.
BLOCK_ARRAYS: dict[str, tuple[Pool, str, str, str]] = {
    "query": ("activation", "q", "attention", "attention"),
    "key": ("activation", "k", "attention", "attention"),
    "value": ("activation", "v", "attention", "attention"),
    "probs": ("attention", "attention", "attention", "attention"),
    "context": ("activation", "attention", "o", "o"),
    "unit1": ("activation", "norm1", "norm1", "norm1"),
    "attended": ("activation", "norm1", "ffn_out", "ffn_in"),
    "ffn_hidden": ("activation", "ffn_in", "gelu", "gelu"),
    "ffn_active": ("activation", "gelu", "ffn_out", "ffn_out"),
    "unit2": ("activation", "norm2", "norm2", "norm2"),
}

# The products of a layer's merged chains: the halves, and what they are made of (of chains of two cores
# nothing: these are merged at once), which lie apart so that a merge reads one memory and writes another.
HALVES: tuple[Pool, ...] = ("left", "right", "left_inner", "right_inner")
LINEAR_INPUTS = ("context", "attended", "ffn_active")

Interval = tuple[int, int]


@dataclass(frozen=True)
class Temporary:
    """One array: ``name`` by ``index`` (block, layer or norm; 0 where there is one) and by pass.

    passes: (0,) forward, (1,) backward, (0, 1) one array that lasts from forward to backward.
    intervals: first and last moment, both included, of each of its lives. size: float32 elements.
    """

    name: str
    index: int
    passes: tuple[int, ...]
    pool: Pool
    size: int
    intervals: tuple[Interval, ...]

    @cached_property
    def _moments(self) -> int:
        """Bit m is set where the array is live at moment m."""
        return reduce(or_, ((1 << last + 1) - (1 << first) for first, last in self.intervals))

    def meets(self, other: Temporary) -> bool:
        """Whether the two are ever live at the same moment."""
        return bool(self._moments & other._moments)


def pool_slot(config: ModelConfig) -> dict[Pool, int]:
    """Elements of one slot of each pool; no entry for a pool that the config has no use for."""
    tokens, width = config.seq_len, config.d_model
    n_in = len(config.in_modes)
    sizes: dict[Pool, int] = {
        "activation": tokens * width,
        "attention": config.n_heads * tokens * tokens,
        "left": width * config.bond,
        "right": config.bond * width,
        "left_inner": sum(inner_sizes(config.in_modes, config.tt_ranks[: n_in + 1])),
        "right_inner": sum(inner_sizes(config.out_modes[::-1], config.tt_ranks[: n_in - 1 : -1])),
        "bond": tokens * config.bond,
    }
    return {pool: size for pool, size in sizes.items() if size}


def inner_sizes(modes: tuple[int, ...], ranks: tuple[int, ...]) -> list[int]:
    """Elements, in whole words, of the products of a chain between its first core and its whole.

    Product k (k = 1, 2, ...) is (n_0 ... n_k, r_{k+1}); of a chain that is merged from the right, turn modes
    and ranks round.
    """
    return [pitch_of(prod(modes[: k + 1]) * ranks[k + 1]) for k in range(1, len(modes) - 1)]


def row_products_size(config: ModelConfig) -> int:
    """Elements of one token's products of the TTM chain, without the row itself."""
    return sum(inner_sizes(config.embed_modes[::-1], config.ttm_ranks[::-1]))


def temporaries(config: ModelConfig, time: Timeline) -> list[Temporary]:
    """Every temporary array of a step, in order of its first life."""
    found = [
        *_stream(config, time),
        *_block_arrays(config, time),
        *_layer_products(config, time),
        *_head_arrays(config, time),
        *_gradients(config, time),
    ]
    return sorted(found, key=lambda array: array.intervals[0])


def _stream(config: ModelConfig, time: Timeline) -> Iterator[Temporary]:
    """The residual stream: what enters each block, and the sums on their way into a norm."""
    size = config.seq_len * config.d_model
    blocks = range(config.n_blocks)
    made, back = time.at("forward", "embed_norm"), time.at("backward", "embed_norm")
    again: list[Interval] = [(back, back)] if config.rederive else []
    yield _one("embedding", size, (time.at("forward", "embed"), made), *again)
    # The uncompressed model, which is only counted, has a table instead.
    products = config.seq_len * row_products_size(config) if config.format == "tt" else 0
    embed, embed_back = time.at("forward", "embed"), time.at("backward", "embed")
    if products:
        kept = [(embed, embed), (back, embed_back)] if again else [(embed, embed_back)]
        yield _one("row_products", products, *kept)
        yield _one("d_row_products", products, (embed_back, embed_back))
    yield _one("embed_unit", size, *([(made, made), *again] if again else [(made, back)]))
    for b in blocks:
        before = f"block{b - 1}.norm2" if b else "embed_norm"
        needed = b in config.recompute or any(config.trains(f"block{b}.{name}") for name in "qkv")
        end = time.at("backward", f"block{b}.q") if needed else time.at("forward", f"block{b}.o")
        yield _one("hidden", size, (time.at("forward", before), end), index=b)
    needed = any(config.trains(layer) for layer in HEAD_LINEARS)
    end = time.at("backward", "intent_pre") if needed else time.at("forward", "intent_pre")
    last = time.at("forward", f"block{config.n_blocks - 1}.norm2")
    yield _one("hidden", size, (last, end), index=config.n_blocks)
    sums = [
        (time.at(phase, f"block{b}.{first}"), time.at(phase, f"block{b}.{norm}"))
        for phase in ("forward", "recompute")
        for b in blocks
        if phase == "forward" or b in config.recompute
        for first, norm in (("o", "norm1"), ("ffn_out", "norm2"))
    ]
    yield _one("branch", size, *sums)


def _block_arrays(config: ModelConfig, time: Timeline) -> Iterator[Temporary]:
    sizes = pool_slot(config)
    for b in range(config.n_blocks):
        for name, (pool, made, read, read_back) in BLOCK_ARRAYS.items():
            stages = (f"block{b}.{made}", f"block{b}.{read}", f"block{b}.{read_back}")
            needed = name not in LINEAR_INPUTS or config.trains(stages[2])
            if name == "attended" and config.rederive and needed:
                yield from _rederived(config, time, b, name, sizes[pool], *stages)
                continue
            for passes, interval in _lives(config, time, b, *stages, needed):
                yield Temporary(name, b, passes, pool, sizes[pool], (interval,))


def _rederived(
    config: ModelConfig,
    time: Timeline,
    block: int,
    name: str,
    size: int,
    made: str,
    read: str,
    read_back: str,
) -> Iterator[Temporary]:
    """An activation made again for the one backward stage that reads it, in a place of its own there."""
    back = time.at("backward", read_back)
    phases: tuple[Phase, ...] = ("forward", "recompute") if block in config.recompute else ("forward",)
    for number, phase in enumerate(phases):
        life = (time.at(phase, made), time.at(phase, read))
        yield Temporary(name, block, (number,), "activation", size, (life,))
    yield Temporary(f"{name}_again", block, (0, 1), "activation", size, ((back, back),))


def _layer_products(config: ModelConfig, time: Timeline) -> Iterator[Temporary]:
    """Merged halves and the narrow value between them, of each linear layer."""
    sizes = pool_slot(config)
    halves: list[Pool] = [pool for pool in HALVES if pool in sizes]
    blocks = [(b, f"block{b}.{name}") for b in range(config.n_blocks) for name in BLOCK_LINEARS]
    layers = [*blocks, *((-1, name) for name in HEAD_LINEARS)]
    if merged_together(config):
        # One array for all layers. Gradients of halves take the place of the halves.
        life = (time.at("forward", "merges"), time.at("backward", "merges"))
        for pool in halves:
            yield Temporary(pool, 0, (0, 1), pool, len(layers) * sizes[pool], (life,))
    for index, (block, layer) in enumerate(layers):
        for passes, interval in _lives(config, time, block, layer, layer, layer, config.trains(layer)):
            yield Temporary("bond", index, passes, "bond", sizes["bond"], (interval,))
        if config.rederive:
            # Merged for one stage at a time: the forward one, and each of the backward pass.
            again: tuple[Phase, ...] = ("recompute",) if block in config.recompute else ()
            ahead: tuple[Phase, ...] = ("forward",)
            back: tuple[Phase, ...] = (*again, "backward")
            for pool in halves:
                for number, phases in enumerate((ahead, back)):
                    moments = tuple(time.at(phase, layer) for phase in phases)
                    intervals = tuple((moment, moment) for moment in moments)
                    yield Temporary(pool, index, (number,), pool, sizes[pool], intervals)
        elif not merged_together(config):
            for pool in halves:
                for passes, interval in _lives(config, time, block, layer, layer, layer):
                    yield Temporary(pool, index, passes, pool, sizes[pool], (interval,))


def _head_arrays(config: ModelConfig, time: Timeline) -> Iterator[Temporary]:
    size = config.seq_len * config.d_model
    # The uncompressed model, which is only counted, has no memory words to begin rows at.
    logits = config.seq_len * (pitch_of(config.n_slots) if config.format == "tt" else config.n_slots)
    yield _one("slot_logits", logits, (time.at("forward", "slot_out"), time.at("forward", "loss")))
    yield _one("d_slot_logits", logits, (time.at("forward", "loss"), time.at("backward", "slot_out")))
    trains = config.trains("slot_out")
    for name, made, phase, read in (
        ("slot_hidden", "slot_pre", "backward", "slot_gelu"),
        ("slot_active", "slot_gelu", "forward", "slot_norm"),
        ("slot_unit", "slot_norm", "backward", "slot_norm"),
        # Its place isn't given away while the weights' gradient is computed beside the next two stages.
        ("slot_normed", "slot_norm", *(("backward", "slot_gelu") if trains else ("forward", "slot_out"))),
    ):
        yield _one(name, size, (time.at("forward", made), time.at(phase, read)))  # type: ignore[arg-type]


def _gradients(config: ModelConfig, time: Timeline) -> Iterator[Temporary]:
    """Gradients of activations on their way back; of parameters only where they are applied at once."""
    size = config.seq_len * config.d_model

    def back(*pairs: tuple[str, str]) -> list[Interval]:
        return [(time.at("backward", first), time.at("backward", last)) for first, last in pairs]

    def in_blocks(*pairs: tuple[str, str]) -> list[Interval]:
        blocks = reversed(range(config.n_blocks))
        return [
            life for b in blocks for life in back(*((f"block{b}.{x}", f"block{b}.{y}") for x, y in pairs))
        ]

    yield _one("d_stream", size, *back(("slot_pre", "embed_norm")))
    wide = in_blocks(("ffn_out", "ffn_in"), ("o", "attention"))
    yield _one("d_wide", size, *back(("slot_out", "slot_norm"), ("slot_gelu", "slot_pre")), *wide)
    branch = in_blocks(("norm2", "ffn_in"), ("norm1", "q"))
    # Applied at once, the embedding's gradients are so while those of the cores are made.
    together = merged_together(config)
    last = "merges" if together and config.immediate else "embed"
    ends = back(("slot_norm", "slot_gelu"), ("embed_norm", last))
    yield _one("d_branch", size, *ends[:1], *branch, *ends[1:])
    for name, layer in (("d_query", "q"), ("d_key", "k"), ("d_value", "v")):
        yield _one(name, size, *in_blocks(("attention", layer)))
    attention = config.n_heads * config.seq_len**2
    yield Temporary(
        "d_scores", 0, (0, 1), "attention", attention, tuple(in_blocks(("attention", "attention")))
    )
    if config.immediate:
        sizes = {bank.name: bank.size for bank in make_layout(config).banks}
        for head in ("slot", "intent"):
            held = sizes[f"{head}_weight"] + sizes[f"{head}_bias"]
            yield _one(f"{head}_gradient", held, *back((f"{head}_out", f"{head}_out")))
        cores = sum(size for name, size in sizes.items() if name.startswith("embed_core"))
        yield _one("embed_gradient", cores, *back(("embed", last)))
        for name in sizes if together else ():
            if name.startswith("linear_core"):
                yield _one(f"{name}_gradient", sizes[name], *back(("merges", "merges")))


def _lives(
    config: ModelConfig, time: Timeline, block: int, made: str, read: str, read_back: str, needed: bool = True
) -> Iterator[tuple[tuple[int, ...], Interval]]:
    """One life from forward to backward; two of a block that is recomputed.

    ``needed``: whether the backward pass reads the array at all.
    """
    if not needed:
        phases: tuple[Phase, ...] = ("recompute",) if block in config.recompute else ()
        yield (0,), (time.at("forward", made), time.at("forward", read))
        for phase in phases:
            yield (1,), (time.at(phase, made), time.at(phase, read))
    elif block in config.recompute:
        yield (0,), (time.at("forward", made), time.at("forward", read))
        yield (1,), (time.at("recompute", made), time.at("backward", read_back))
    else:
        yield (0, 1), (time.at("forward", made), time.at("backward", read_back))


def _one(name: str, size: int, *lives: Interval, index: int = 0) -> Temporary:
    return Temporary(name, index, (0, 1), "activation", size, lives)
