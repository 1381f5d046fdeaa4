"""The builds for hardware, with taps and without, give the bits of C simulation's.

Multiplexers, registers, bounds and modes stand twice in the kernel: as hardware has them, where
``__SYNTHESIS__`` is defined, which Vitis HLS does, and as g++ makes them fast.
"""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fpga_bridge.device import encode_examples
from fpga_bridge.devices.csim import INFER, LOAD, STEP, STORE, CsimDevice
from fpga_bridge.kernel import build
from fpga_bridge.kernel.build import find_compiler, kernel_sources, write_sources
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY, differing, one_of, random_params, rates, same_bits, sentences
from ttjax import ModelConfig

# Nothing counts trips there, nor looks whether a unit works alone. Quickly compiled: bits don't depend on it.
SYNTHESISED = ("-D__SYNTHESIS__", "-Wno-unused-parameter", "-O1")


def test_what_only_synthesis_compiles_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    ordinary, batch = CsimDevice(TINY), sentences(TINY, 5)
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *SYNTHESISED))
    synthesised = CsimDevice(TINY)
    for device in (ordinary, synthesised):
        device.load(random_params(TINY))
    assert same_bits(synthesised.steps(batch, rates(5)), ordinary.steps(batch, rates(5)))
    last = one_of(batch, 4)
    trace, expected = (device.step(last, 0.1, trace=True).trace for device in (synthesised, ordinary))
    assert trace and expected
    assert [name for name in expected if not same_bits(trace[name], expected[name])] == []
    assert differing(synthesised.read(), ordinary.read()) == []
    for logits, expected_logits in zip(synthesised.infer_all(batch), ordinary.infer_all(batch), strict=True):
        assert same_bits(logits, expected_logits)


@pytest.mark.parametrize("flags", [(), SYNTHESISED], ids=["simulated", "synthesised"])
def test_the_build_without_taps_gives_the_same_bits(flags: tuple[str, ...], tmp_path: Path) -> None:
    """TTFPGA_TAPS is 0 and the top function has five arguments."""
    device, library = CsimDevice(TINY), build_untapped(TINY, tmp_path, flags)
    image = device.pack(random_params(TINY))
    batch = sentences(TINY, 4)
    examples, results = encode_examples(batch, rates(4), TINY), np.zeros(13, np.float32)
    logits = np.zeros(1 + 4 * (TINY.n_intents + TINY.seq_len * TINY.n_slots), np.float32)

    def run(command: int, n: int, into: np.ndarray) -> None:
        library.run(command, n, *(ctypes.c_void_p(a.ctypes.data) for a in (examples, image, into)))
        assert into[0] == 0.0

    run(LOAD, 0, results)
    run(STEP, 4, results)
    run(INFER, 4, logits)
    image[:] = 0
    run(STORE, 0, np.zeros(1, np.float32))

    device.load(random_params(TINY))
    losses = device.steps(batch, rates(4))
    assert same_bits(results[1:], losses.reshape(-1))
    assert differing(device.manifest.layout.unpack(image, device.hash), device.read()) == []
    expected = device.infer_all(batch)
    rows = logits[1:].reshape(4, -1)
    assert same_bits(rows[:, : TINY.n_intents], expected.intent)
    slots = rows[:, TINY.n_intents :].reshape(expected.slots.shape)
    is_token = np.arange(TINY.seq_len) < batch.length[:, None]
    assert same_bits(slots[is_token], expected.slots[is_token])


def build_untapped(config: ModelConfig, folder: Path, more: tuple[str, ...]) -> ctypes.CDLL:
    """The kernel with TTFPGA_TAPS at its default, behind an entry that sets the arithmetic mode."""
    write_sources({**kernel_sources(), HEADER_NAME: header(make_manifest(config))}, folder)
    shim = folder / "shim.cpp"
    shim.write_text(
        '#include "kernel.cpp"\n#include <immintrin.h>\n'
        'extern "C" __attribute__((visibility("default"))) void run(uint32_t command, uint32_t n,\n'
        "    const uint32_t* examples, uint32_t* image, float* results) {\n"
        "  const unsigned mode = _mm_getcsr();\n"
        "  _mm_setcsr(mode | 0x8040u);\n"
        "  ttfpga_kernel(command, n, examples, image, results);\n"
        "  _mm_setcsr(mode);\n}\n"
    )
    flags = [flag for flag in build.FLAGS if "TTFPGA_TAPS" not in flag]
    flags += [*more, *build.WARNINGS, f"-I{folder}"]
    subprocess.run([find_compiler(), *flags, str(shim), "-o", str(folder / "untapped.so")], check=True)
    return ctypes.CDLL(str(folder / "untapped.so"))
