"""The model of memory blocks: measured mappings, and what must hold of any bank. No synthesis tool is run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.memory.blocks import (
    U50_RAW,
    U50_USABLE,
    BankShape,
    BlockCount,
    Budget,
    Kind,
    bank_mapping,
    block_count,
    efficiency,
    total_blocks,
)
from ttjax.errors import UserError

# Width, depth, kind, write and read ports, then RAMB18 halves and URAM, as measured with yosys 0.23.
MEASURED: list[tuple[int, int, Kind, int, int, int, int]] = [
    (72, 512, "bram", 1, 1, 2, 0),
    (36, 512, "bram", 1, 1, 1, 0),
    (32, 1024, "bram", 1, 1, 2, 0),
    (72, 4096, "bram", 1, 1, 16, 0),
    (72, 4096, "uram", 1, 1, 0, 1),
    (32, 768, "bram", 1, 1, 2, 0),
    (384, 768, "bram", 1, 1, 22, 0),
    (384, 1344, "bram", 1, 1, 33, 0),
    (36, 1024, "bram", 1, 2, 4, 0),
    (36, 1024, "bram", 2, 2, 2, 0),
    (72, 512, "bram", 2, 2, 4, 0),
    (704, 1, "bram", 1, 3, 20, 0),
    (65, 5000, "uram", 1, 1, 0, 2),
    (72, 4096, "uram", 1, 2, 0, 2),
    (72, 4096, "uram", 2, 2, 0, 1),
    (512, 1536, "uram", 2, 2, 0, 8),
    (512, 5808, "uram", 2, 2, 0, 15),
    (512, 2736, "bram", 2, 2, 86, 0),
    (32, 64, "lutram", 1, 1, 0, 0),
    (384, 32, "registers", 1, 1, 0, 0),
]


@st.composite
def shapes(draw: st.DrawFn) -> BankShape:
    kinds: list[Kind] = ["bram", "uram"]
    kind = draw(st.sampled_from(kinds))
    write_ports = draw(st.integers(1, 2))
    read_ports = draw(st.integers(1, 2 if write_ports == 2 else 4))
    width, depth = draw(st.integers(1, 1200)), draw(st.integers(1, 20_000))
    return BankShape("bank", width, depth, kind, write_ports, read_ports)


def blocks(shape: BankShape, **changed: int) -> int:
    count = block_count(replace(shape, **changed))
    return count.bram18 + count.uram


@pytest.mark.parametrize(("width", "depth", "kind", "writes", "reads", "bram18", "uram"), MEASURED)
def test_the_model_gives_the_measured_counts(width, depth, kind, writes, reads, bram18, uram) -> None:
    assert block_count(BankShape("bank", width, depth, kind, writes, reads)) == BlockCount(bram18, uram)


def test_a_reshaped_bank_saves_a_block_over_twelve_separate_ones() -> None:
    separate = [BankShape(f"lane{i}", 32, 768, "bram") for i in range(12)]
    assert total_blocks(separate).bram36 == 12
    assert block_count(BankShape("reshaped", 12 * 32, 768, "bram")).bram36 == 11


@given(shapes())
def test_no_fewer_bits_are_occupied_than_used(shape: BankShape) -> None:
    copies = shape.read_ports if shape.write_ports == 1 and shape.depth > 1 else 1
    assert block_count(shape).bits >= copies * shape.bits
    assert 0 < efficiency([shape]) <= 1


@given(shapes())
def test_a_deeper_bank_and_one_of_twice_the_width_take_no_fewer_blocks(shape: BankShape) -> None:
    assert blocks(shape, depth=shape.depth + 1) >= blocks(shape)
    assert blocks(shape, depth=2 * shape.depth) >= blocks(shape)
    assert blocks(shape, width=2 * shape.width) >= blocks(shape)


def test_a_slightly_wider_bank_can_take_fewer_blocks() -> None:
    """At first the tool pays two blocks to select among no slices; test_synthesis has it do the same."""
    narrow, wide = BankShape("narrow", 207, 3378, "bram"), BankShape("wide", 208, 3378, "bram")
    assert (block_count(narrow).bram36, block_count(wide).bram36) == (23, 21)


@given(shapes())
def test_each_read_port_beside_one_write_port_is_a_copy(shape: BankShape) -> None:
    one = replace(shape, depth=max(2, shape.depth), write_ports=1, read_ports=1)
    mapping = bank_mapping(one)
    assert mapping is not None
    for reads in (2, 3, 4):
        count = block_count(replace(one, read_ports=reads))
        if mapping.slices == 1:  # with more, the cost of selecting can change the aspect
            assert count == sum([mapping.count] * reads, BlockCount())
        assert count.bits >= reads * one.bits


def test_efficiency_counts_banks_in_blocks_alone() -> None:
    full, half = BankShape("full", 72, 512, "bram"), BankShape("half", 36, 512, "uram")
    assert efficiency([full]) == 1
    assert efficiency([half]) == 36 * 512 / 294_912
    assert efficiency([full, half]) == (72 + 36) * 512 / (36_864 + 294_912)
    assert efficiency([full, BankShape("small", 32, 64, "lutram")]) == 1
    assert efficiency([BankShape("small", 32, 64, "lutram")]) == 1


def test_halves_make_whole_blocks() -> None:
    count = total_blocks([BankShape(f"half{i}", 36, 512, "bram") for i in range(3)])
    assert (count.bram18, count.bram36) == (3, 1.5)


def test_the_u50() -> None:
    assert (U50_RAW.bram36, U50_RAW.uram, U50_USABLE.bram36, U50_USABLE.uram) == (1344, 640, 1128, 608)
    assert (U50_USABLE.per_slr.bram36, U50_USABLE.per_slr.uram) == (564, 304)
    assert (U50_RAW.bram_mb, U50_RAW.uram_mb) == pytest.approx((6.193152, 23.592960))
    assert (U50_USABLE.bram_mb, U50_USABLE.uram_mb) == pytest.approx((5.197824, 22.413312))


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 250), st.integers(0, 150))
def test_what_is_left_fits_what_the_whole_fits_beside_what_is_taken(bram, uram, bram18, more) -> None:
    taken, count = BlockCount(bram18, uram), BlockCount(2 * more, more)
    budget = Budget(bram + 40, uram + 100, slrs=2)
    left = budget.less(taken)
    assert left.slrs == 2
    assert left.fits(count) == budget.fits(taken + count)


def test_a_budget_fits_up_to_its_last_half_block() -> None:
    assert U50_USABLE.fits(BlockCount(2256, 608))
    assert not U50_USABLE.fits(BlockCount(2257, 0))
    assert not U50_USABLE.fits(BlockCount(0, 609))


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ((0, 8, "bram"), "width, depth, write_ports and read_ports of at least 1, found 0, 8, 1 and 1"),
        ((8, 0, "uram"), "found 8, 0, 1 and 1"),
        ((8, 8, "bram", 1, 0), "found 8, 8, 1 and 0"),
        ((8, 8, "lutram", 2, 1), "expected one write port in lutram, found 2"),
        ((8, 8, "bram", 3, 1), "found 3 to write and 1 to read"),
        ((8, 8, "uram", 3, 1), "found 3 to write and 1 to read"),
        ((8, 8, "uram", 2, 3), "found 2 to write and 3 to read"),
        ((8, 8, "bram", 2, 3), "found 2 to write and 3 to read"),
    ],
)
def test_a_bank_that_cannot_be_is_refused(ports, message) -> None:
    with pytest.raises(UserError, match=f"^bank odd: .*{message}"):
        BankShape("odd", *ports)
