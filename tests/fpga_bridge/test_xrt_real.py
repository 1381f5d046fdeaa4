"""The XRT device through the real runtime, on the simulated U50.

Same host code as for a card, unmodified runtime; the kernel's bits must be csim's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fpga_bridge.agreement.lockstep import cosimulate
from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.devices.xrt_sensors import Sensors, is_simulated
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.kernel.interface import CLOCK_MHZ
from fpga_bridge.program.accelerator import DEFAULT
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.simulated_u50 import import_pyxrt, simulated_xclbin
from fpga_bridge.simulated_u50.xclbin import write_xclbin
from tests.fpga_bridge.samples import (
    OTHER_CONFIGS,
    RATE,
    TINY,
    differing,
    one_of,
    random_bits,
    random_params,
    rates,
    same_bits,
    sentences,
)
from ttjax import ModelConfig, UserError, preset

pytestmark = pytest.mark.xrt


@pytest.fixture(autouse=True, scope="module")
def runtime() -> None:
    """Two simulated cards; the tests are skipped, by name, where the runtime is missing."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TTFPGA_SIM_DEVICES", "2")
    try:
        pyxrt = import_pyxrt()
    except MissingXrt as error:
        pytest.skip(f"no XRT: {error}")
    if not is_simulated(pyxrt):
        pytest.skip("the vendor's pyxrt is here: these tests are for the simulated U50")


@pytest.fixture
def device() -> Iterator[XrtDevice]:
    with XrtDevice(TINY, "0", simulated_xclbin(TINY)) as opened:
        yield opened


@pytest.mark.parametrize(("config", "n"), [(TINY, 20), (preset("enc2"), 20)], ids=["tiny", "enc2"])
def test_locked_steps_have_every_bit_of_csim(config: ModelConfig, n: int) -> None:
    csim, batch = CsimDevice(config), sentences(config, n)
    with XrtDevice(config, "0", simulated_xclbin(config)) as device:
        for one in (csim, device):
            one.load(random_params(config))
        for i in range(n):
            expected, found = (one.step(one_of(batch, i), RATE, trace=True) for one in (csim, device))
            assert expected.trace is not None and found.trace is not None
            assert [*found.trace] == [*expected.trace]
            assert [
                name for name in found.trace if not same_bits(found.trace[name], expected.trace[name])
            ] == []
            assert (found.loss, found.intent_loss, found.slot_loss) == (
                expected.loss,
                expected.intent_loss,
                expected.slot_loss,
            )
        assert differing(device.read(), csim.read()) == []


@pytest.mark.parametrize("mode", ["locked", "isolated"])
def test_lockstep_agrees(device: XrtDevice, mode: str) -> None:
    report = cosimulate(device, random_params(TINY), sentences(TINY, 3), rates(3), mode=mode)  # type: ignore[arg-type]
    assert report.agree


@pytest.mark.parametrize("size", [1, 7, 32])
def test_a_thousand_steps_in_queued_runs_end_in_the_bits_of_csim(size: int) -> None:
    csim, batch = CsimDevice(TINY), sentences(TINY, 1000)
    with XrtDevice(TINY, "0", simulated_xclbin(TINY), examples_per_run=size) as device:
        for one in (csim, device):
            one.load(random_params(TINY))
        assert same_bits(device.steps(batch, rates(1000)), csim.steps(batch, rates(1000)))
        assert differing(device.read(), csim.read()) == []


def test_an_image_is_bits(device: XrtDevice) -> None:
    params = random_bits(TINY, 3)
    device.load(params)
    assert differing(device.read(), params) == []


