"""The simulated U50 under the real XRT runtime, through pyxrt alone: what it does. Refusals are apart."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.device import encode_examples
from fpga_bridge.devices.csim import INFER, STEP, CsimDevice
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.kernel.interface import (
    CLOCK_MHZ,
    COMPUTE_UNIT,
    HBM_BANK_BYTES,
    HBM_BANKS,
    KERNEL,
    SHELL,
    arguments,
)
from fpga_bridge.simulated_u50 import simulated_xclbin
from fpga_bridge.simulated_u50 import xclbin as container
from fpga_bridge.simulated_u50.xclbin import write_xclbin
from tests.fpga_bridge.samples import TINY, random_bits, random_params, rates, same_bits, sentences
from tests.fpga_bridge.simulated_card import NAMES, UNKNOWN, Card

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.xrt, pytest.mark.usefixtures("two_sound_cards")]


def test_a_card_says_what_it_is(pyxrt: Any, card: Card) -> None:
    assert pyxrt.enumerate_devices() == 2
    assert card.device.get_info(pyxrt.xrt_info_device.name) == SHELL
    assert card.device.get_info(pyxrt.xrt_info_device.bdf) == "0000:00:00.0"
    assert card.device.get_xclbin_uuid().to_string() == card.uuid.to_string()
    expected = [argument.bank for argument in arguments(True) if argument.bank is not None]
    assert [card.kernel.group_id(i) for i, a in enumerate(arguments(True)) if a.bank is not None] == expected
    other = pyxrt.device("0000:00:01.0")
    assert other.get_info(pyxrt.xrt_info_device.bdf) == "0000:00:01.0"
    uuid = other.load_xclbin(str(simulated_xclbin(TINY)))
    assert pyxrt.kernel(other, uuid, f"{KERNEL}:{{{COMPUTE_UNIT}}}").group_id(NAMES.index("image")) == 1


# What the driver layer tells the runtime of a card: the beginning of XRT's xclDeviceInfo2, and room after
# it. In a process of its own, since one process loads one driver layer.
DESCRIBE = """
import ctypes, json, sys
from fpga_bridge.simulated_u50 import build
vars(build).update(json.loads(sys.argv[1]))
pyxrt = build.import_pyxrt()
device = pyxrt.device(0)

class Info(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint),
        ("name", ctypes.c_char * 256),
        ("versions_and_ids", ctypes.c_ushort * 7),
        ("memory", ctypes.c_size_t),
        ("alignment", ctypes.c_size_t),
        ("free", ctypes.c_size_t),
        ("least_transfer", ctypes.c_size_t),
        ("banks", ctypes.c_ushort),
        ("clocks_mhz", ctypes.c_ushort * 4),
        ("rest", ctypes.c_byte * 1024),
    ]

