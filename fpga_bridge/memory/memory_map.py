"""The accelerator's memory: every array of the kernel, and which share memory because they never meet.

Parameters lie in the banks of ``layout``; a step's temporary arrays in pools of equal slots, placed so that
two arrays share a slot only if their lifetimes don't meet.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from fpga_bridge.memory.layout import Layout, Placement, make_layout, pitch_of
from fpga_bridge.memory.lifetimes import Pool, Temporary, pool_slot, temporaries
from fpga_bridge.memory.timeline import Timeline, make_timeline, merged_together
from ttjax import ModelConfig
from ttjax.params import BLOCK_LINEARS, linear_names, norm_names

BYTES = 4  # of a float32
# First-fit placements tried from each order of the arrays.
ATTEMPTS = 12


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

    def place(self, name: str, index: int = 0, of_pass: int = 0) -> tuple[Pool, int]:
        """An array's pool and first element there; the forward pass's where the backward pass never reads it.

        Raises:
            KeyError: no such array.
        """
        place = self._by_key.get((name, index, of_pass)) or self._by_key[name, index, 0]
        return place.array.pool, place.slot * self.slot_size[place.array.pool]

    def gradient_home(self, p: Placement) -> tuple[str, int]:
        """Array for a parameter's gradient, and its first element there.

        Gradients that are held have banks of their own. Applied at once, those of one layer are in scratch
        together, and those of one norm; those of the heads and the embedding, and of cores that are made
        together, in free activations, and that of a position is the gradient of its embedding.
        """
        config, bank = self.config, self.layout.banks[p.bank].name
        if not config.immediate:
            return f"{bank}_gradient", p.start
        if bank.startswith("linear_core") and merged_together(config):
            pool, start = self.place(f"{bank}_gradient")
            return pool, start + p.start
        sizes = {b.name: b.size for b in self.layout.banks}
        if bank.startswith("norm"):
            return f"{bank}_gradient", 0
        if bank.startswith("linear"):
            names = _layer_banks(self.layout)
            before = sum(sizes[name] for name in names[: names.index(bank)])
            return "layer_gradient", before // len(linear_names(config))
        if bank == "position":
            return self.place("d_branch")
        if bank.startswith("embed"):
            pool, start = self.place("embed_gradient")
            return pool, start + sum(
                sizes[f"embed_core{k}"] for k in range(int(bank.removeprefix("embed_core")))
            )
        head, _, part = bank.partition("_")
        pool, start = self.place(f"{head}_gradient")
        return pool, start + (sizes[f"{head}_weight"] if part == "bias" else 0)

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
        """Bytes of every array of the map, all of it allocated; the units' own are in fpga_bridge.budget."""
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
    return MemoryMap(config, layout, timeline, tuple(places), slots, slot_size, tuple(_fixed(layout)))


def _place(arrays: list[Temporary], slot_size: int) -> list[Place]:
    """The tightest of several first-fit placements.

    The widest arrays come first, as they need neighbouring slots, then those with many or long lives. Each
    order is improved: the arrays that ended up in the last slot go to the front, and so on while slots are
    wasted.
    """

    def width(array: Temporary) -> int:
        return -(-array.size // slot_size)

    def length(array: Temporary) -> int:
        return sum(last - first + 1 for first, last in array.intervals)

    last = max(end for array in arrays for _, end in array.intervals)
    live = [0] * (last + 1)
    for array in arrays:
        for first, end in array.intervals:
            for moment in range(first, end + 1):
                live[moment] += width(array)
    best: list[Place] = []
    fewest = len(arrays) * max(map(width, arrays)) + 1
    for order in (
        sorted(arrays, key=lambda a: (-width(a), a.intervals[0])),
        sorted(arrays, key=lambda a: (-width(a), -len(a.intervals), a.intervals[0])),
        sorted(arrays, key=lambda a: (-width(a), -length(a), a.intervals[0])),
    ):
        for _ in range(ATTEMPTS):
            placed = _first_fit(order, slot_size)
            slots = max(place.slot + place.slots for place in placed)
            if slots < fewest:
                best, fewest = placed, slots
            if fewest == max(live):
                return best
            blamed = {place.array for place in placed if place.slot + place.slots == slots}
            order = sorted(order, key=lambda array: array not in blamed)
    return best


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


def _fixed(layout: Layout) -> Iterable[Fixed]:
    config = layout.config
    width, tokens = config.d_model, config.seq_len
    yield Fixed("inverse_std", len(norm_names(config)) * tokens)
    for name in ("intent_hidden", "intent_active", "d_intent"):
        yield Fixed(name, width)
    for name in ("intent_logits", "d_intent_logits"):
        yield Fixed(name, pitch_of(config.n_intents))
    # Joint, intent and slot loss.
    yield Fixed("losses", 3)
    # A number one: the input that a bias is the weight of.
    yield Fixed("one", 1)
    # Read beside the values they are gradients of: a memory of their own, so that neither waits.
    yield Fixed("d_bond", pool_slot(config)["bond"])
    if config.immediate:
        of_layers = sum(bank.size for bank in layout.banks if bank.name in _layer_banks(layout))
        yield Fixed("layer_gradient", of_layers // len(linear_names(config)))
        for part in ("scale", "bias"):
            yield Fixed(f"norm_{part}_gradient", width)


def _layer_banks(layout: Layout) -> list[str]:
    """Banks of linear layers whose gradients, where they are applied at once, are so a layer at a time."""
    names = [bank.name for bank in layout.banks if bank.name.startswith("linear")]
    return [name for name in names if "core" not in name or not merged_together(layout.config)]


def extra_multiplications(config: ModelConfig) -> dict[str, int]:
    """Multiplications in products that a step does again to save memory.

    ``recompute``: the forward pass of recomputed blocks. ``rederive``: merged halves, and the embedding.
    """
    tokens, width = config.seq_len, config.d_model
    merges = _merge(config.in_modes, config.tt_ranks[: len(config.in_modes) + 1])
    merges += _merge(config.out_modes[::-1], config.tt_ranks[: len(config.in_modes) - 1 : -1])
    linear = merges + 2 * tokens * width * config.bond
    block = len(BLOCK_LINEARS) * linear + 2 * tokens * tokens * width
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
