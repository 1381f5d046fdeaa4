"""The baseline on a GPU: a short run without one, its meters on a made-up GPU and on made-up programs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from rich.console import Console

from experiments import gpu_baseline, gpu_training
from experiments.gpu_baseline import GpuBaseline
from experiments.gpu_meters import EnergyMeter, NotMeasured, launches, open_meter
from ttjax.errors import UserError

GPU_KEYS = {"launches", "peak_bytes", "peak_is_bound", "epoch_joules", "scaled_epoch_joules", "watts"}


class NVMLError(Exception):
    pass


class Nvml:
    """NVML of one GPU that uses 100 W plus 50 W a second; its clock goes on by 2 s with each work."""

    NVMLError = NVMLError

    def __init__(self, counts: bool = True, power: bool = True, sliced: bool | None = False) -> None:
        self.counts, self.power, self.sliced, self.now = counts, power, sliced, 7.0
        self.asked: list[Any] = []

    def work(self) -> None:
        self.now += 2.0

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetName(self, handle: object) -> bytes:
        return b"NVIDIA H200"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        if index > 1:
            raise NVMLError("Invalid Argument")
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> object:
        self.asked.append(uuid)
        return uuid

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:
        if self.sliced is None:
            raise NVMLError("Not Supported")
        return [int(self.sliced), 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        if not self.counts:
            raise NVMLError("Not Supported")
        return round(1e3 * (100 * self.now + 25 * self.now**2))

    def nvmlDeviceGetPowerUsage(self, handle: object) -> int:
        if not self.power:
            raise NVMLError("Not Supported")
        return round(1e3 * (100 + 50 * self.now))


def meter_of(nvml: Nvml) -> EnergyMeter:
    return EnergyMeter(nvml, 0, clock=lambda: nvml.now)


@pytest.mark.parametrize("source", ["counter", "samples"])
def test_energy_is_power_over_time(source: str) -> None:
    """From 7 s to 13 s at 100 W + 50 W/s: 6·100 + 25·(169 - 49) = 3600 J. Trapezoids are exact on a line."""
    nvml = Nvml(counts=source == "counter")
    energy = meter_of(nvml).measure(nvml.work, seconds=5.0)
    assert energy.source == source and energy.rounds == 3 and energy.seconds == 6.0
    assert energy.joules == pytest.approx(3600) and energy.watts == pytest.approx(600)


def test_a_gpu_that_tells_nothing() -> None:
    nvml = Nvml(counts=False, power=False)
    with pytest.raises(NotMeasured, match="neither energy nor power"):
        meter_of(nvml).measure(nvml.work, seconds=1.0)
    assert nvml.now == 7.0, "it worked for nothing"


@pytest.mark.parametrize("visible", [None, "0", "1,0", "GPU-5"])
def test_the_meter_is_of_the_first_visible_gpu(visible: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml(sliced=None)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = open_meter()
    assert nvml.asked == [{None: 0, "0": 0, "1,0": 1, "GPU-5": "GPU-5"}[visible]]
    assert (meter.name, meter.driver) == ("NVIDIA H200", "570.1")


@pytest.mark.parametrize(
    ("library", "visible", "message"),
    [
        (None, "0", "nvidia-ml-py is not installed"),
        (Nvml(), "2", "no GPU that NVML can see .Invalid Argument."),
        (Nvml(), "", "no GPU: CUDA_VISIBLE_DEVICES is ''"),
        (Nvml(), "MIG-1", "slice"),
        (Nvml(sliced=True), "0", "slice"),
    ],
)
def test_why_there_is_no_meter(
    library: Nvml | None, visible: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # type: ignore[arg-type]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(NotMeasured, match=message):
        open_meter()


@pytest.mark.parametrize(
    ("platform", "kind", "message"),
    [("cpu", "cpu", "JAX runs on the cpu"), ("gpu", "NVIDIA T4", "NVML's first GPU is NVIDIA H200")],
)
def test_energy_of_another_device_is_not_taken(
    platform: str, kind: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(NotMeasured, match=message):
        gpu_training._meter_of(SimpleNamespace(platform=platform, device_kind=kind))


@pytest.mark.parametrize(
    ("epoch", "key", "steps"), [(True, "epoch_joules", 40), (False, "scaled_epoch_joules", 8)]
)
def test_energy_of_an_epoch(epoch: bool, key: str, steps: int) -> None:
    """100 W + 50 W/s from 7 s to 17 s: 4000 J in 5 rounds of an epoch's 40 sentences, or of 8 of them."""
    nvml = Nvml()
    training: Any = SimpleNamespace(**{"scan_epoch" if epoch else "scan": nvml.work})
    job: Any = SimpleNamespace(epoch=epoch, steps=8)
    found = gpu_training._energy(training, job, 40, meter_of(nvml))
    assert found[key] == pytest.approx(7000 / (5 * steps) * 40)
    assert set(found) == {key, "watts", "energy_source", "energy_seconds"}


