"""Cards by name: what is called simulated, which program a card gets, and a vendor's pyxrt that is broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fpga_bridge import simulated_u50
from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.by_name import open_device
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import TINY
from ttjax import UserError


@pytest.fixture
def pyxrt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for the vendor's module."""
    module = make_pyxrt(Card(TINY))
    monkeypatch.setitem(sys.modules, "pyxrt", module)
    return module


@pytest.fixture
def xclbin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card's program, and the one that a simulated card would get."""
    path = tmp_path / "card.xclbin"
    path.write_bytes(b"xclbin2")
    monkeypatch.setattr(simulated_u50, "simulated_xclbin", lambda config: path)
    return path


def test_a_simulated_card_is_called_so_and_gets_its_program(pyxrt: Any, xclbin: Path) -> None:
    pyxrt.ttfpga_simulated = True
    for given in (None, xclbin):
        opened = open_device("xrt:0", TINY, xclbin=given)
        assert (opened.label, opened.simulated) == ("simulated U50 xrt:0", True)


def test_a_real_card_is_called_so_and_gets_no_simulated_program(pyxrt: Any, xclbin: Path) -> None:
    opened = open_device("xrt:0", TINY, xclbin=xclbin)
    assert (opened.label, opened.simulated) == ("U50 xrt:0", False)
    with pytest.raises(UserError, match="--xclbin: expected the card's program, found none; build it with"):
        open_device("xrt:0", TINY)


def test_a_vendors_module_that_lacks_another_is_not_replaced_by_a_simulated_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyxrt.py").write_text("import a_module_that_pyxrt_needs\n")
    monkeypatch.delitem(sys.modules, "pyxrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"pyxrt can't be imported .*'a_module_that_pyxrt_needs'") as caught:
        simulated_u50.import_pyxrt()
    assert not isinstance(caught.value, MissingXrt)
