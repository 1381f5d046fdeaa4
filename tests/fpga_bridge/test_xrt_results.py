"""What comes back from a card in part, or spoilt: results of which some were not written, an image's hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.memory.layout import HASH_WORDS
from tests.fpga_bridge.fake_pyxrt import Card, Direction, make_pyxrt
from tests.fpga_bridge.samples import TINY, differing, random_params, rates, sentences
from ttjax import UserError

FROM = Direction.XCL_BO_SYNC_BO_FROM_DEVICE
# Order of allocation: image, then examples and results of the first run.
IMAGE, RESULTS = 0, 2


@pytest.fixture
def card() -> Card:
    return Card(TINY)


@pytest.fixture
def device(card: Card, tmp_path: Path) -> XrtDevice:
    path = tmp_path / "card.xclbin"
    path.write_bytes(b"xclbin2")
    device = XrtDevice(TINY, "0", path, pyxrt=make_pyxrt(card))
    device.load(random_params(TINY))
    return device


@pytest.mark.parametrize("written", [1, 2, 6])
def test_results_of_which_a_part_was_not_written_are_refused(
    written: int, card: Card, device: XrtDevice
) -> None:
    """A kernel that ends after its status, or after a loss or all but one; each result is asked for."""
    results = card.buffers[RESULTS]

    def ends_early(bo: Any, way: Direction) -> bool:
        if bo is results and way is FROM:
            results.device[written:7] = erased
        return True

    # What the device marks results with before a run, as a kernel that wrote nothing leaves them.
    card.writes = False
    with pytest.raises(UserError, match="lost sync: the results came back as before the run"):
        device.steps(sentences(TINY, 2), rates(2))
    erased, card.writes, card.on_sync = results.device[0], True, ends_early
    with pytest.raises(UserError, match="lost sync: a part of the results came back as before the run"):
        device.steps(sentences(TINY, 2), rates(2))


@pytest.mark.parametrize("word", range(HASH_WORDS))
def test_a_stored_image_with_another_hash_is_refused(word: int, card: Card, device: XrtDevice) -> None:
    image = card.buffers[IMAGE]

    def flip(bo: Any, way: Direction) -> bool:
        if bo is image and way is FROM:
            image.device[word] ^= 1
        return True

    card.on_sync = flip
    with pytest.raises(UserError, match=f"read-back differs: word {word} of image was written as 0x"):
        device.read()
    card.on_sync = lambda bo, way: True
    assert differing(device.read(), random_params(TINY)) == []