PROGRAM = """HloModule jit_scan_steps, is_scheduled=true

%fused.1 (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %add.9 = f32[2]{0} add(%p, %p)
}

%short (s.1: (f32[2])) -> (f32[2]) {
  %s.1 = (f32[2]{0}) parameter(0)
  ROOT %t.1 = (f32[2]{0}) tuple(%s.1)
}

%long (s.2: (f32[2])) -> (f32[2]) {
  %s.2 = (f32[2]{0:S(1)}) parameter(0)
  %f.2 = f32[2]{0:S(1)} fusion(%s.2), kind=kLoop, calls=%fused.1
  %g.2 = (f32[2]{0}, /*index=1*/s8[64]{0}) custom-call(%f.2), custom_call_target="__cublas$gemm"
  %d.2 = f32[2]{0} dot(%f.2, %f.2), lhs_contracting_dims={0}
  ROOT %t.2 = (f32[2]{0}) tuple(%d.2)
}

%inner (s.3: (s32[])) -> (s32[]) {
  %s.3 = (s32[]) parameter(0)
  ROOT %f.3 = (s32[]) fusion(%s.3), kind=kLoop, calls=%fused.1
}

%buffer (s.4: f32[2]) -> f32[2] {
  %s.4 = f32[2]{0} parameter(0)
  %c.4 = f32[2]{0} copy-start(%s.4)
  ROOT %c.5 = f32[2]{0} copy-done(%c.4)
}

%body (s.5: (s32[], f32[2])) -> (s32[], f32[2]) {
  %s.5 = (s32[], f32[2]{0}) parameter(0)
  %e.5 = f32[2]{0} get-tuple-element(%s.5), index=1
  %w.5 = (s32[]) while(%s.5), condition=%cond, body=%inner, backend_config={"known_trip_count":{"n":"3"}}
  %i.5 = (f32[2]{0}) conditional(%w.5, %s.5, %s.5), branch_computations={%short, %long}
  %b.5 = f32[2]{0} bitcast(%e.5)
  %k.5 = f32[2]{0} call(%b.5), to_apply=%buffer
  ROOT %t.5 = (s32[], f32[2]{0}) tuple(%w.5, %k.5)
}

%cond (s.6: (s32[], f32[2])) -> pred[] {
  ROOT %l.6 = pred[] compare(%s.6, %s.6), direction=LT
}

ENTRY %main.7 (x.7: f32[2]) -> (s32[], f32[2]) {
  %x.7 = f32[2]{0} parameter(0)
  %c.7 = f32[2]{0} copy(%x.7)
  %small.7 = (s32[]) while(%c.7), condition=%cond, body=%inner, backend_config={"known_trip_count":{"n":"2"}}
  ROOT %w.7 = (s32[], f32[2]{0}) while(%c.7), condition=%cond, body=%body, backend_config={TRIPS}
}
"""


