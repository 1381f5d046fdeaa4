"""The XRT device over a stand-in for pyxrt: bits as csim's, every failure as its own line, no lost transfer.

What the real runtime does with it is in test_xrt_real.py.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.lockstep import cosimulate
from fpga_bridge.cli import main
from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.kernel.interface import arguments
from fpga_bridge.simulated_u50 import build as simulation
from tests.fpga_bridge.fake_pyxrt import Card, Direction, State, make_pyxrt
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
from ttjax import UserError

TO, FROM = Direction.XCL_BO_SYNC_BO_TO_DEVICE, Direction.XCL_BO_SYNC_BO_FROM_DEVICE
# Order of allocation: image, then examples and results of each slot, then trace and overrides.
IMAGE, EXAMPLES, RESULTS, TRACE, OVERRIDES = 0, 1, 2, 5, 6


@pytest.fixture(scope="module")
def csim() -> CsimDevice:
    return CsimDevice(TINY)


@pytest.fixture
def xclbin(tmp_path: Path) -> Path:
    path = tmp_path / "card.xclbin"
    path.write_bytes(b"xclbin2")
    return path


def opened(card: Card, xclbin: Path, **options: Any) -> XrtDevice:
    return XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(card), **options)


def lose(card: Card, buffer: int, direction: Direction) -> None:
    """From now on that buffer's transfers in that direction do nothing."""
    lost = card.buffers[buffer]
    card.on_sync = lambda bo, way: not (bo is lost and way is direction)


def test_steps_end_in_the_bits_of_csim_however_they_are_queued(csim: CsimDevice, xclbin: Path) -> None:
    batch, params = sentences(TINY, 23), random_params(TINY)
    csim.load(params)
    losses, after = csim.steps(batch, rates(23)), csim.read()
    logits = csim.infer_all(batch)
    for size in (1, 2, 5, 23, 64):
        card = Card(TINY)
        with opened(card, xclbin, examples_per_run=size) as device:
            device.load(params)
            assert same_bits(device.steps(batch, rates(23)), losses)
            assert differing(device.read(), after) == []
            found = device.infer_all(batch)
            assert same_bits(found.intent, logits.intent) and same_bits(found.slots, logits.slots)
        assert card.longest_queue == (1 if size >= 23 else 2)


def test_a_traced_step_and_overrides_are_those_of_csim(csim: CsimDevice, xclbin: Path) -> None:
    params, sentence = random_params(TINY), one_of(sentences(TINY, 1))
    with opened(Card(TINY), xclbin) as device:
        replaced = {"block0.q": np.zeros(csim.manifest.by_name["block0.q"].shape, np.float32)}
        for overrides in (None, replaced, None):
            results = []
            for one in (csim, device):
                one.load(params)
                results.append(one.step(sentence, RATE, trace=True, overrides=overrides))
            expected, found = results
            assert expected.trace is not None and found.trace is not None
            assert [*found.trace] == [*expected.trace]
            assert all(same_bits(found.trace[name], expected.trace[name]) for name in expected.trace)
            assert (found.loss, found.intent_loss) == (expected.loss, expected.intent_loss)


def test_an_image_is_bits(xclbin: Path) -> None:
    with opened(Card(TINY), xclbin) as device:
        params = random_bits(TINY, 1)
        device.load(params)
        assert differing(device.read(), params) == []


@pytest.mark.parametrize("mode", ["locked", "free", "isolated"])
def test_lockstep_agrees_through_the_device(mode: Any, xclbin: Path) -> None:
    with opened(Card(TINY), xclbin) as device:
        report = cosimulate(device, random_params(TINY), sentences(TINY, 2), rates(2), mode=mode)
    assert report.agree


def test_a_build_without_taps_is_compared_by_losses_and_parameters(xclbin: Path) -> None:
    with opened(Card(TINY, taps=False), xclbin) as device:
        assert not device.taps
        report = cosimulate(device, random_params(TINY), sentences(TINY, 2), rates(2))
        assert report.agree
        assert {c.kind for c in report.comparisons} == {"value", "updated"}
        with pytest.raises(UserError, match="built without taps"):
            cosimulate(device, random_params(TINY), sentences(TINY, 1), rates(1), mode="isolated")


