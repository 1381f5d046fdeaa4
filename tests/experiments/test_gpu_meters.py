"""The meter of a GPU's energy where a reading takes time, or fails in the course of the work."""

from __future__ import annotations

import threading

import pytest

from experiments.gpu_meters import EnergyMeter, NotMeasured


class NVMLError(Exception):
    pass


class Nvml:
    """Always uses 100 W; a power reading takes 1 s. counts: readings of its energy counter that succeed."""

    NVMLError = NVMLError

    def __init__(self, counts: int = 0, fails_in_a_thread: bool = False) -> None:
        self.now, self.counts, self.fails, self.sampled = 0.0, counts, fails_in_a_thread, threading.Event()

    def work(self) -> None:
        assert self.sampled.wait(10)
        self.now += 4.0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        self.counts -= 1
        if self.counts < 0:
            raise NVMLError("Not Supported")
        return round(1e5 * self.now)

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        if threading.current_thread() is not threading.main_thread():
            self.sampled.set()
            if self.fails:
                raise NVMLError("GPU is lost")
        else:
            self.now += 1.0
        return 100_000


def meter_of(nvml: Nvml) -> EnergyMeter:
    return EnergyMeter(nvml, 0, clock=lambda: nvml.now)


def test_energy_and_time_are_of_the_same_span() -> None:
    """Readings before and after the work, which take time, are no part of it."""
    nvml = Nvml()
    energy = meter_of(nvml).measure(nvml.work, seconds=4.0)
    assert energy.source == "samples" and energy.seconds == 4.0
    assert energy.joules == pytest.approx(400) and energy.watts == pytest.approx(100)


def test_a_power_reading_that_fails_while_it_works_is_no_measurement() -> None:
    nvml = Nvml(fails_in_a_thread=True)
    with pytest.raises(NotMeasured, match=r"power was not to be read all the time: .*GPU is lost"):
        meter_of(nvml).measure(nvml.work, seconds=4.0)


def test_a_counter_that_fails_while_it_works_is_no_measurement() -> None:
    nvml = Nvml(counts=1)
    nvml.sampled.set()
    with pytest.raises(NotMeasured, match=r"energy counter failed while it was read .Not Supported."):
        meter_of(nvml).measure(nvml.work, seconds=4.0)
