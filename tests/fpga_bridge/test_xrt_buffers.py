"""One buffer on both sides of PCIe: its test reaches every word, and so do writing and erasing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fpga_bridge.devices.xrt_buffers import ERASED, Buffer
from fpga_bridge.kernel.interface import arguments
from tests.fpga_bridge.fake_pyxrt import Card, Direction, make_pyxrt
from tests.fpga_bridge.samples import TINY
from ttjax import UserError

ARGUMENT = next(argument for argument in arguments(taps=True) if argument.kind == "buffer")
TO, FROM = Direction.XCL_BO_SYNC_BO_TO_DEVICE, Direction.XCL_BO_SYNC_BO_FROM_DEVICE
WORDS = 40  # three transfers' beats, the last of them in part


def made(card: Card) -> Buffer:
    kernel = SimpleNamespace(group_id=lambda index: ARGUMENT.bank)
    return Buffer(make_pyxrt(card), None, kernel, ARGUMENT, 0, WORDS)


def last_bit_stuck(memory: np.ndarray) -> None:
    memory[-1] |= 1 << 31
    memory[-1] ^= 1


def one_beat_for_all(memory: np.ndarray) -> None:
    memory[16:] = memory[:16].tolist() * (len(memory) // 16 - 1)


@pytest.mark.parametrize(("spoil", "word"), [(last_bit_stuck, 47), (one_beat_for_all, 16)])
def test_memory_that_is_not_its_own_in_one_word_is_found_as_it_is_made(
    spoil: Callable[[np.ndarray], None], word: int
) -> None:
    """A word that keeps nothing, and addresses of which the upper bits are lost."""
    card = Card(TINY)

    def spoilt(bo: Any, way: Direction) -> bool:
        if way is FROM:
            spoil(bo.device)
        return True

    card.on_sync = spoilt
    with pytest.raises(UserError, match=f"read-back differs: word {word} of"):
        made(card)


def test_what_is_written_or_erased_is_so_on_the_card_to_its_last_word() -> None:
    card = Card(TINY)
    buffer = made(card)
    numbers = np.arange(WORDS, dtype=np.uint32)
    (bo,) = card.buffers
    buffer.write(numbers)
    np.testing.assert_array_equal(bo.device[:WORDS], numbers)
    buffer.erase(17)
    assert (bo.device[:17] == ERASED).all() and (bo.device[17:WORDS] == numbers[17:]).all()
    with pytest.raises(UserError):
        buffer.read_written(17, "nothing")
    bo.device[:17] = 5
    assert (buffer.read_written(17, "fives") == 5).all()


def test_a_lost_transfer_from_the_card_is_no_agreement() -> None:
    card = Card(TINY)
    buffer = made(card)
    numbers = np.arange(WORDS, dtype=np.uint32)
    buffer.write(numbers)
    card.on_sync = lambda bo, way: way is TO
    with pytest.raises(UserError, match="read-back differs: word 0 of"):
        buffer.check(numbers)
