"""A simulated U50 with the kernel of TINY on it, for tests that drive it by raw pyxrt calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fpga_bridge.devices.csim import LOAD, STEP, STORE, CsimDevice
from fpga_bridge.kernel.interface import KERNEL, arguments
from tests.fpga_bridge.samples import TINY

NAMES = [argument.name for argument in arguments(True)]
UNKNOWN = 77  # a command that the kernel answers with a status alone


class Card:
    """A card with the kernel of TINY on it, driven by raw pyxrt calls."""

    def __init__(self, pyxrt: Any, xclbin: Path, index: int = 0) -> None:
        self.x = pyxrt
        self.device = pyxrt.device(index)
        self.uuid = self.device.load_xclbin(str(xclbin))
        self.kernel = pyxrt.kernel(self.device, self.uuid, KERNEL, pyxrt.kernel.exclusive)
        csim = CsimDevice(TINY)
        self.manifest, self.pack = csim.manifest, csim.pack

    def buffer(self, name: str, words: int) -> tuple[Any, np.ndarray]:
        bo = self.x.bo(self.device, 4 * words, self.x.bo.normal, self.kernel.group_id(NAMES.index(name)))
        return bo, np.frombuffer(bo.map(), np.uint32)

    def up(self, bo: Any) -> None:
        bo.sync(self.x.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def down(self, bo: Any) -> None:
        bo.sync(self.x.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)

    def run(self, command: int, n: int = 0, **buffers: Any) -> Any:
        run = self.x.run(self.kernel)
        run.set_arg(0, command)
        run.set_arg(1, n)
        # All of them: the runtime takes command packets out of a cache, so what is not set is an older's.
        for index, name in enumerate(NAMES[2:], 2):
            run.set_arg(index, buffers.get(name, 0))
        run.start()
        return run

    def ends_as(self, run: Any, seconds: float = 10) -> str:
        return run.wait(int(1000 * seconds)).name.removeprefix("ERT_CMD_STATE_")

    def finish(self, run: Any) -> None:
        assert self.ends_as(run) == "COMPLETED"

    def load(self, image: np.ndarray) -> None:
        bo, host = self.buffer("image", len(image))
        results, status = self.buffer("results", 1)
        host[:] = image
        self.up(bo)
        self.finish(self.run(LOAD, image=bo, results=results))
        self.down(results)
        assert status[0] == 0

    def store(self) -> np.ndarray:
        bo, host = self.buffer("image", self.manifest.layout.image_words)
        results, _ = self.buffer("results", 1)
        self.finish(self.run(STORE, image=bo, results=results))
        self.down(bo)
        return host.copy()

    def steps(self, examples: np.ndarray, trace: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
        given, host = self.buffer("examples", examples.size)
        host[:] = examples.reshape(-1)
        self.up(given)
        results, losses = self.buffer("results", 1 + 3 * len(examples))
        taps: dict[str, Any] = {}
        recorded = None
        if trace:
            taps["trace_out"], recorded = self.buffer("trace_out", self.manifest.words)
        self.finish(self.run(STEP, len(examples), examples=given, results=results, **taps))
        self.down(results)
        if trace:
            self.down(taps["trace_out"])
        return losses[1:].view(np.float32).reshape(-1, 3), recorded
