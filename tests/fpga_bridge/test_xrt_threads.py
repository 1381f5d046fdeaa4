"""The XRT device under several threads: what belongs together is one turn, and nothing comes between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.xrt import XrtDevice
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import (
    RATE,
    TINY,
    differing,
    one_of,
    random_params,
    rates,
    same_bits,
    sentences,
)
from ttjax import flatten

# A thread that must wait for its turn is still there after so long; one that need not has long ended.
WAIT_S = 0.3


@pytest.fixture
def xclbin(tmp_path: Path) -> Path:
    path = tmp_path / "card.xclbin"
    path.write_bytes(b"xclbin2")
    return path


def steps_of_another_thread(device: XrtDevice, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Before the device next reads its parameters, another thread sets out to train; returns its end."""
    store = device._store
    other = threading.Thread(target=lambda: device.steps(sentences(TINY, 1, 9), rates(1)))

    def interrupted() -> np.ndarray:
        if other.ident is None:
            other.start()
            other.join(WAIT_S)
        return store()

    monkeypatch.setattr(device, "_store", interrupted)
    return other.join


def test_no_step_comes_between_writing_parameters_and_reading_them_back(
    xclbin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = random_params(TINY)
    with XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(Card(TINY))) as device:
        ended = steps_of_another_thread(device, monkeypatch)
        device.load(params)
        ended()
        assert differing(device.read(), params) != []


def test_a_step_without_taps_shows_the_parameters_that_it_left(
    xclbin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, sentence, csim = random_params(TINY), one_of(sentences(TINY, 1)), CsimDevice(TINY)
    csim.load(params)
    csim.step(sentence, RATE)
    with XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(Card(TINY, taps=False))) as device:
        device.load(params)
        ended = steps_of_another_thread(device, monkeypatch)
        trace = device.step(sentence, RATE, trace=True).trace or {}
        ended()
    after = flatten(csim.read())
    assert [name for name in after if not same_bits(trace[f"new_{name}"], after[name])] == []
