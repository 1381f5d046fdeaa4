"""Calls that end early on the XRT device: Ctrl-C leaves no run behind, and no call hides the sensors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.xrt import XrtDevice
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import TINY, one_of, random_params, rates, same_bits, sentences
from ttjax import UserError

POWER = {"electrical": '{"power_consumption_watts": "20"}'}


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., XrtDevice]:
    path = tmp_path / "card.xclbin"
    path.write_bytes(b"xclbin2")
    return lambda card, module=None: XrtDevice(
        TINY, "0", path, pyxrt=module or make_pyxrt(card), examples_per_run=2
    )


def interrupting(module: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C in that call of a run whose number is the list's, counted from 1 and from 0 again after it."""
    call, left = getattr(module.run, what), [0]

    def interrupted(run: Any, *arguments: Any) -> Any:
        left[0] -= 1
        found = call(run, *arguments) if what == "start" or left[0] else None
        if left[0] == 0:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(module.run, what, interrupted)
    return left


@pytest.mark.parametrize(
    ("what", "number"), [("start", 1), ("start", 2), ("start", 4), ("wait", 1), ("wait", 4)]
)
def test_ctrl_c_in_a_queue_leaves_no_run_behind(
    what: str, number: int, opened: Callable[..., XrtDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    card, params, batch, csim = Card(TINY), random_params(TINY), sentences(TINY, 9), CsimDevice(TINY)
    module = make_pyxrt(card)
    csim.load(params)
    with opened(card, module) as device:
        device.load(params)
        left = interrupting(module, what, monkeypatch)
        left[0] = number
        with pytest.raises(KeyboardInterrupt):
            device.steps(batch, rates(9))
        assert not card.queue
        device.load(params)
        assert same_bits(device.steps(batch, rates(9)), csim.steps(batch, rates(9)))


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("what", ["start", "wait"])
def test_ctrl_c_in_a_single_run_leaves_it_not_behind(
    what: str, trace: bool, opened: Callable[..., XrtDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(TINY)
    module = make_pyxrt(card)
    with opened(card, module) as device:
        device.load(random_params(TINY))
        interrupting(module, what, monkeypatch)[0] = 1
        with pytest.raises(KeyboardInterrupt):
            device.step(one_of(sentences(TINY, 1)), 0.0, trace=trace)
        assert not card.queue


def test_a_second_ctrl_c_while_a_run_is_waited_for_gives_the_device_up(
    opened: Callable[..., XrtDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_pyxrt(Card(TINY))
    with opened(None, module) as device:

        def interrupted(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(module.run, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            device.read()
        monkeypatch.undo()
        with pytest.raises(UserError, match="a run that never ended"):
            device.read()


def test_sensors_are_read_while_the_card_runs(opened: Callable[..., XrtDevice]) -> None:
    """Else a meter would have no sample of the run that it measures."""
    card = Card(TINY, info=POWER)
    with opened(card) as device:
        seen: list[float | None] = []

        def while_it_runs(_: Any) -> None:
            reader = threading.Thread(target=lambda: seen.append(device.sensors().power_w), daemon=True)
            reader.start()
            reader.join(5)
            assert seen == [20.0], "the sensors waited for the run"

        card.on_run = while_it_runs
        device.read()


def test_a_device_that_is_closed_within_a_meters_block_ends_its_samples(
    opened: Callable[..., XrtDevice],
) -> None:
    with opened(Card(TINY, info=POWER)) as device, device.energy() as meter:
        device.close()
    assert not meter._thread.is_alive()
    assert all(watts == 20.0 for _, watts in meter.samples)


def test_sensors_of_a_device_that_is_being_closed_are_refused(opened: Callable[..., XrtDevice]) -> None:
    device = opened(Card(TINY))
    del device._device
    with pytest.raises(UserError, match="closed"):
        device.sensors()
