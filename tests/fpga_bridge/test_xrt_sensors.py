"""What a card says of itself: clock, temperature and power where it reports them, and energy from samples.

A stand-in for pyxrt reports; what the simulated U50 reports through the real runtime is in test_xrt_real.py.
"""

from __future__ import annotations

import json
from pathlib import Path

from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.devices.xrt_sensors import EnergyMeter
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import TINY


def opened(card: Card, folder: Path) -> XrtDevice:
    (folder / "card.xclbin").write_bytes(b"xclbin2")
    return XrtDevice(TINY, "0", folder / "card.xclbin", pyxrt=make_pyxrt(card))


def test_sensors_are_absent_not_zero(tmp_path: Path) -> None:
    with opened(Card(TINY), tmp_path) as device:
        found = device.sensors()
        assert (found.clock_mhz, found.temperature_c, found.power_w) == (None, None, None)
        with device.energy() as meter:
            pass
        assert meter.joules is None
    info = {
        "thermal": json.dumps(
            {
                "thermals": [
                    {"location_id": "pcb_top_front", "temp_C": "31", "is_present": "true"},
                    {"location_id": "fpga0", "temp_C": "44", "is_present": "true"},
                ]
            }
        ),
        "electrical": json.dumps({"power_consumption_watts": "21.5"}),
        "max_clock_frequency_mhz": "100",
    }
    with opened(Card(TINY, info=info), tmp_path) as device:
        found = device.sensors()
        assert (found.clock_mhz, found.temperature_c, found.power_w) == (100.0, 44.0, 21.5)
        with device.energy() as meter:
            pass
        assert meter.joules is not None and meter.joules > 0
    thermals = [{"location_id": "fpga0", "temp_C": "44", "is_present": "false"}]
    info["thermal"] = json.dumps({"thermals": thermals})
    info["electrical"] = json.dumps({"power_consumption_watts": "N/A"})
    with opened(Card(TINY, info=info), tmp_path) as device:
        assert device.sensors().power_w is None
        assert device.sensors().temperature_c is None


def test_energy_is_the_integral_of_the_samples() -> None:
    meter = EnergyMeter(lambda: None)
    meter.samples = [(0.0, 10.0), (1.0, 20.0), (3.0, 20.0)]
    assert meter.joules == 15.0 + 40.0
