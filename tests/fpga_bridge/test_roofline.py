"""Words that contractions move, counted by hand."""

from __future__ import annotations

import pytest

from fpga_bridge.cycles.roofline import kind_of, words_moved
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.accelerator import Accelerator
from fpga_bridge.program.instructions import ENGINE, LENGTH, Flag, Instruction, Op, Operand
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.program.ports import Ports
from tests.fpga_bridge.samples import TINY


class WordsOfFour(Ports):
    """Every memory's words hold four elements."""

    def lanes(self, array: str) -> int:
        return 4


# On a tile of 4 × 8, by hand, in words of four: narrow rows are 1 or 2 words, wide ones 2 or 4.
NARROW, WIDE = Operand("narrow", row=8), Operand("wide", row=16)
BY_HAND = {
    # 5 tokens: 3 rows of 1 + 2 words, and the tile's 4 rows of 2; a wide row that begins off a word is 3.
    "sums stay": (Instruction(Op.TO_TILE, ("", ""), (NARROW, WIDE, WIDE), 4, 8, 3, LENGTH), 5 * (9 + 8)),
    "off words": (
        Instruction(Op.TO_TILE, ("", ""), (NARROW, WIDE.at(1), WIDE), 4, 8, 3, LENGTH),
        5 * (12 + 8),
    ),
    # All of one digit: 4 of the 5 read the tile before they write it.
    "sums of a digit": (
        Instruction(Op.TO_TILE, ("", ""), (NARROW, WIDE, WIDE), 4, 8, 3, LENGTH, order=0),
        5 * (9 + 8) + 4 * 8,
    ),
    # 2 × 2 tiles: narrow rows come for both columns of tiles, wide ones for both rows; sums of 16 columns.
    "tiles": (
        Instruction(Op.TO_TILE, ("", ""), (NARROW, WIDE, WIDE, None, None, WIDE), 8, 16, 3),
        3 * (2 * 2 + 2 * 4) + 8 * 4 + 4,
    ),
    # Reads narrow for both columns of tiles; result, addend and bias once.
    "to wide": (
        Instruction(Op.TO_WIDE, ("", ""), (NARROW, WIDE, WIDE, WIDE, WIDE), 8, 16, 3),
        3 * (2 * 2 + 4 + 4 + 4) + 8 * 4,
    ),
    # The tiled matrix lies as 16 rows of 8, read 4 at a time.
    "to narrow": (
        Instruction(Op.TO_NARROW, ("", ""), (NARROW, WIDE, NARROW), 8, 16, 3, flags=Flag.TRANSPOSED),
        3 * (2 * 4 + 2) + 16 * 2,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_words_moved_are_those_counted_by_hand(name: str) -> None:
    job, words = BY_HAND[name]
    assert (
        words_moved(job, WordsOfFour(make_memory_map(TINY), Accelerator(tile_rows=4, tile_lanes=8)), 5)
        == words
    )


def test_a_contraction_of_a_stage_that_no_kind_knows_is_not_counted_as_another() -> None:
    job = Instruction(Op.TO_WIDE, ("forward", "block0.gate"), (NARROW, WIDE, WIDE), stream=LENGTH)
    with pytest.raises(AssertionError, match=r"a contraction of no kind: in stage block0.gate"):
        kind_of(job)


def test_the_embedding_made_again_is_of_its_kind() -> None:
    """What reads the embedding's cores, in whichever stage."""
    program = make_program(make_manifest(TINY.replace(rederive=True)))
    found = {
        (job.stage, kind_of(job))
        for job in program.instructions
        if job.op in ENGINE and any(o is not None and o.array.startswith("embed_core") for o in job.operands)
    }
    assert found == {
        (("forward", "embed"), "forward embedding"),
        (("backward", "embed"), "backward embedding"),
        (("backward", "embed_norm"), "backward embedding"),
    }


def test_a_contraction_is_of_the_kind_that_its_stage_and_stream_say() -> None:
    """The intent's head streams one token; halves that are merged on the spot stream none."""
    kinds: dict[tuple[str, str], set[str]] = {}
    for job in make_program(make_manifest(TINY.replace(rederive=True))).instructions:
        if job.op in ENGINE:
            kinds.setdefault(job.stage, set()).add(kind_of(job).removeprefix(f"{job.stage[0]} "))
    layers = {"layers: tokens", "layers: cores"}
    for phase in ("forward", "backward"):
        for name in ("intent_pre", "slot_pre", "block0.ffn_out", "block1.q"):
            assert kinds.pop((phase, name)) == layers, (phase, name)
        for name in ("intent_out", "slot_out"):
            assert kinds.pop((phase, name)) == {"classifiers"}, (phase, name)
        assert kinds.pop((phase, "block1.attention")) == {"attention"}
    assert set.union(*kinds.values()) == layers | {"attention", "embedding"}