def test_threads_take_turns(csim: CsimDevice, xclbin: Path) -> None:
    """Steps at rate 0 change nothing, so each thread must get the losses of its own sentences."""
    params = random_params(TINY)
    csim.load(params)
    wrong: list[int] = []
    with opened(Card(TINY), xclbin, examples_per_run=2) as device:
        device.load(params)
        batches = [sentences(TINY, 5, seed) for seed in range(8)]
        expected = [csim.steps(batch, np.zeros(5, np.float32)) for batch in batches]

        def work(n: int) -> None:
            for _ in range(5):
                if not same_bits(device.steps(batches[n], np.zeros(5, np.float32)), expected[n]):
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"refuse": {"device": RuntimeError("Could not open device with index '0'")}},
            "can't open xrt:0: Could",
        ),
        ({"refuse": {"device": OSError(13, "Permission denied")}}, "can't open xrt:0: .*Permission denied"),
        (
            {"refuse": {"device": RuntimeError(" No such device with index '0'")}},
            "no device xrt:0: No such device",
        ),
        (
            {"shell": "xilinx_u280_xdma_201920_3"},
            "wrong shell on xrt:0: expected xilinx_u50_.*, found xilinx_u280",
        ),
        ({"platform": "xilinx_u250_xdma_1"}, "wrong platform: .* is not for this card's shell"),
        (
            {"refuse": {"load": RuntimeError("Interface UUID mismatch")}},
            r"wrong platform: .* \(Interface UUID mismatch",
        ),
        (
            {"refuse": {"xclbin": RuntimeError("Invalid argument")}},
            "can't load .*: Invalid argument; build it",
        ),
        ({"refuse": {"load": OSError("Device or resource busy")}}, "the card is busy: .* end that process"),
        ({"n_arguments": 4}, "wrong xclbin: .* has 4 arguments, expected 5, or 7 with taps"),
        ({"n_arguments": 6}, "wrong xclbin: .* has 6 arguments"),
        ({"n_arguments": 8}, "wrong xclbin: .* has 8 arguments"),
        ({"refuse": {"kernel": RuntimeError("cu is in use")}}, "compute unit ttfpga_kernel_1 is busy"),
        (
            {"refuse": {"kernel": RuntimeError("no such kernel")}},
            "wrong xclbin: ttfpga_kernel can't be opened",
        ),
        ({"refuse": {"bo": MemoryError("bad_alloc")}}, r"no device memory for image: \d+ bytes in HBM\[1\]"),
        ({"refuse": {"sync": RuntimeError("DMA")}}, "transfer of image failed: DMA"),
        ({"refuse": {"start": RuntimeError("EBUSY: busy")}}, "compute unit .* busy: the run was refused"),
        ({"ending": State.ERT_CMD_STATE_SUBMITTED}, r"timeout: the run did not end within 0.2 s"),
        ({"ending": State.ERT_CMD_STATE_TIMEOUT}, r"timeout: the run did not end within 0.2 s"),
        ({"ending": State.ERT_CMD_STATE_ERROR}, "the run ended as ERT_CMD_STATE_ERROR"),
        ({"writes": False}, "lost sync: the results came back as before the run"),
        ({"on_sync": lambda bo, way: way is TO}, "read-back differs: word 0 of image"),
        ({"on_sync": lambda bo, way: way is FROM}, "read-back differs: word 0 of image"),
    ],
)
def test_what_is_wrong_at_opening_is_one_line_that_says_what_to_do(
    changes: dict[str, Any], message: str, xclbin: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        opened(Card(TINY, **changes), xclbin, timeout_s=0.2)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "no remedy"
    assert isinstance(caught.value, MissingXrt) is message.startswith("no device xrt")


def test_only_an_index_beyond_the_simulated_cards_is_a_missing_device(xclbin: Path) -> None:
    """XRT says the same of a simulated card that is not there as of one that can't be opened."""
    module = make_pyxrt(Card(TINY, refuse={"device": RuntimeError("Could not open device with index")}))
    for cards, error in ((None, UserError), (3, UserError), (2, MissingXrt)):
        module.ttfpga_simulated = cards is not None
        module.enumerate_devices = lambda cards=cards: cards
        with pytest.raises(UserError, match="xrt:2: Could not open") as caught:
            XrtDevice(TINY, "2", xclbin, pyxrt=module)
        assert type(caught.value) is error


def test_an_xclbin_of_another_configuration_is_stale(xclbin: Path) -> None:
    other = OTHER_CONFIGS["two_cores_a_side"]
    with pytest.raises(
        UserError, match=r"stale xclbin: the kernel of .* refuses hash [0-9a-f]{16}; build it"
    ):
        XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(Card(other)))


def test_no_xclbin_and_wrong_options_are_refused(tmp_path: Path, xclbin: Path) -> None:
    with pytest.raises(UserError, match="no xclbin at"):
        opened(Card(TINY), tmp_path / "absent.xclbin")
    for seconds in (0, np.nan, np.inf, 1e8):
        with pytest.raises(UserError, match=r"timeout: expected a number of seconds above 0 and up to 2,147"):
            opened(Card(TINY), xclbin, timeout_s=seconds)
    with pytest.raises(UserError, match="expected at least one example a run, found 0"):
        opened(Card(TINY), xclbin, examples_per_run=0)


@pytest.mark.parametrize(
    ("buffer", "direction", "message"),
    [
        (EXAMPLES, TO, "read-back differs: word .* of examples .* lost sync"),
        (EXAMPLES, FROM, "read-back differs: word .* of examples"),
        (RESULTS, FROM, "lost sync: the results"),
        (TRACE, FROM, "lost sync: the trace"),
        (OVERRIDES, FROM, "read-back differs: word .* of overrides"),
    ],
)
def test_a_lost_transfer_of_a_traced_step_is_caught(
    buffer: int, direction: Direction, message: str, xclbin: Path
) -> None:
    card = Card(TINY)
    batch = sentences(TINY, 2)
    with opened(card, xclbin) as device:
        device.load(random_params(TINY))
        device.step(one_of(batch, 0), RATE, trace=True)
        lose(card, buffer, direction)
        with pytest.raises(UserError, match=message):
            device.step(one_of(batch, 1), RATE, trace=True)


