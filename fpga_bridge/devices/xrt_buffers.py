"""One kernel argument's buffer on both sides of PCIe: the host's map of it and the card's memory.

Nothing crosses but by ``sync``; so a lost one is seen, each buffer is erased before the kernel writes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fpga_bridge.devices.xrt_errors import allocating, memory_differs, transferring, unwritten
from fpga_bridge.kernel.interface import Argument

# A NaN that no arithmetic makes: what still reads so was not written.
ERASED = np.uint32(0xFFFFDEAD)
# Transfers are whole beats of the card's data path.
_BEAT = 64


class Buffer:
    """A buffer object of 32-bit words in the bank of its argument, tested when it is made.

    Uses ``map`` alone: with NumPy 2 the vendor's ``bo.read`` returned wrong data (XRT issue 8258).
    """

    def __init__(
        self, pyxrt: Any, device: Any, kernel: Any, argument: Argument, index: int, words: int
    ) -> None:
        self.name = argument.name
        size = -(-max(words, 1) * 4 // _BEAT) * _BEAT
        with allocating(self.name, size, argument.bank):
            self.bo = pyxrt.bo(device, size, pyxrt.bo.flags.normal, kernel.group_id(index))
            self.words = np.frombuffer(self.bo.map(), np.uint32, size // 4)
        directions = pyxrt.xclBOSyncDirection
        self._to_device = directions.XCL_BO_SYNC_BO_TO_DEVICE
        self._from_device = directions.XCL_BO_SYNC_BO_FROM_DEVICE
        self._test()

    def write(self, data: np.ndarray) -> None:
        """Words into the card's memory."""
        flat = _words(data)
        self.words[: flat.size] = flat
        self._sync(self._to_device, flat.size)

    def erase(self, words: int) -> None:
        """Marks the first words as not written, on both sides."""
        self.words[:words] = ERASED
        self._sync(self._to_device, words)

    def fetch(self, words: int) -> np.ndarray:
        """The first words as the card's memory has them, a view of the host's map."""
        self._sync(self._from_device, words)
        return self.words[:words]

    def read_written(self, words: int, what: str) -> np.ndarray:
        """What the kernel wrote to an erased buffer.

        Raises:
            UserError: the first word is still erased, so that nothing came.
        """
        found = self.fetch(words)
        if found[0] == ERASED:
            raise unwritten(what)
        return found

    def check(self, data: np.ndarray) -> None:
        """Reads back what was written and compares every bit.

        The map is spoilt first: a transfer that is lost in this direction must not pass for one that agreed.
        """
        expected = _words(data)
        np.invert(expected, out=self.words[: expected.size])
        found = self.fetch(expected.size)
        if not np.array_equal(found, expected):
            word = int(np.flatnonzero(found != expected)[0])
            raise memory_differs(self.name, word, int(expected[word]), int(found[word]))

    def _test(self) -> None:
        """A pattern that differs from word to word, there and back."""
        pattern = np.arange(1, self.words.size + 1, dtype=np.uint32) * np.uint32(2654435761)
        self.write(pattern)
        self.check(pattern)

    def _sync(self, direction: Any, words: int) -> None:
        with transferring(self.name):
            self.bo.sync(direction, -(-words * 4 // _BEAT) * _BEAT, 0)


def _words(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data).reshape(-1).view(np.uint32)
