"""The U50's memory blocks, and how many of them a bank of a given width and depth occupies.

A model of what an open synthesis tool (yosys) chooses, held against it in fpga_bridge.budget.synthesis; not
Vitis's choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ttjax.errors import UserError

Kind = Literal["bram", "uram", "lutram", "registers"]

RAMB18_BITS = 18_432  # with parity, which stores data here
URAM_BITS = 294_912


@dataclass(frozen=True)
class BankShape:
    """One array of on-chip memory: ``depth`` words of ``width`` bits, of which each port moves one a cycle.

    With one write port every port has an address of its own (simple dual port). With two, two addresses are
    shared by all ports: each writes or reads one word a cycle (true dual port), so at most two read ports.

    Raises:
        UserError: a size or a number of ports is below 1, or the kind has no such ports.
    """

    name: str
    width: int
    depth: int
    kind: Kind
    write_ports: int = 1
    read_ports: int = 1

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.write_ports, self.read_ports) < 1:
            raise UserError(
                f"bank {self.name}: expected width, depth, write_ports and read_ports of at least 1, found"
                f" {self.width}, {self.depth}, {self.write_ports} and {self.read_ports}"
            )
        if self.write_ports > 1 and self.kind != "registers":
            if self.kind == "lutram":
                raise UserError(
                    f"bank {self.name}: expected one write port in lutram, found {self.write_ports};"
                    " bram and uram have two"
                )
            if self.write_ports > 2 or self.read_ports > 2:
                raise UserError(
                    f"bank {self.name}: expected at most two ports of each sort in a true dual port memory,"
                    f" found {self.write_ports} to write and {self.read_ports} to read"
                )

    @property
    def bits(self) -> int:
        """Bits stored: width × depth."""
        return self.width * self.depth


@dataclass(frozen=True)
class BlockCount:
    """Memory blocks in units of the smallest: a RAMB36 counts as two RAMB18, whose place it takes."""

    bram18: int = 0
    uram: int = 0

    @property
    def bram36(self) -> float:
        """Block RAM in RAMB36: a whole number or a half."""
        return self.bram18 / 2

    @property
    def bits(self) -> int:
        """Bits the blocks can hold, parity included."""
        return self.bram18 * RAMB18_BITS + self.uram * URAM_BITS

    def __add__(self, other: BlockCount) -> BlockCount:
        return BlockCount(self.bram18 + other.bram18, self.uram + other.uram)


@dataclass(frozen=True)
class Budget:
    """Memory blocks of a device, spread evenly over its dies (SLRs).

    ``bram36``, ``uram``: blocks on all dies together; ``slrs``: number of dies.
    """

    bram36: int
    uram: int
    slrs: int = 1

    @property
    def count(self) -> BlockCount:
        """The budget as a count."""
        return BlockCount(2 * self.bram36, self.uram)

    @property
    def per_slr(self) -> Budget:
        """The budget of one die."""
        return Budget(self.bram36 // self.slrs, self.uram // self.slrs)

    @property
    def bram_mb(self) -> float:
        """Block RAM in MB (10^6 bytes), parity included."""
        return 2 * self.bram36 * RAMB18_BITS / 8e6

    @property
    def uram_mb(self) -> float:
        """UltraRAM in MB (10^6 bytes), parity included."""
        return self.uram * URAM_BITS / 8e6

    def less(self, count: BlockCount) -> Budget:
        """What is left where a count is taken already; half a block of block RAM counts as one."""
        return replace(self, bram36=self.bram36 - -(-count.bram18 // 2), uram=self.uram - count.uram)

    def fits(self, count: BlockCount) -> bool:
        """Whether there are as many blocks of each sort."""
        return count.bram18 <= self.count.bram18 and count.uram <= self.uram


# Read in third-party platform files (a U50 entry: 1128 BRAM_18K and 304 URAM in each of SLR0 and SLR1); AMD's
# data sheet was not seen. Raw is the device, its even split an assumption; usable is what the shell (the
# card's own logic) leaves of it.
U50_RAW = Budget(bram36=1344, uram=640, slrs=2)
U50_USABLE = Budget(bram36=1128, uram=608, slrs=2)


@dataclass(frozen=True)
class Mapping:
    """How a bank is built: ``blocks`` of one primitive, each seen as ``depth`` words of ``width`` bits.

    ``slices``: how many blocks' depths the bank's depth spans, so how many a read selects among.
    """

    primitive: Literal["RAMB18", "RAMB36", "URAM288"]
    width: int
    depth: int
    slices: int
    blocks: int

    @property
    def count(self) -> BlockCount:
        """The blocks, in the smallest unit."""
        if self.primitive == "URAM288":
            return BlockCount(uram=self.blocks)
        return BlockCount(bram18=self.blocks * (2 if self.primitive == "RAMB36" else 1))


@dataclass(frozen=True)
class _Aspect:
    """One way to see a block: words × bits, bits per write enable, and the tool's cost of one block."""

    primitive: Literal["RAMB18", "RAMB36", "URAM288"]
    width: int
    depth: int
    byte: int
    cost: int


