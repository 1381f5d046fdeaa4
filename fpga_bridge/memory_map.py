"""The accelerator's memory: every array of the kernel, and which share memory because they never meet.

Parameters lie in the banks of ``layout``; a step's temporary arrays in pools of equal slots, placed so that
two arrays share a slot only if their lifetimes don't meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from fpga_bridge.layout import Layout, make_layout
from fpga_bridge.lifetimes import Pool, Temporary, pool_slot, temporaries
from fpga_bridge.timeline import Timeline, make_timeline
from ttjax import ModelConfig
from ttjax.params import linear_names

BYTES = 4  # of a float32


@dataclass(frozen=True)
class Place:
    """A temporary array and the slots of its pool it lies in, from ``slot`` on."""

    array: Temporary
    slot: int
    slots: int


@dataclass(frozen=True)
class Fixed:
    """A small array with a memory of its own for the whole step: ``size`` float32 elements."""

    name: str
    size: int


@dataclass(frozen=True)
class MemoryMap:
    """All on-chip arrays of one config's kernel.

    slots: number of slots of each pool; slot_size: float32 elements of one.
    """

    config: ModelConfig
    layout: Layout
    timeline: Timeline
    places: tuple[Place, ...]
    slots: dict[Pool, int]
    slot_size: dict[Pool, int]
    fixed: tuple[Fixed, ...]

    @cached_property
    def _by_key(self) -> dict[tuple[str, int, int], Place]:
        return {(p.array.name, p.array.index, n): p for p in self.places for n in p.array.passes}

    def offset(self, name: str, index: int = 0, of_pass: int = 0) -> int:
        """First element of an array in its pool; the forward pass's where the backward pass never reads it.

        Raises:
            KeyError: no such array.
        """
        place = self._by_key.get((name, index, of_pass)) or self._by_key[name, index, 0]
        return place.slot * self.slot_size[place.array.pool]

    def fixed_size(self, name: str) -> int:
        """Elements of a fixed array.

        Raises:
            StopIteration: no such array.
        """
        return next(array.size for array in self.fixed if array.name == name)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of all parameters."""
        return BYTES * self.layout.size

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the parameters' gradients held to the end of the step; none if applied at once."""
        return 0 if self.config.immediate else self.parameter_bytes

    @property
    def temporary_bytes(self) -> int:
        """Bytes of the pools and the fixed arrays."""
        pools = sum(self.slots[pool] * self.slot_size[pool] for pool in self.slots)
        return BYTES * (pools + sum(array.size for array in self.fixed))

    @property
    def unshared_bytes(self) -> int:
        """What ``temporary_bytes`` would be if no two arrays shared memory."""
        sizes = [p.array.size for p in self.places] + [array.size for array in self.fixed]
        return BYTES * sum(sizes)

    @property
    def total_bytes(self) -> int:
        """Bytes of every on-chip array: what a training step needs, all of it allocated, nothing left out."""
        return self.parameter_bytes + self.gradient_bytes + self.temporary_bytes

    def live_bytes(self) -> list[int]:
        """Bytes of the arrays that are live at each moment of the timeline."""
        always = self.parameter_bytes + self.gradient_bytes + BYTES * sum(array.size for array in self.fixed)
        live = [always] * len(self.timeline.stages)
        for place in self.places:
            for first, last in place.array.intervals:
                for moment in range(first, last + 1):
                    live[moment] += BYTES * place.array.size
        return live


@lru_cache(maxsize=64)
def make_memory_map(config: ModelConfig) -> MemoryMap:
    """The memory map of a config.

    Raises:
        UserError: the config is not a tensor-train one.
    """
    layout, timeline = make_layout(config), make_timeline(config)
    slot_size = pool_slot(config)
    arrays = temporaries(config, timeline)
    places: list[Place] = []
    slots: dict[Pool, int] = {}
    for pool in slot_size:
        placed = _place([a for a in arrays if a.pool == pool], slot_size[pool])
        slots[pool] = max(place.slot + place.slots for place in placed)
        places.extend(placed)
    return MemoryMap(config, layout, timeline, tuple(places), slots, slot_size, tuple(_fixed(config)))


def _place(arrays: list[Temporary], slot_size: int) -> list[Place]:
    """The tightest of three first-fit placements: by first life, many lives first, long lives first.

    The widest arrays always come first: they need neighbouring slots.
    """

    def width(array: Temporary) -> int:
        return -(-array.size // slot_size)

    def length(array: Temporary) -> int:
        return sum(last - first + 1 for first, last in array.intervals)

    orders = (
        sorted(arrays, key=lambda a: (-width(a), a.intervals[0])),
        sorted(arrays, key=lambda a: (-width(a), -len(a.intervals), a.intervals[0])),
        sorted(arrays, key=lambda a: (-width(a), -length(a), a.intervals[0])),
    )
    placements = (_first_fit(order, slot_size) for order in orders)
    return min(placements, key=lambda placed: max(place.slot + place.slots for place in placed))


def _first_fit(arrays: Iterable[Temporary], slot_size: int) -> list[Place]:
    """Each array in turn at the lowest slots that are free in all its lives."""
    placed: list[Place] = []
    for array in arrays:
        width = -(-array.size // slot_size)
        taken = sorted((p.slot, p.slot + p.slots) for p in placed if p.array.meets(array))
        slot = 0
        for first, end in taken:
            if slot + width <= first:
                break
            slot = max(slot, end)
        placed.append(Place(array, slot, width))
    return placed


def _fixed(config: ModelConfig) -> Iterable[Fixed]:
    width, tokens = config.d_model, config.seq_len
    yield Fixed("inverse_std", (2 * config.n_blocks + 2) * tokens)
    for name in ("intent_hidden", "intent_active", "d_intent"):
        yield Fixed(name, width)
    for name in ("intent_logits", "d_intent_logits"):
        yield Fixed(name, config.n_intents)
    # Read beside the values they are gradients of: memories of their own, so that neither waits.
    for pool in ("left", "right", "bond"):
        yield Fixed(f"d_{pool}", pool_slot(config)[pool])
    if config.immediate:
        cores = sum(
            a * n * b
            for a, n, b in zip(
                config.tt_ranks, config.in_modes + config.out_modes, config.tt_ranks[1:], strict=False
            )
        )
        yield Fixed("layer_gradient", max(cores + width, 2 * width))


def extra_multiplications(config: ModelConfig) -> dict[str, int]:
    """Multiplications in products that a step does again to save memory.

    ``recompute``: the forward pass of recomputed blocks. ``rederive``: merged halves, and the embedding.
    """
    tokens, width = config.seq_len, config.d_model
    merges = _merge(config.in_modes, config.tt_ranks[: len(config.in_modes) + 1])
    merges += _merge(config.out_modes[::-1], config.tt_ranks[: len(config.in_modes) - 1 : -1])
    linear = merges + 2 * tokens * width * config.bond
    block = 6 * linear + 2 * tokens * tokens * width
    embedding = tokens * _merge(config.embed_modes[::-1], config.ttm_ranks[::-1])
    again = len(linear_names(config)) * merges + embedding
    return {"recompute": len(config.recompute) * block, "rederive": again if config.rederive else 0}


def _merge(modes: tuple[int, ...], ranks: tuple[int, ...]) -> int:
    """Multiplications of one chain's merge: (N, r) times (r, n s) for each further core."""
    total, width = 0, modes[0]
    for k in range(1, len(modes)):
        total += width * ranks[k] * modes[k] * ranks[k + 1]
        width *= modes[k]
    return total
