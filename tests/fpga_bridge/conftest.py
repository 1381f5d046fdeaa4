"""The simulated U50 as fixtures: pyxrt, the xclbin of TINY, a card; skipped where there is no XRT."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.xrt_sensors import is_simulated
from fpga_bridge.simulated_u50 import import_pyxrt, simulated_xclbin
from tests.fpga_bridge.samples import TINY
from tests.fpga_bridge.simulated_card import Card


@pytest.fixture(scope="session")
def pyxrt() -> Any:
    try:
        module = import_pyxrt()
    except MissingXrt as error:
        pytest.skip(str(error))
    if not is_simulated(module):
        pytest.skip("the vendor's pyxrt is installed: these tests are of the simulated card")
    return module


@pytest.fixture
def two_sound_cards(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TTFPGA_SIM_DEVICES", "2")
    monkeypatch.delenv("TTFPGA_SIM_FAULT", raising=False)
    yield
    # A card is closed when the last object that knows it is gone.
    gc.collect()


@pytest.fixture(scope="session")
def xclbin(pyxrt: Any) -> Path:
    return simulated_xclbin(TINY)


@pytest.fixture
def card(pyxrt: Any, xclbin: Path) -> Card:
    return Card(pyxrt, xclbin)