@pytest.mark.parametrize("trips", [12, 6])
def test_launches_of_a_made_up_program(trips: int) -> None:
    """Of 12 steps, as they are or unrolled in pairs; then each kind counts half, rounded up."""
    expected = {"fusion": 4, "conditional": 1, "custom-call __cublas$gemm": 1, "dot": 1, "copy-start": 1}
    text = PROGRAM.replace("TRIPS", f'"known_trip_count":{{"n":"{trips}"}}')
    assert launches(text, 12) == Counter({kind: -(-n * trips // 12) for kind, n in expected.items()})


def test_launches_of_a_compiled_loop() -> None:
    """Each product is one launch more, in the loop or in the longer branch, however many steps there are."""

    def counted(steps: int, products: int) -> Counter[str]:
        def repeated(a: Array, times: int) -> Array:
            return a if times == 0 else repeated(a @ a, times - 1)

        @jax.jit
        def loop(a: Array) -> Array:
            def step(a: Array, number: Array) -> tuple[Array, None]:
                turned = jax.lax.cond(number > 0, lambda: repeated(a, products), lambda: jnp.sin(a))
                return repeated(turned, products), None

            return jax.lax.scan(step, a, jnp.arange(steps, dtype=jnp.int32) % 2)[0]

        return launches(loop.lower(jnp.ones((128, 128), jnp.float32)).compile().as_text() or "", steps)

    assert counted(5, 2) == counted(50, 2) and counted(5, 2)["conditional"] == 1
    assert counted(5, 5).total() == counted(5, 2).total() + 2 * 3


def test_a_program_without_a_known_loop() -> None:
    with pytest.raises(NotMeasured, match="no loop of a known number"):
        launches(PROGRAM.replace("known_trip_count", "unknown"), 12)


def test_shortened_products_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu_training.product_error() < 1e-6

    def as_tf32(a: np.ndarray) -> Array:
        """10 bits of mantissa, the rest cut off."""
        return jnp.asarray((a.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32))

    monkeypatch.setattr(gpu_training, "jnp", SimpleNamespace(asarray=as_tf32))
    with pytest.raises(RuntimeError, match="aren't float32"):
        gpu_training.product_error()


@pytest.mark.parametrize("epoch", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_short_run_without_a_gpu(
    epoch: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a GPU has is absent, not zero, and said."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    study = GpuBaseline(
        "tiny", formats=("dense",), steps=4, rounds=2, data="travel", out=tmp_path, epoch=epoch
    )
    assert study.run() == 0
    result, text = json.loads((tmp_path / "gpu_baseline.json").read_text()), capsys.readouterr().out
    (row,) = result["rows"]
    assert not GPU_KEYS & set(row) and "flow" not in row and "idle_watts" not in result
    assert set(result["not_measured"]) == {"launches", "peak memory", "energy"}
    for what in result["not_measured"]:
        assert f"not measured: {what}: " in text
    assert result["data"]["synthetic"] and result["machine"]["matmul_precision"] == "highest"
    assert row["scan_ms"]["median"] > 0 and len(row["call_ms"]["rounds"]) == 2
    assert ("epoch_seconds" in row, "scaled_epoch_seconds" in row) == (epoch, not epoch)
    if not epoch:
        # A step a sentence, and travel has 2,000.
        assert row["scaled_epoch_seconds"] == pytest.approx(2 * row["scan_ms"]["median"])
    assert row["instructions"]["dot"] > 10 and row["program_bytes"] > 10_000
    titles = [column.header for column in gpu_baseline._table(result).columns]
    assert titles == ["", "scan\nms", "call\nms", "epoch\ns", "instr.", "prog.\nMB"]
    assert (tmp_path / "gpu_baseline.png").stat().st_size > 1000


def test_what_a_gpu_adds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table and plot of a made-up result: all columns; what is scaled or only a bound is marked."""
    times = {"median": 12.5, "quartiles": [12.0, 13.0]}
    rows = [
        {"format": "tt", "flow": "bidirectional", "peak_bytes": 9_000_000, "peak_is_bound": True},
        {"format": "dense", "peak_bytes": 80_000_000, "peak_is_bound": False},
    ]
    for row in rows:
        row |= {"scan_ms": times, "call_ms": times, "launches": {"fusion": 1200, "copy": 34}, "watts": 120.4}
        row |= {"scaled_epoch_seconds": 8.956, "scaled_epoch_joules": 1078.2, "program_bytes": 7_000_000}
    machine = {
        "device": "NVIDIA H200",
        "platform": "gpu",
        "matmul_precision": "highest",
        "product_error": 1e-7,
    }
    result = {"preset": "enc2", "machine": machine, "rows": rows, "sentences": 4478, "idle_watts": 70.0}
    result |= {"steps": 200, "rounds": 11, "data": {"name": "atis"}}
    Console(width=80).print(gpu_baseline._table(result))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "tt bidirectional 12.5±4% 12.5±4% ~9.0 1,234 7.0 ≤9.0 ~1,078 120" in lines
    assert "dense 12.5±4% 12.5±4% ~9.0 1,234 7.0 80.0 ~1,078 120" in lines
    facts = "\n".join(gpu_baseline._facts(result))
    assert "no TF32" in facts and "idle, before: 70 W" in facts and "launches: kernels" in facts
    gpu_baseline._draw(result, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "--steps: expected a whole number from 2 up, found 1"),
        ({"steps": 2001, "data": "travel"}, "--steps: expected at most 2000"),
        ({"rounds": 0}, "--rounds: expected a whole number from 1 up, found 0"),
        ({"formats": ()}, "--formats: expected at least one"),
        ({"formats": ("cp",)}, "--formats: expected tt or dense, found 'cp'"),
        ({"flows": ("up",)}, "unknown flow 'up'"),
        ({"preset": "enc3"}, "unknown preset 'enc3'"),
        ({"seed": -1}, "seed: expected a whole number"),
        ({"out": Path("no/such/folder")}, "--out: expected an existing folder"),
    ],
)
def test_options_it_refuses(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        GpuBaseline(**{"out": tmp_path, **options}).run()
    assert not list(tmp_path.iterdir())
