"""Bytes of a memory map, by hand: two arrays that share a slot, and one that has its own memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fpga_bridge.memory.lifetimes import Temporary
from fpga_bridge.memory.memory_map import Fixed, Place, make_memory_map
from tests.fpga_bridge.samples import TINY


@pytest.mark.parametrize("immediate", [True, False])
def test_bytes_are_those_of_what_is_there_shared_and_live(immediate: bool) -> None:
    """Of an array at both ends of its life."""
    twice = Temporary("twice", 0, (0, 1), "activation", 5, ((0, 2), (5, 5)))
    other = Temporary("other", 0, (0, 1), "activation", 7, ((3, 4),))
    memory = replace(
        make_memory_map(TINY.replace(immediate=immediate)),
        places=(Place(twice, 0, 1), Place(other, 0, 1)),
        slots={"activation": 1},
        slot_size={"activation": 8},
        fixed=(Fixed("fixed", 3),),
    )
    assert memory.temporary_bytes == 4 * (8 + 3)
    assert memory.unshared_bytes == 4 * (5 + 7 + 3)
    of_parameters = 4 * memory.layout.size * (1 if immediate else 2)
    assert memory.total_bytes == of_parameters + memory.temporary_bytes
    live = [(n - of_parameters) // 4 - 3 for n in memory.live_bytes()]
    assert live == [5, 5, 5, 7, 7, 5] + [0] * (len(memory.timeline.stages) - 6)
