"""The csim device: the kernel's C++, compiled and loaded into this process, driven as the card would be."""

from __future__ import annotations

import ctypes
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np

from fpga_bridge.devices.host import INFER, LOAD, STEP, STORE, KernelDevice, check_status
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.kernel.header import hash_text
from fpga_bridge.kernel.labels import labels_of_kernel
from fpga_bridge.kernel.pipelines import Pipeline, compiled_pipelines
from fpga_bridge.memory.layout import HASH_WORDS
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.make_program import make_program
from ttjax import ModelConfig, UserError

__all__ = ["INFER", "LOAD", "STEP", "STORE", "CsimDevice"]


class CsimDevice(KernelDevice):
    """A Device whose on-chip memory is the static arrays of its own copy of the kernel's library.

    Args:
        config: what the kernel is built for.
        library: a kernel built before; by default it is built now, or taken from the cache.
        accelerator: what the kernel is built for beside the config.

    Raises:
        UserError: the library can't be loaded or has another hash; see also ``build_kernel``.
    """

    def __init__(
        self, config: ModelConfig, library: Path | None = None, accelerator: Accelerator = DEFAULT
    ) -> None:
        super().__init__(config, accelerator)
        self._accelerator = accelerator
        if library is None:
            library = build_kernel(self.manifest, accelerator=accelerator)
        self._library = _load(library)
        self._check_hash(library)

    def trips(self) -> np.ndarray:
        """Trips of each instruction since the kernel was loaded, as uint64 in the program's order."""
        n = self._library.ttfpga_csim_instructions()
        return np.ctypeslib.as_array(self._library.ttfpga_csim_trips(), (n,)).copy()

    def cycles(self) -> int:
        """Cycles of the kernel's loop since it was loaded, each step's from its first to its last result."""
        return self._library.ttfpga_csim_cycles()

    def pipelines(self) -> tuple[Pipeline, ...]:
        """What the kernel's C++ states about its units: engine, norm, nonlinear, update."""
        return compiled_pipelines(self._library)

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
        results = np.empty(1, np.float32) if results is None else results
        n = 0 if examples is None else len(examples)
        pointers = (_pointer(array) for array in (examples, image, results, trace, overrides))
        library = self._library
        run = library.ttfpga_csim_run_interruptible if _interruptible() else library.ttfpga_csim_run
        try:
            run(command, n, *pointers)
            self._check_error()
        except KeyboardInterrupt:
            if library.ttfpga_csim_error() != b"interrupted":
                raise
            number = library.ttfpga_csim_instruction()
            raise KeyboardInterrupt(f"the kernel was at instruction {number} ({self._at_work()})") from None
        check_status(float(results[0]))

    def _check_error(self) -> None:
        """Refuses to go on after a command that stopped at an access outside the kernel's arrays."""
        error = self._library.ttfpga_csim_error()
        if error is None:
            return
        raise UserError(
            f"the kernel left an array: {error.decode()} ({self._at_work()}); look at the last change to hls/"
            " (`make test` runs the kernel under sanitizers)"
        )

    def _at_work(self) -> str:
        """Operation and stage of the instruction at which the last command stopped."""
        program = make_program(self.manifest, self._accelerator)
        return program.instructions[self._library.ttfpga_csim_instruction()].label

    def _check_hash(self, library: Path) -> None:
        found = np.ctypeslib.as_array(self._library.ttfpga_csim_hash(), (HASH_WORDS,))
        if not np.array_equal(found, self.hash):
            labels = labels_of_kernel(self.config, found)
            again = "build it again"
            if labels is not None:
                again = (
                    f"it has outputs for {labels[0]} intents and {labels[1]} slots, expected"
                    f" {self.config.n_intents} and {self.config.n_slots}: {again} with the corpus's --data"
                )
            raise UserError(
                f"stale kernel: {library} was built for another configuration or by another version"
                f" (expected hash {hash_text(self.hash)}, found {hash_text(found)}); {again}"
            )


def _load(library: Path) -> ctypes.CDLL:
    """Loads a private copy: the loader shares a file's static arrays between all who open it."""
    if not library.is_file():
        raise UserError(f"no kernel at {library}: build one with `fpga-bridge build`")
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        copy = shutil.copy(library, scratch)
        try:
            loaded = ctypes.CDLL(copy)
            loaded.ttfpga_csim_hash.restype = ctypes.POINTER(ctypes.c_uint32)
            loaded.ttfpga_csim_trips.restype = ctypes.POINTER(ctypes.c_uint64)
            loaded.ttfpga_csim_cycles.restype = ctypes.c_uint64
            commands = (loaded.ttfpga_csim_run, loaded.ttfpga_csim_run_interruptible)
            loaded.ttfpga_csim_error.restype = ctypes.c_char_p
            loaded.ttfpga_csim_instruction.restype = ctypes.c_int32
        except (OSError, AttributeError) as error:
            raise UserError(
                f"{library} is not a simulation kernel of this version: {error}; build one with"
                " `fpga-bridge build`"
            ) from None
    for run in commands:
        run.restype = None
        run.argtypes = [ctypes.c_uint32] * 2 + [ctypes.c_void_p] * 5
    return loaded


def _interruptible() -> bool:
    """Whether Ctrl-C raises KeyboardInterrupt in this thread; a handler of someone's own may go on."""
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return raises and threading.current_thread() is threading.main_thread()


def _pointer(array: np.ndarray | None) -> int | None:
    if array is None:
        return None
    if not array.flags.c_contiguous or array.dtype.itemsize != 4:
        raise ValueError(f"a kernel buffer is contiguous 32-bit words, found {array.dtype}, {array.flags}")
    return array.ctypes.data
