"""A stand-in for pyxrt in tests: device memory apart from the host's, a queue of runs, planned faults.

It runs the simulation kernel and knows nothing of `fpga_bridge.devices.xrt`; the real runtime is in
test_xrt_real.py.
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.interface import KERNEL, PLATFORM, SHELL, arguments
from ttjax import ModelConfig


class State(enum.Enum):
    ERT_CMD_STATE_NEW = 1
    ERT_CMD_STATE_QUEUED = 2
    ERT_CMD_STATE_SUBMITTED = 3
    ERT_CMD_STATE_COMPLETED = 4
    ERT_CMD_STATE_ERROR = 5
    ERT_CMD_STATE_ABORT = 6
    ERT_CMD_STATE_TIMEOUT = 8


class Direction(enum.Enum):
    XCL_BO_SYNC_BO_TO_DEVICE = 0
    XCL_BO_SYNC_BO_FROM_DEVICE = 1


INFO = ("name", "thermal", "electrical", "max_clock_frequency_mhz")


@dataclass
class Card:
    """What the machine has and what goes wrong on it.

    kernel: whose library is on it, by default that of the config.
    refuse: exception by stage (device, xclbin, load, kernel, bo, sync, start). on_sync: called with buffer
    and direction, False loses the transfer. on_run: called before the kernel with the buffers by argument.
    """

    config: ModelConfig
    kernel: CsimDevice | None = None
    taps: bool = True
    shell: str = SHELL
    platform: str = PLATFORM
    n_arguments: int | None = None
    info: dict[str, str] = field(default_factory=dict)
    refuse: dict[str, Exception] = field(default_factory=dict)
    on_sync: Callable[[Any, Direction], bool] = lambda bo, direction: True
    on_run: Callable[[dict[int, Any]], None] = lambda buffers: None
    ending: State = State.ERT_CMD_STATE_COMPLETED
    writes: bool = True
    buffers: list[Any] = field(default_factory=list)
    queue: deque[Any] = field(default_factory=deque)
    longest_queue: int = 0
    runs: int = 0
    waits: int = 0

    def check(self, stage: str) -> None:
        if stage in self.refuse:
            raise self.refuse[stage]


def make_pyxrt(card: Card) -> Any:
    """The module for one card."""
    library = (card.kernel or CsimDevice(card.config))._library
    signature = arguments(card.taps)
    count = len(signature) if card.n_arguments is None else card.n_arguments
    keys = enum.Enum("xrt_info_device", {key: key for key in INFO})

    class Device:
        def __init__(self, address: int | str) -> None:
            card.check("device")
            assert isinstance(address, int | str)

        def load_xclbin(self, container: Any) -> str:
            card.check("load")
            return "uuid"

        def get_info(self, key: Any) -> str:
            found = {"name": card.shell, **card.info}
            if key.value not in found:
                raise RuntimeError("No sensor")
            return found[key.value]

    class Xclbin:
        def __init__(self, path: str) -> None:
            card.check("xclbin")
            assert Path(path).is_file()

        def get_xsa_name(self) -> str:
            return card.platform

    class Kernel:
        exclusive, shared = "exclusive", "shared"

        def __init__(self, device: Any, uuid: str, name: str, mode: str) -> None:
            card.check("kernel")
            assert (name, mode) == (KERNEL, "exclusive")

        def group_id(self, index: int) -> int:
            if index >= count:
                raise IndexError(index)
            bank = (*signature, signature[-1])[index].bank
            assert bank is not None, "no memory group: a scalar"
            return bank

    class Bo:
        flags = SimpleNamespace(normal=0)

        def __init__(self, device: Any, size: int, flags: int, group: int) -> None:
            card.check("bo")
            assert size > 0 and size % 64 == 0
            self.group = group
            self.host = bytearray(size)
            self.device = np.full(size // 4, 0xBADBAD00, np.uint32)
            card.buffers.append(self)

        def map(self) -> memoryview:
            return memoryview(self.host)

        def sync(self, direction: Direction, size: int, offset: int) -> None:
            card.check("sync")
            assert size % 64 == 0 and offset == 0 and size <= len(self.host)
            if not card.on_sync(self, direction):
                return
            view = np.frombuffer(self.host, np.uint32)
            here, there = slice(0, size // 4), self.device
            if direction is Direction.XCL_BO_SYNC_BO_TO_DEVICE:
                there[here] = view[here]
            else:
                view[here] = there[here]

    class Run:
        def __init__(self, kernel: Any) -> None:
            self.arguments: dict[int, Any] = {}
            self.state = State.ERT_CMD_STATE_NEW

        def set_arg(self, index: int, value: Any) -> None:
            # As the vendor's: buffers and 32-bit integers, and no others.
            scalar = signature[index].kind == "scalar"
            assert type(value) is int if scalar else isinstance(value, Bo)
            if not scalar:
                assert value.group == signature[index].bank
            self.arguments[index] = value

        def start(self) -> None:
            card.check("start")
            assert self not in card.queue, "started twice"
            self.state = State.ERT_CMD_STATE_SUBMITTED
            card.queue.append(self)
            card.longest_queue = max(card.longest_queue, len(card.queue))

        def wait(self, timeout_ms: int) -> State:
            """The kernel runs as late as it may: a buffer touched in flight is then seen.

            Every other wait returns too early, as XRT's does where a driver calls a run submitted.
            """
            card.waits += 1
            if self in card.queue and card.waits % 2:
                return self.state
            while self in card.queue:
                if card.ending in (State.ERT_CMD_STATE_SUBMITTED, State.ERT_CMD_STATE_TIMEOUT):
                    time.sleep(timeout_ms / 1000)
                    return card.ending
                first = card.queue.popleft()
                first._execute()
                first.state = card.ending
            return self.state

        def _execute(self) -> None:
            card.runs += 1
            buffers = {i: value for i, value in self.arguments.items() if isinstance(value, Bo)}
            card.on_run(buffers)
            if card.writes and card.ending is State.ERT_CMD_STATE_COMPLETED:
                pointers = [buffers[i].device.ctypes.data if i in buffers else None for i in range(2, 7)]
                library.ttfpga_csim_run(self.arguments[0], self.arguments[1], *pointers)

    return SimpleNamespace(
        device=Device,
        xclbin=Xclbin,
        kernel=Kernel,
        bo=Bo,
        run=Run,
        ert_cmd_state=State,
        xclBOSyncDirection=Direction,
        xrt_info_device=keys,
    )
