"""What the card says of itself through XRT: clock, temperature, power, and the energy of a run.

What it does not report is None, never zero. What a simulated card reports is made up, and marked so.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from ttjax import UserError


@dataclass(frozen=True)
class Sensors:
    """One reading: the fastest clock, the FPGA's temperature, the whole card's power.

    simulated: of a card that is not there; none of the numbers is a measurement.
    """

    clock_mhz: float | None
    temperature_c: float | None
    power_w: float | None
    simulated: bool = False


def read_sensors(pyxrt: Any, device: Any) -> Sensors:
    """What the device reports now."""
    thermal = _parsed(information(pyxrt, device, "thermal"))
    temperature = None
    for sensor in thermal.get("thermals", []):
        if str(sensor.get("is_present", "true")) == "true" and "fpga" in str(sensor.get("location_id", "")):
            temperature = _positive(sensor.get("temp_C"))
    electrical = _parsed(information(pyxrt, device, "electrical"))
    return Sensors(
        clock_mhz=_positive(information(pyxrt, device, "max_clock_frequency_mhz")),
        temperature_c=temperature,
        power_w=_positive(electrical.get("power_consumption_watts")),
        simulated=is_simulated(pyxrt),
    )


def is_simulated(pyxrt: Any) -> bool:
    """Whether the module drives simulated cards: ours says so, the vendor's has no such name."""
    return bool(getattr(pyxrt, "ttfpga_simulated", False))


def information(pyxrt: Any, device: Any, key: str) -> str | None:
    """One item of `device.get_info` as text, None where this runtime or device does not have it."""
    try:
        return str(device.get_info(getattr(pyxrt.xrt_info_device, key)))
    except (AttributeError, RuntimeError, OSError, ValueError, TypeError, IndexError):
        return None


class EnergyMeter:
    """Samples power while it is open: ``with EnergyMeter(read) as meter: …``, then ``meter.joules``.

    ``read`` gives watts or None. ``joules`` is the integral over the samples, None without two of them.
    Closing the device within the block ends the samples. ``simulated``: the watts are a simulated card's, and
    so are the joules.
    """

    def __init__(
        self, read: Callable[[], float | None], interval_s: float = 0.1, *, simulated: bool = False
    ) -> None:
        self.simulated = simulated
        self._read = read
        self._interval = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.samples: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._take()

    @property
    def joules(self) -> float | None:
        """Trapezoids between neighbouring samples."""
        if len(self.samples) < 2:
            return None
        pairs = zip(self.samples, self.samples[1:], strict=False)
        return sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairs)

    def _sample(self) -> None:
        while True:
            self._take()
            if self._ended.wait(self._interval):
                return

    def _take(self) -> None:
        try:
            watts = self._read()
        except UserError:
            # A device that was closed meanwhile has no more to say.
            self._ended.set()
            return
        if watts is not None:
            self.samples.append((time.perf_counter(), watts))


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _positive(value: object) -> float | None:
    """A reading, which XRT gives as text; "N/A", 0 and less mean that there is none."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if number > 0 else None