def test_eight_threads_on_two_cards() -> None:
    """Steps at rate 0 leave the parameters alone, so that each thread knows its losses."""
    csim, xclbin = CsimDevice(TINY), simulated_xclbin(TINY)
    batches = [sentences(TINY, 9, seed) for seed in range(8)]
    zeros = np.zeros(9, np.float32)
    with (
        XrtDevice(TINY, "0", xclbin, examples_per_run=2) as first,
        XrtDevice(TINY, "1", xclbin, examples_per_run=2) as second,
    ):
        expected = []
        cards = (first, second)
        for number, card in enumerate(cards):
            csim.load(random_params(TINY, number))
            card.load(random_params(TINY, number))
            expected.append([csim.steps(batch, zeros) for batch in batches])
        wrong: list[int] = []

        def work(n: int) -> None:
            for _ in range(50):
                if not same_bits(cards[n % 2].steps(batches[n], zeros), expected[n % 2][n]):
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        for number, card in enumerate(cards):
            assert differing(card.read(), random_params(TINY, number)) == []


def test_a_card_is_held_by_one_alone_until_it_is_closed(device: XrtDevice) -> None:
    with pytest.raises(UserError, match="busy"):
        XrtDevice(TINY, "0", simulated_xclbin(TINY))
    device.close()
    XrtDevice(TINY, "0", simulated_xclbin(TINY)).close()


def test_an_xclbin_of_another_configuration_is_refused() -> None:
    with pytest.raises(UserError, match="stale xclbin"):
        XrtDevice(TINY, "0", simulated_xclbin(OTHER_CONFIGS["two_cores_a_side"]))


def test_an_xclbin_for_another_accelerator_is_refused(tmp_path: Path) -> None:
    other = replace(DEFAULT, sum_distance=DEFAULT.sum_distance + 1)
    library = build_kernel(make_manifest(TINY), accelerator=other)
    write_xclbin(tmp_path / "other.xclbin", library)
    with pytest.raises(UserError, match="stale xclbin"):
        XrtDevice(TINY, "0", tmp_path / "other.xclbin")


@pytest.mark.parametrize("address", ["7", "0000:00:02.0", "0000:17:00.1"])
def test_a_card_that_is_not_there_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=f"no device xrt:{address}"):
        XrtDevice(TINY, address, simulated_xclbin(TINY))


def test_a_card_is_chosen_by_its_bdf() -> None:
    xclbin = simulated_xclbin(TINY)
    with XrtDevice(TINY, "0000:00:01.0", xclbin) as second, XrtDevice(TINY, "0", xclbin) as first:
        for name in ("1", "00:01.0"):
            with pytest.raises(UserError, match="busy"):
                XrtDevice(TINY, name, xclbin)
        for number, card in enumerate((first, second)):
            card.load(random_params(TINY, number))
        for number, card in enumerate((first, second)):
            assert differing(card.read(), random_params(TINY, number)) == []


def test_energy_of_a_run_is_counted_and_called_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run that hangs, so that the meter sees a card at work."""
    with XrtDevice(TINY, "0", simulated_xclbin(TINY), timeout_s=0.5) as device:
        rest = device.sensors()
        assert rest == Sensors(clock_mhz=CLOCK_MHZ, temperature_c=40, power_w=15, simulated=True)
        monkeypatch.setenv("TTFPGA_SIM_FAULT", "hang")
        with device.energy() as meter, pytest.raises(UserError, match="timeout"):
            device.read()
    assert meter.simulated
    assert {watts for _, watts in meter.samples[1:]} == {25.0}
    (began, first), (next_at, _), (ended, _) = meter.samples[0], meter.samples[1], meter.samples[-1]
    assert meter.joules == pytest.approx((next_at - began) * (first + 25) / 2 + (ended - next_at) * 25)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("busy", "busy"),
        ("hang", r"timeout: the run did not end within 1 s \(state ERT_CMD_STATE_TIMEOUT\)"),
        ("error", "the run ended as|the run failed"),
        ("bitflip", "read-back differs: .* flipped bit"),
        ("lost_sync", "read-back differs: .* lost sync"),
        ("lost_readback", "read-back differs: .* lost sync"),
    ],
)
def test_a_planted_fault_is_caught_with_its_message(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTFPGA_SIM_FAULT", fault)
    with pytest.raises(UserError, match=message):
        XrtDevice(TINY, "1", simulated_xclbin(TINY), timeout_s=1).close()