# The cost of a RAMB36 is one less than that of two RAMB18: where both do, the tool takes the whole block.
_NARROW = [
    *(_Aspect("RAMB18", w, d, min(w, 9), 129) for w, d in [(1, 16384), (2, 8192), (4, 4096), (9, 2048)]),
    _Aspect("RAMB18", 18, 1024, 9, 129),
    *(_Aspect("RAMB36", w, d, min(w, 9), 257) for w, d in [(1, 32768), (2, 16384), (4, 8192), (9, 4096)]),
    _Aspect("RAMB36", 18, 2048, 9, 257),
    _Aspect("RAMB36", 36, 1024, 9, 257),
]
# The widest words need the address pins of both ports: one address writes, the other reads.
_WIDE = [_Aspect("RAMB18", 36, 512, 9, 129), _Aspect("RAMB36", 72, 512, 9, 257)]
_ULTRA = [_Aspect("URAM288", 72, 4096, byte, 1024) for byte in (8, 9)]


def bank_mapping(shape: BankShape) -> Mapping | None:
    """The blocks a bank is built of; None for one that takes none (LUTRAM, registers).

    The rule is that of yosys 0.23 for UltraScale+ (its pass ``memory_libmap`` and its block descriptions):

    1. All blocks of a bank have one aspect (words × bits). ``slices = ceil(depth / aspect depth)``, and
       ``blocks = ceil(slices × word / aspect width)``, where a word is rounded up to whole write enables (of
       9 bits in block RAM, of the aspect's width if that is less; of 8 or 9 in UltraRAM). So the slices'
       remainders share blocks; another tool may not do that.
    2. A memory with one write port is copied for each read port, unless it is one word.
    3. Of the aspects the cheapest is taken, the earlier where two are equal. A RAMB18 costs 129, a RAMB36
       257, a URAM288 1024; half a unit each cost the bits of every slice but the first, for each read port
       (it selects among them), and the slices' write enables where there is more than one slice.
    """
    if shape.kind in ("lutram", "registers"):
        return None
    if shape.kind == "uram":
        aspects = _ULTRA
    else:
        aspects = _NARROW if shape.write_ports == 2 else _NARROW + _WIDE
    copies = shape.read_ports if shape.write_ports == 1 and shape.depth > 1 else 1
    best: tuple[float, Mapping] | None = None
    for aspect in aspects:
        slices = -(-shape.depth // aspect.depth)
        word = -(-shape.width // aspect.byte) * aspect.byte
        blocks = copies * -(-slices * word // aspect.width)
        select = shape.read_ports * (slices - 1) * shape.width
        enables = shape.write_ports * slices if slices > 1 else 0
        cost = blocks * aspect.cost + (select + enables) / 2
        if best is None or cost < best[0]:
            best = cost, Mapping(aspect.primitive, aspect.width, aspect.depth, slices, blocks)
    assert best is not None
    return best[1]


def block_count(shape: BankShape) -> BlockCount:
    """The memory blocks that a bank occupies, by the rule of ``bank_mapping``."""
    mapping = bank_mapping(shape)
    return BlockCount() if mapping is None else mapping.count


def total_blocks(shapes: Iterable[BankShape]) -> BlockCount:
    """The memory blocks of several banks together; no two banks share one."""
    return sum((block_count(shape) for shape in shapes), BlockCount())


def efficiency(shapes: Iterable[BankShape]) -> float:
    """Bits used over bits occupied, of the banks in memory blocks; 1.0 where no bank is in one.

    Occupied are whole blocks, parity included: 36,864 bits a RAMB36, 294,912 a URAM.
    """
    in_blocks = [shape for shape in shapes if bank_mapping(shape)]
    occupied = total_blocks(in_blocks).bits
    return sum(shape.bits for shape in in_blocks) / occupied if occupied else 1.0
