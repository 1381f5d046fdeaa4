"""The XRT device: the kernel on a U50, real or simulated, through the public pyxrt interface alone.

Scalars cross as 32-bit integers, all else in buffers: the vendor's pyxrt drops any other argument.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

from fpga_bridge.device import StepResult, Trace, example_words, logits_per_example
from fpga_bridge.devices.host import (
    LOAD,
    LOSSES_PER_EXAMPLE,
    STORE,
    KernelDevice,
    KernelRefusal,
    check_status,
    check_timeout,
)
from fpga_bridge.devices.xrt_buffers import ERASED, Buffer
from fpga_bridge.devices.xrt_errors import (
    broken,
    closed,
    ended_badly,
    memory_differs,
    running,
    stale_xclbin,
    timed_out,
    unwritten,
)
from fpga_bridge.devices.xrt_open import open_card
from fpga_bridge.devices.xrt_sensors import EnergyMeter, Sensors, is_simulated, read_sensors
from fpga_bridge.kernel.header import hash_text
from fpga_bridge.kernel.interface import Argument, arguments
from fpga_bridge.memory.layout import HASH_WORDS
from fpga_bridge.program.manifest import KEEP
from ttjax import Batch, ModelConfig, Params, UserError

# Runs in flight: the next one's examples are written while this one runs.
_SLOTS = 2


@dataclass
class _Slot:
    """Buffers and run object of one call; ``scalars`` are the arguments set last.

    flying: whether its run may have been started and was not seen to end.
    """

    examples: Buffer
    results: Buffer
    run: Any
    scalars: dict[int, int] = field(default_factory=dict)
    n_results: int = 1
    flying: bool = False


class XrtDevice(KernelDevice):
    """A Device that is the kernel of an xclbin on one card, which it holds alone until it is closed.

    Calls from several threads take turns.

    Args:
        config: what the xclbin must be built for, by this version.
        address: index of the device, or its BDF such as 0000:17:00.1.
        xclbin: the card's program.
        pyxrt: the module to use; by default the vendor's, or ours where that is missing.
        timeout_s: how long one run may take.
        examples_per_run: sentences of one run at most; more are queued as several.

    Raises:
        UserError: anything of the machine, the card or the xclbin that does not fit; each says what to do.
    """

    def __init__(
        self,
        config: ModelConfig,
        address: str,
        xclbin: Path,
        *,
        pyxrt: Any = None,
        timeout_s: float = 60.0,
        examples_per_run: int = 32,
    ) -> None:
        super().__init__(config)
        check_timeout(timeout_s)
        if examples_per_run < 1:
            raise UserError(f"expected at least one example a run, found {examples_per_run}")
        self._xclbin = xclbin
        self._xrt = pyxrt if pyxrt is not None else _import_pyxrt()
        self._timeout_s = timeout_s
        self._capacity = examples_per_run
        self._lock = threading.RLock()
        self._broken = self._closed = False
        self._traced: _Slot | None = None
        states = self._xrt.ert_cmd_state
        self._going = (states.ERT_CMD_STATE_NEW, states.ERT_CMD_STATE_QUEUED, states.ERT_CMD_STATE_SUBMITTED)
        card = open_card(self._xrt, address, xclbin)
        self._device, self._kernel, self.taps = card.device, card.kernel, card.taps
        self._arguments = arguments(self.taps)
        self._scalars = [self._argument(name)[0] for name in ("command", "n_examples")]
        n_results = 1 + examples_per_run * max(LOSSES_PER_EXAMPLE, logits_per_example(config))
        self._image = self._buffer("image", self.manifest.layout.image_words)
        self._slots = []
        for _ in range(_SLOTS):
            examples = self._buffer("examples", examples_per_run * example_words(config))
            results = self._buffer("results", n_results)
            self._slots.append(_Slot(examples, results, self._new_run(examples, results)))
        self._offer_hash()

    def load(self, params: Params) -> None:
        """As of every device; no other thread's call comes between writing and reading back."""
        with self._lock:
            super().load(params)

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        """As of every device; no other thread's call comes between the step and what is read of it."""
        with self._lock:
            return super().step(batch, rate, trace=trace, overrides=overrides)

    def sensors(self) -> Sensors:
        """Clock, temperature and power as the card reports them now; None where it doesn't."""
        # Without the lock, which a call holds to its end: a meter reads while the card runs.
        device = vars(self).get("_device")
        if self._closed or device is None:
            raise closed()
        return read_sensors(self._xrt, device)

    def energy(self) -> EnergyMeter:
        """A meter of the card's energy for a `with` block."""
        return EnergyMeter(lambda: self.sensors().power_w, simulated=is_simulated(self._xrt))

    def close(self) -> None:
        """Lets go of the compute unit and the buffers; the parameters stay on the chip."""
        with self._lock:
            self._closed = True
            self._slots.clear()
            for name in ("_traced", "_trace", "_overrides", "_image", "_kernel", "_device"):
                vars(self).pop(name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _offer_hash(self) -> None:
        """Offers the kernel an image with this hash, all zeros: only a kernel that has it takes it."""
        image = np.zeros(self.manifest.layout.image_words, np.uint32)
        image[:HASH_WORDS] = self.hash
        try:
            self._run(LOAD, image=image)
        except KernelRefusal:
            raise stale_xclbin(self._xclbin, hash_text(self.hash)) from None

    def _buffer(self, name: str, words: int) -> Buffer:
        index, argument = self._argument(name)
        return Buffer(self._xrt, self._device, self._kernel, argument, index, words)

    def _argument(self, name: str) -> tuple[int, Argument]:
        return next((i, a) for i, a in enumerate(self._arguments) if a.name == name)

    def _new_run(self, *buffers: Buffer) -> Any:
        """A run with its buffers set. What isn't set is address 0: taps that stay silent."""
        with running():
            run = self._xrt.run(self._kernel)
            for buffer in (*buffers, self._image):
                run.set_arg(self._argument(buffer.name)[0], buffer.bo)
        return run

    def _run(
        self,
        command: int,
        *,
        examples: np.ndarray | None = None,
        image: np.ndarray | None = None,
        results: np.ndarray | None = None,
        trace: np.ndarray | None = None,
        overrides: np.ndarray | None = None,
    ) -> None:
        with self._turn():
            slot = self._slots[0] if trace is None else self._traced_slot(overrides)
            if image is not None and command == STORE:
                self._image.erase(image.size)
            elif image is not None:
                self._image.write(image)
            self._begin(slot, command, examples, 1 if results is None else results.size)
            found = self._end(slot)
            if results is not None:
                results[:] = found
            if image is not None and command == STORE:
                image[:] = self._image.read_written(image.size, "the parameters' image")
                self._check_hash(image)
            if trace is not None:
                trace[:] = self._written_trace(trace.size)

    def _over_examples(self, command: int, examples: np.ndarray, width: int) -> np.ndarray:
        """Runs of at most ``examples_per_run`` sentences, queued in order: XRT starts a unit's runs so."""
        rows = np.empty((len(examples), width), np.float32)
        queued: list[tuple[_Slot, int]] = []

        def land() -> None:
            slot, at = queued.pop(0)
            found = self._end(slot)[1:].reshape(-1, width)
            rows[at : at + len(found)] = found

        with self._turn():
            for number, at in enumerate(range(0, len(examples), self._capacity)):
                if len(queued) == _SLOTS:
                    land()
                chunk = examples[at : at + self._capacity]
                slot = self._slots[number % _SLOTS]
                self._begin(slot, command, chunk, 1 + width * len(chunk))
                queued.append((slot, at))
            while queued:
                land()
        return rows

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One call. However it ends, by Ctrl-C too, its runs are waited for: the next uses their buffers."""
        with self._lock:
            self._usable()
            try:
                yield
            except BaseException:
                for slot in (*self._slots, self._traced):
                    if slot is not None and slot.flying:
                        self._settle(slot)
                raise

    def _begin(self, slot: _Slot, command: int, examples: np.ndarray | None, n_results: int) -> None:
        """Writes a call's buffers and starts it."""
        n = 0 if examples is None else len(examples)
        if examples is not None:
            slot.examples.write(examples)
            # Before the run: a wrong sentence would train the chip's parameters, and an id out of range read
            # past a table's end.
            slot.examples.check(examples)
        slot.results.erase(n_results)
        slot.n_results = n_results
        with running():
            for index, value in zip(self._scalars, (command, n), strict=True):
                if slot.scalars.get(index) != value:
                    slot.run.set_arg(index, int(value))
                    slot.scalars[index] = value
            # Before the start, which may be the last thing to happen here.
            slot.flying = True
            try:
                slot.run.start()
            except Exception:
                slot.flying = False
                raise

    def _end(self, slot: _Slot) -> np.ndarray:
        """Waits for a call and checks what it left: the status and every result."""
        states = self._xrt.ert_cmd_state
        state = self._wait(slot)
        if state in (states.ERT_CMD_STATE_ERROR, states.ERT_CMD_STATE_ABORT):
            raise ended_badly(state)
        if state != states.ERT_CMD_STATE_COMPLETED:
            self._broken = True
            raise timed_out(self._timeout_s, state)
        found = slot.results.read_written(slot.n_results, "the results").copy()
        check_status(float(found.view(np.float32)[0]))
        if np.any(found == ERASED):
            raise unwritten("a part of the results")
        return found.view(np.float32)

    def _settle(self, slot: _Slot) -> None:
        """Waits for a run whose result nobody wants any more."""
        ended = False
        try:
            ended = self._wait(slot) == self._xrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED
        except UserError:
            pass
        finally:
            # Also when the waiting itself is interrupted.
            self._broken |= not ended

    def _wait(self, slot: _Slot) -> Any:
        """The state in which a run ended, or is when its time is up.

        XRT's own wait comes back before either if the driver calls a run submitted; then it is asked again.
        """
        end = time.monotonic() + self._timeout_s
        with running():
            while True:
                left = end - time.monotonic()
                state = slot.run.wait(max(1, round(1e3 * left)))
                if state not in self._going or time.monotonic() >= end:
                    slot.flying = False
                    return state

    def _traced_slot(self, overrides: np.ndarray | None) -> _Slot:
        """The first slot's buffers in a run that has the taps' buffers too; made when first asked for."""
        if self._traced is None:
            self._trace = self._buffer("trace_out", self.manifest.words)
            self._overrides = self._buffer("overrides", self.manifest.words)
            first = self._slots[0]
            run = self._new_run(first.examples, first.results, self._trace, self._overrides)
            self._traced = _Slot(first.examples, first.results, run)
        self._trace.erase(self.manifest.words)
        if overrides is None:
            overrides = np.full(self.manifest.words, KEEP, np.uint32)
        self._overrides.write(overrides)
        self._overrides.check(overrides)
        return self._traced

    def _written_trace(self, words: int) -> np.ndarray:
        """The trace; a point that was not written stays a NaN, which never agrees."""
        found = self._trace.fetch(words)
        if np.all(found == ERASED):
            raise unwritten("the trace")
        return found.view(np.float32)

    def _check_hash(self, image: np.ndarray) -> None:
        if not np.array_equal(image[:HASH_WORDS], self.hash):
            word = int(np.flatnonzero(image[:HASH_WORDS] != self.hash)[0])
            self._differs(word, int(self.hash[word]), int(image[word]))

    def _differs(self, word: int, written: int, found: int) -> NoReturn:
        raise memory_differs("image", word, written, found)

    def _usable(self) -> None:
        if self._closed:
            raise closed()
        if self._broken:
            raise broken()


def _import_pyxrt() -> Any:
    from fpga_bridge.simulated_u50 import import_pyxrt

    return import_pyxrt()
