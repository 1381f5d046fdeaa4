"""What the simulated U50 refuses, as the hardware or its driver does, and the faults planted in it."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.device import encode_examples, logits_per_example
from fpga_bridge.devices.csim import INFER, STEP, STORE, CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.kernel.interface import HBM_BANK_BYTES
from fpga_bridge.simulated_u50 import simulated_xclbin
from fpga_bridge.simulated_u50.xclbin import write_xclbin
from tests.fpga_bridge.samples import TINY, random_params, rates, sentences
from tests.fpga_bridge.simulated_card import UNKNOWN, Card

pytestmark = [pytest.mark.xrt, pytest.mark.usefixtures("two_sound_cards")]


# What the hardware or its driver refuses.


def test_a_card_that_is_not_there_is_refused(pyxrt: Any) -> None:
    with pytest.raises(RuntimeError, match="open device"):
        pyxrt.device(2)
    for address in ("0000:00:02.0", "0000:01:00.0", "0000:00:00.1", "0000:00:00.0 ", "card"):
        with pytest.raises(RuntimeError, match=rf"no card {address} is simulated, .* 2 by"):
            pyxrt.device(address)


def test_another_platform_is_refused(pyxrt: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = CsimDevice(TINY).manifest
    path = tmp_path / "other.xclbin"
    write_xclbin(path, build_kernel(manifest), platform="xilinx_u280_gen3x16_xdma_1_202211_1")
    with pytest.raises(RuntimeError):
        pyxrt.device(0).load_xclbin(str(path))
    assert "refused an xclbin for xilinx_u280" in capfd.readouterr().err


def test_a_bitstream_is_refused(pyxrt: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bits = tmp_path / "real.bit"
    bits.write_bytes(b"\xff" * 1000)
    write_xclbin(tmp_path / "real.xclbin", bits)
    with pytest.raises(RuntimeError):
        pyxrt.device(0).load_xclbin(str(tmp_path / "real.xclbin"))
    assert "not a kernel compiled for simulation" in capfd.readouterr().err


def test_another_xclbin_is_refused_while_a_unit_is_in_use(pyxrt: Any, card: Card) -> None:
    with pytest.raises(RuntimeError):
        pyxrt.device(0).load_xclbin(str(simulated_xclbin(replace(TINY, n_slots=TINY.n_slots + 1))))


def test_a_unit_held_by_another_is_busy(pyxrt: Any, xclbin: Path, card: Card) -> None:
    with pytest.raises(RuntimeError, match=r"busy|Device or resource"):
        Card(pyxrt, xclbin)


@pytest.mark.parametrize(
    ("size", "bank"), [(4096, 9), (4096, 32), (HBM_BANK_BYTES, 1), (1 << 40, 1)],
    ids=["unused bank", "no such bank", "too large", "absurd"],
)  # fmt: skip
def test_a_buffer_that_no_bank_can_hold_is_refused(pyxrt: Any, card: Card, size: int, bank: int) -> None:
    if bank == 1 and size == HBM_BANK_BYTES:
        size += 4096
    with pytest.raises((RuntimeError, MemoryError)):
        pyxrt.bo(card.device, size, pyxrt.bo.normal, bank)


def test_a_sync_beyond_the_end_is_refused(pyxrt: Any, card: Card) -> None:
    bo, _ = card.buffer("image", 1000)
    with pytest.raises(RuntimeError):
        bo.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, 8192, 4096)


def test_an_unaligned_address_ends_in_an_error(card: Card, capfd: pytest.CaptureFixture[str]) -> None:
    results, _ = card.buffer("results", 4096)
    part = card.x.bo(results, 4096, 2)
    assert card.ends_as(card.run(UNKNOWN, results=part)) == "ERROR"
    assert "argument 4 is not aligned" in capfd.readouterr().err


def test_too_small_a_buffer_ends_in_an_error(card: Card, capfd: pytest.CaptureFixture[str]) -> None:
    image, _ = card.buffer("image", 8)
    results, _ = card.buffer("results", 1)
    assert card.ends_as(card.run(STORE, image=image, results=results)) == "ERROR"
    assert "argument 3 is not in a buffer, or reaches beyond its end" in capfd.readouterr().err


# Memory is handed out by pages of 1024 words. So many examples fill whole ones, and so do their results
# without the status.
PAGE = N = 1024


@pytest.mark.parametrize(
    ("command", "of_example"), [(STEP, 3), (INFER, logits_per_example(TINY))], ids=["step", "infer"]
)
def test_a_buffer_holds_every_example_or_the_run_ends_in_an_error(
    card: Card, capfd: pytest.CaptureFixture[str], command: int, of_example: int
) -> None:
    card.load(card.pack(random_params(TINY)))
    records = np.tile(encode_examples(sentences(TINY, 1), rates(1), TINY), (N, 1)).reshape(-1)
    # The last are so many that their bytes are few again in 32 bits.
    refusals = {
        (N, records.size, 1 + N * of_example): None,
        (
            N,
            records.size - PAGE,
            1 + N * of_example,
        ): "argument 2 is not in a buffer, or reaches beyond its end",
        (N, records.size, N * of_example): "argument 4 is not in a buffer, or reaches beyond its end",
        (2**30, records.size, PAGE): "argument 2 is not in a buffer, or reaches beyond its end",
    }
    for (n, given, found), message in refusals.items():
        results, _ = card.buffer("results", found)
        examples, host = card.buffer("examples", given)
        host[:] = records[:given]
        card.up(examples)
        run = card.run(command, n, examples=examples, results=results)
        assert card.ends_as(run) == ("ERROR" if message else "COMPLETED")
        assert (message or "") in capfd.readouterr().err


def test_a_kernel_that_leaves_an_array_ends_in_an_error(
    pyxrt: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel, sources = CsimDevice(TINY), kernel_sources()
    old = "write(parameter_at.array, at, count"
    assert old in sources["update.hpp"]
    broken = sources["update.hpp"].replace(old, "write(parameter_at.array, at + 100000, count")
    path = tmp_path / "broken.xclbin"
    write_xclbin(path, build_kernel(kernel.manifest, {**sources, "update.hpp": broken}))
    other = Card(pyxrt, path)
    other.load(kernel.pack(random_params(TINY)))
    results, _ = other.buffer("results", 4)
    records = encode_examples(sentences(TINY, 1), rates(1), TINY).reshape(-1)
    examples, host = other.buffer("examples", records.size)
    host[:] = records
    other.up(examples)
    assert other.ends_as(other.run(STEP, 1, examples=examples, results=results)) == "ERROR"
    assert "a run ends in an error: instruction" in capfd.readouterr().err
    other.store()


@pytest.mark.parametrize("command", [STEP, INFER])
def test_examples_that_are_not_there_end_in_an_error(
    card: Card, capfd: pytest.CaptureFixture[str], command: int
) -> None:
    results, status = card.buffer("results", PAGE)
    assert card.ends_as(card.run(command, 1, results=results)) == "ERROR"
    assert "argument 2 (examples) is null" in capfd.readouterr().err
    card.finish(card.run(command, 0, results=results))
    card.down(results)
    assert status[0] == 0


@pytest.mark.parametrize("bad", [1.5, 2**32, "1", None, 1j])
def test_what_is_no_whole_number_of_32_bits_raises(card: Card, bad: object) -> None:
    with pytest.raises(TypeError, match="32-bit whole numbers"):
        card.x.run(card.kernel).set_arg(0, bad)
    with pytest.raises(TypeError, match="32-bit whole numbers"):
        card.kernel(bad, 0)


# Planted faults.


def test_a_busy_unit_shows(pyxrt: Any, xclbin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTFPGA_SIM_FAULT", "busy")
    with pytest.raises(RuntimeError, match=r"busy|Device or resource"):
        Card(pyxrt, xclbin)


def test_a_run_that_never_ends_shows_and_can_be_left(
    pyxrt: Any, xclbin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(pyxrt, xclbin)
    results, _ = card.buffer("results", 1)
    monkeypatch.setenv("TTFPGA_SIM_FAULT", "hang:2")
    card.finish(card.run(UNKNOWN, results=results))
    hung, behind = (card.run(UNKNOWN, results=results) for _ in range(2))
    assert "COMPLETED" not in (card.ends_as(hung, 0.05), card.ends_as(behind, 0.05))
    # RUNNING, which pyxrt has no name for.
    assert int(hung.state()) == 3
    assert behind.state() == pyxrt.ert_cmd_state.ERT_CMD_STATE_QUEUED
    del card, results, hung, behind
    gc.collect()
    again = Card(pyxrt, xclbin)
    results, _ = again.buffer("results", 1)
    again.finish(again.run(UNKNOWN, results=results))


def test_a_run_that_fails_shows(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    results, _ = card.buffer("results", 1)
    monkeypatch.setenv("TTFPGA_SIM_FAULT", "error")
    assert card.ends_as(card.run(UNKNOWN, results=results)) == "ERROR"


@pytest.mark.parametrize(("fault", "wrong"), [("bitflip", 1), ("lost_sync", 1000), ("lost_readback", 1000)])
def test_a_transfer_that_goes_wrong_shows(
    card: Card, monkeypatch: pytest.MonkeyPatch, fault: str, wrong: int
) -> None:
    bo, host = card.buffer("image", 1000)
    monkeypatch.setenv("TTFPGA_SIM_FAULT", fault)
    host[:] = 0x1234
    card.up(bo)
    host[:] = 0
    card.down(bo)
    assert (host != 0x1234).sum() == wrong


def test_an_unknown_fault_is_refused(pyxrt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTFPGA_SIM_FAULT", "bitflop")
    with pytest.raises(RuntimeError):
        pyxrt.device(0)
