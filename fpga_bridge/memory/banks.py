"""The physical memories of a memory map: words, depth and kind of each, for the budget and for synthesis.

Parameters of one kind and position share a memory over all layers (grouping): a single core is far smaller
than a memory block. Each slot of an activation has a memory of its own, so that no two arrays of a stage
wait for one port.
"""

from __future__ import annotations

from collections.abc import Iterator

from fpga_bridge.memory.blocks import BankShape, Kind
from fpga_bridge.memory.layout import MAX_LANES
from fpga_bridge.memory.memory_map import MemoryMap

WORD_BITS = 32  # of a float32
PORTS = 2  # of a memory, each of which reads or writes a word a cycle
# Up to this many words a memory is built from LUTs: a block would be almost empty.
LUTRAM_DEPTH = 64
# From this many words on UltraRAM, which is 4096 words deep, is filled.
URAM_DEPTH = 4096
# Pools of which a stage touches several arrays at once.
SLOT_MEMORIES = ("activation", "attention")


def bank_shapes(memory: MemoryMap, *, grouped: bool = True) -> list[BankShape]:
    """All memories of the kernel, two ports each.

    ``grouped``: False gives each parameter tensor (and its held gradient) a memory of its own, to compare.
    """
    return [*parameter_shapes(memory, grouped=grouped), *temporary_shapes(memory)]


def shapes_by_array(memory: MemoryMap) -> dict[str, BankShape]:
    """The memory of each array, by the array's name; of a pool with one for each slot, the last slot's."""
    return {shape.name.partition("[")[0]: shape for shape in bank_shapes(memory)}


def parameter_shapes(memory: MemoryMap, *, grouped: bool = True) -> list[BankShape]:
    """Memories of the parameters, and of their gradients where these are held."""
    layout = memory.layout
    if grouped:
        sizes = [(bank.name, bank.lanes, bank.words) for bank in layout.banks]
    else:
        sizes = [
            (p.name, layout.banks[p.bank].lanes, p.size // layout.banks[p.bank].lanes)
            for p in layout.placements
        ]
    copies = ("",) if memory.config.immediate else ("", "_gradient")
    return [_shape(name + copy, lanes, words) for copy in copies for name, lanes, words in sizes]


def temporary_shapes(memory: MemoryMap) -> list[BankShape]:
    """Memories of the pools and of the small fixed arrays."""
    shapes = []
    for pool, slots in memory.slots.items():
        lanes, size = array_lanes(memory, pool), memory.slot_size[pool]
        if pool in SLOT_MEMORIES:
            kind: Kind = "uram" if pool == "activation" else "bram"
            shapes += [_shape(f"{pool}[{slot}]", lanes, -(-size // lanes), kind) for slot in range(slots)]
        else:
            # A stage touches one layer's: all layers share a memory.
            shapes.append(_shape(pool, lanes, -(-slots * size // lanes)))
    for array in memory.fixed:
        lanes = min(array_lanes(memory, array.name), array.size)
        shapes.append(_shape(array.name, lanes, -(-array.size // lanes)))
    return shapes


def array_lanes(memory: MemoryMap, name: str) -> int:
    """Float32 elements of a word of an array: a bank's own number, of temporary arrays the most."""
    lanes = {bank.name: bank.lanes for bank in memory.layout.banks}
    return lanes.get(name.removesuffix("_gradient"), MAX_LANES)


def core_shapes(memory: MemoryMap, *, grouped: bool) -> Iterator[BankShape]:
    """Memories of the TT cores alone: what grouping is about."""
    for shape in parameter_shapes(memory, grouped=grouped):
        if "core" in shape.name and "embed" not in shape.name and "gradient" not in shape.name:
            yield shape


def _shape(name: str, lanes: int, words: int, kind: Kind | None = None) -> BankShape:
    if kind is None:
        kind = "lutram" if words <= LUTRAM_DEPTH else "uram" if words >= URAM_DEPTH else "bram"
    if kind == "lutram":
        # One port writes and one reads, each as many elements as the two words that the units move in a
        # cycle. Every lane is a memory of its own: a run of so many elements may begin at any of them.
        # One such word, or less, is registers.
        lanes, words = min(PORTS, words) * lanes, -(-words // PORTS)
        return BankShape(name, lanes * WORD_BITS, words, kind if words > 1 else "registers")
    return BankShape(name, lanes * WORD_BITS, words, kind, write_ports=PORTS, read_ports=PORTS)