info = Info()
library = ctypes.CDLL(str(build.simulated_xrt() / "lib" / "libxrt_core.so.2"))
assert library.xclGetDeviceInfo2(None, ctypes.byref(info)) == 0
print(json.dumps([info.name.decode(), info.clocks_mhz[0], info.memory, info.banks]))
"""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [SHELL, CLOCK_MHZ, HBM_BANKS * HBM_BANK_BYTES, HBM_BANKS]),
        (
            {"SHELL": SHELL + "_1", "CLOCK_MHZ": 77, "HBM_BANKS": 3, "HBM_BANK_BYTES": 1 << 20},
            [SHELL + "_1", 77, 3 << 20, 3],
        ),
    ],
)
def test_a_card_is_as_the_interface_has_it(changes: dict[str, Any], expected: list[Any]) -> None:
    """Shell, clock and memory stand there alone: where they change, the card does."""
    command = [sys.executable, "-c", DESCRIBE, json.dumps(changes)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == expected


def test_what_was_not_synced_is_not_seen(card: Card) -> None:
    bo, host = card.buffer("image", 1000)
    host[:] = 5
    card.down(bo)
    assert not (host == 5).any(), "the device saw what was not sent"
    host[:] = 6
    card.up(bo)
    host[:] = 7
    card.down(bo)
    assert (host == 6).all()


def test_a_part_of_a_buffer_is_synced_alone(card: Card) -> None:
    bo, host = card.buffer("image", 1024)
    host[:] = 1
    card.up(bo)
    host[:] = 2
    bo.sync(card.x.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, 4 * 10, 4 * 100)
    card.down(bo)
    assert np.flatnonzero(host == 2).tolist() == list(range(100, 110))


def test_buffers_do_not_overlap(card: Card) -> None:
    pairs = [card.buffer("image", words) for words in (1, 1024, 1025, 7, 3000)]
    for value, (bo, host) in enumerate(pairs):
        host[:] = value
        card.up(bo)
    for value, (bo, host) in enumerate(pairs):
        host[:] = 99
        card.down(bo)
        assert (host == value).all()


def test_a_map_outlives_its_buffer(card: Card) -> None:
    host = card.buffer("image", 1000)[1]
    gc.collect()
    host[:] = 3
    assert host.sum() == 3000


@pytest.mark.parametrize("seed", range(3))
def test_store_after_load_is_the_identity_on_all_bits(card: Card, seed: int) -> None:
    image = card.pack(random_bits(TINY, seed))
    card.load(image)
    assert np.array_equal(card.store(), image)


def test_steps_end_in_the_bits_of_csim(card: Card) -> None:
    params = random_params(TINY)
    batch = sentences(TINY, 5)
    csim = CsimDevice(TINY)
    csim.load(params)
    card.load(card.pack(params))
    losses, _ = card.steps(encode_examples(batch, rates(5), TINY))
    assert same_bits(losses, csim.steps(batch, rates(5)))
    assert np.array_equal(card.store(), card.pack(csim.read()))


def test_a_trace_has_the_bits_of_csim(card: Card) -> None:
    params = random_params(TINY)
    batch = sentences(TINY, 1)
    csim = CsimDevice(TINY)
    csim.load(params)
    expected = csim.step(type(batch)(*(field[0] for field in batch)), float(rates(1)[0]), trace=True).trace
    card.load(card.pack(params))
    recorded = card.steps(encode_examples(batch, rates(1), TINY), trace=True)[1]
    assert recorded is not None
    assert expected is not None
    recorded_points = card.manifest.read(recorded.view(np.float32))
    actual = card.manifest.without_padding(recorded_points, int(batch.length[0]))
    assert [name for name in expected if not same_bits(np.asarray(expected[name]), actual[name])] == []


def test_two_cards_share_nothing(pyxrt: Any, xclbin: Path, card: Card) -> None:
    other = Card(pyxrt, xclbin, 1)
    images = [card.pack(random_params(TINY, seed)) for seed in (1, 2)]
    card.load(images[0])
    other.load(images[1])
    assert np.array_equal(card.store(), images[0])
    assert np.array_equal(other.store(), images[1])


def test_a_card_keeps_its_parameters_between_programs(pyxrt: Any, xclbin: Path) -> None:
    first = Card(pyxrt, xclbin)
    image = first.pack(random_params(TINY, 3))
    first.load(image)
    del first
    gc.collect()
    assert np.array_equal(Card(pyxrt, xclbin).store(), image)


def test_200_queued_runs_end_in_order(card: Card) -> None:
    params, batch = random_params(TINY), sentences(TINY, 200)
    card.load(card.pack(params))
    examples = encode_examples(batch, rates(200), TINY)
    given, host = card.buffer("examples", 1024 * 200)
    host.reshape(200, 1024)[:, : examples.shape[1]] = examples
    card.up(given)
    results, losses = card.buffer("results", 1024 * 200)
    runs = []
    for i in range(200):
        # A page each: parts of a buffer begin at pages.
        part = card.x.bo(given, 4096, 4096 * i), card.x.bo(results, 4096, 4096 * i)
        runs.append((card.run(STEP, 1, examples=part[0], results=part[1]), part))
    for run, _ in runs:
        card.finish(run)
    card.down(results)
    csim = CsimDevice(TINY)
    csim.load(params)
    expected = csim.steps(batch, rates(200))
    assert same_bits(losses.reshape(200, 1024)[:, 1:4].copy().view(np.float32), expected)
    assert np.array_equal(card.store(), card.pack(csim.read()))


def test_8_threads_on_two_cards(pyxrt: Any, xclbin: Path) -> None:
    cards = [Card(pyxrt, xclbin, index) for index in (0, 1)]
    wrong: list[str] = []

    def work(number: int) -> None:
        card = cards[number % 2]
        results, status = card.buffer("results", 1)
        for _ in range(100):
            status[0] = 0
            card.up(results)
            state = card.ends_as(card.run(UNKNOWN, results=results))
            if state != "COMPLETED":
                wrong.append(state)
            card.down(results)
            if status.view(np.float32)[0] != 2.0:
                wrong.append(f"status {status[0]:#x}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# In a process of its own: a run whose program or memory were taken away would end pytest.
LET_GO = """
from dataclasses import replace
import numpy as np
from fpga_bridge.device import encode_examples
from fpga_bridge.devices.csim import STEP
from fpga_bridge.simulated_u50 import import_pyxrt, simulated_xclbin
from tests.fpga_bridge.samples import TINY, random_params, rates, sentences
from tests.fpga_bridge.simulated_card import Card