@pytest.mark.parametrize("direction", [TO, FROM])
def test_a_lost_transfer_of_an_image_is_caught(direction: Direction, xclbin: Path) -> None:
    card = Card(TINY)
    with opened(card, xclbin) as device:
        device.load(random_params(TINY, 1))
        lose(card, IMAGE, direction)
        with pytest.raises(UserError, match=r"read-back differs|lost sync"):
            device.load(random_params(TINY, 2))


def test_a_flipped_bit_in_device_memory_is_caught(csim: CsimDevice, xclbin: Path) -> None:
    """An image's while the kernel runs, examples' as they cross; neither reaches the parameters unseen."""
    card = Card(TINY)
    params, batch = random_params(TINY, 1), sentences(TINY, 2)
    with opened(card, xclbin) as device:
        device.load(params)

        def flip(buffer: int) -> None:
            card.buffers[buffer].device[12] ^= 1 << 9

        def flip_after(bo: Any, way: Direction) -> bool:
            if bo is card.buffers[EXAMPLES] and way is FROM:
                flip(EXAMPLES)
            return True

        card.on_sync = flip_after
        with pytest.raises(UserError, match=r"read-back differs: word 12 of examples .* flipped bit"):
            device.steps(batch, rates(2))
        card.on_sync = lambda bo, way: True
        assert differing(device.read(), params) == []
        card.on_run = lambda _: flip(IMAGE)
        with pytest.raises(UserError, match=r"read-back differs: word 12 of image .* flipped bit"):
            device.load(params)


def test_a_failure_in_a_queue_leaves_no_run_behind(csim: CsimDevice, xclbin: Path) -> None:
    card = Card(TINY)
    batch, params = sentences(TINY, 9), random_params(TINY)
    with opened(card, xclbin, examples_per_run=2) as device:
        lose(card, EXAMPLES, TO)
        with pytest.raises(UserError, match="read-back differs"):
            device.steps(batch, rates(9))
        assert not card.queue
        card.on_sync = lambda bo, way: True
        device.load(params)
        csim.load(params)
        assert same_bits(device.steps(batch, rates(9)), csim.steps(batch, rates(9)))


def test_after_a_timeout_or_a_close_the_device_is_refused(xclbin: Path) -> None:
    card = Card(TINY)
    device = opened(card, xclbin, timeout_s=0.5)
    card.ending = State.ERT_CMD_STATE_SUBMITTED
    with pytest.raises(UserError, match=r"did not end within 0.5 s \(state ERT_CMD_STATE_SUBMITTED\)"):
        device.read()
    with pytest.raises(UserError, match="a run that never ended: reset the card"):
        device.read()
    device.close()
    for use in (device.read, device.sensors):
        with pytest.raises(UserError, match="closed"):
            use()


def test_a_machine_without_xrt_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the vendor's module nor what ours is built with; then a vendor's that can't be loaded."""
    command = ["cosim", "--preset", "tiny", "--data", "travel", "--steps", "1", "--device", "xrt:0"]
    monkeypatch.setitem(sys.modules, "pyxrt", None)
    monkeypatch.setattr(simulation, "HEADERS", tmp_path)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: no XRT headers in {tmp_path}: ") and said.count("\n") == 1
    assert "source XRT's setup.sh" in said and "apt install libxrt1 libxrt-dev uuid-dev" in said
    with pytest.raises(MissingXrt):
        simulation.import_pyxrt()
    (tmp_path / "pyxrt.py").write_text("raise ImportError('libxrt_coreutil.so.2: no such file')")
    monkeypatch.delitem(sys.modules, "pyxrt")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(command) == 2
    assert "the installed pyxrt can't be imported (libxrt_coreutil" in capsys.readouterr().err


def test_the_interface_is_the_signature_of_the_kernel() -> None:
    source = (Path(__file__).parents[2] / "hls" / "kernel.cpp").read_text()
    signature = source[source.index("void ttfpga_kernel(") :].partition(") {")[0]
    at = [
        signature.index(f" {a.name}") if a.kind == "scalar" else signature.index(f"* {a.name}")
        for a in arguments(True)
    ]
    assert at == sorted(at) and signature.count(",") == len(arguments(True)) - 1
    assert [a.offset for a in arguments(True)] == [0x10, 0x18, 0x20, 0x2C, 0x38, 0x44, 0x50]
    assert arguments(False) == arguments(True)[:5]
    bundles = dict(
        line.split("port = ")[1].replace(" offset = slave bundle =", "").split()
        for line in source.splitlines()
        if "m_axi port" in line
    )
    assert {a.name: f"gmem{a.bank}" for a in arguments(True) if a.kind == "buffer"} == bundles