steps = 5000
other = simulated_xclbin(replace(TINY, n_slots=TINY.n_slots + 1))
card = Card(import_pyxrt(), simulated_xclbin(TINY))
card.load(card.pack(random_params(TINY)))
examples = np.tile(encode_examples(sentences(TINY, 1), rates(1), TINY), (steps, 1))
given, host = card.buffer("examples", examples.size)
host[:] = examples.reshape(-1)
card.up(given)
results, losses = card.buffer("results", 1 + 3 * steps)
unwritten = losses[:] = 2**32 - 1
card.up(results)
run = card.run(STEP, steps, examples=given, results=results)
while int(run.state()) < 3:  # RUNNING
    pass
del run, card.kernel
card.down(results)
card.x.device(0).load_xclbin(str(other))
print((losses != unwritten).all())
"""


def test_a_unit_let_go_amid_a_run_ends_it_before_another_xclbin_is_loaded(pyxrt: Any) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LET_GO], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, "True"), result.stderr


# The container.


def test_the_same_content_is_the_same_file(tmp_path: Path, xclbin: Path) -> None:
    manifest = CsimDevice(TINY).manifest
    write_xclbin(tmp_path / "again.xclbin", build_kernel(manifest))
    assert (tmp_path / "again.xclbin").read_bytes() == xclbin.read_bytes()


def test_an_xclbin_names_board_and_device_as_the_interface_has_them(
    tmp_path: Path, xclbin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = xclbin.read_bytes()
    assert b'boardid="u50"' in content and b'fpgaDevice="virtexuplusHBM:xcu50"' in content
    monkeypatch.setattr(container, "BOARD", "u99")
    monkeypatch.setattr(container, "DEVICE", "virtex:xcu99")
    path = tmp_path / "other.xclbin"
    write_xclbin(path, build_kernel(CsimDevice(TINY).manifest))
    assert b'boardid="u99"' in path.read_bytes() and b'fpgaDevice="virtex:xcu99"' in path.read_bytes()


def test_infer_leaves_parameters_alone(card: Card) -> None:
    image = card.pack(random_params(TINY))
    card.load(image)
    examples = encode_examples(sentences(TINY, 1), rates(1), TINY)
    given, host = card.buffer("examples", examples.size)
    host[:] = examples.reshape(-1)
    card.up(given)
    results, _ = card.buffer("results", 1 + TINY.n_intents + TINY.seq_len * TINY.n_slots)
    card.finish(card.run(INFER, 1, examples=given, results=results))
    assert np.array_equal(card.store(), image)
