"""The csim device: the kernel's C++, compiled and loaded into this process, driven as the card would be."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt32

from fpga_bridge.build import build_kernel
from fpga_bridge.device import StepResult, Trace, encode_examples, stacked
from fpga_bridge.layout import HASH_WORDS
from fpga_bridge.manifest import make_manifest
from ttjax import Batch, Logits, ModelConfig, Params, UserError

LOAD, STEP, INFER, STORE = range(4)
LOSSES_PER_EXAMPLE = 3
_STATUS = {1.0: "the image was packed for another memory layout", 2.0: "unknown command"}


class CsimDevice:
    """A Device whose on-chip memory is the static arrays of its own copy of the kernel's library.

    Args:
        config: what the kernel is built for.
        library: a kernel built before; by default it is built now, or taken from the cache.

    Raises:
        UserError: the library can't be loaded or was built for another config; see also ``build_kernel``.
    """

    def __init__(self, config: ModelConfig, library: Path | None = None) -> None:
        self.config = config
        self.manifest = make_manifest(config)
        self._library = _load(library if library is not None else build_kernel(self.manifest))
        self._check_layout(library)

    def load(self, params: Params) -> None:
        """Packs, writes the image, reads it back and compares every bit.

        Raises:
            UserError: parameters that don't fit the config, or a word that reads back differently.
        """
        image = self.manifest.layout.pack(params)
        self._run(LOAD, image=image)
        back = self._store()
        if not np.array_equal(image, back):
            word = int(np.flatnonzero(image != back)[0])
            raise UserError(
                f"read-back differs: image word {word} was written as {image[word]:#010x} and reads"
                f" {back[word]:#010x}"
            )

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        """One SGD step on one sentence. Overrides imply a trace."""
        examples = encode_examples(stacked(batch), np.array([rate], np.float32), self.config)
        results = np.empty(1 + LOSSES_PER_EXAMPLE, np.float32)
        # A point that the kernel fails to record stays NaN, which never agrees.
        buffer = np.full(self.manifest.words, np.nan, np.float32) if trace or overrides else None
        handed_in = None if overrides is None else self.manifest.overrides(overrides)
        self._run(STEP, examples=examples, results=results, trace=buffer, overrides=handed_in)
        joint, intent, slot = (float(loss) for loss in results[1:])
        recorded = None if buffer is None else self.manifest.read(buffer)
        return StepResult(joint, intent, slot, recorded)

    def steps(self, batch: Batch, rates: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Runs n SGD steps in one call (fields of ``batch`` with a leading axis n).

        Returns:
            joint, intent and slot loss of each.
        """
        examples = encode_examples(batch, rates, self.config)
        results = np.empty(1 + LOSSES_PER_EXAMPLE * len(rates), np.float32)
        self._run(STEP, examples=examples, results=results)
        return results[1:].reshape(len(rates), LOSSES_PER_EXAMPLE)

    def infer(self, batch: Batch) -> Logits:
        """Logits of one sentence."""
        logits = self.infer_all(stacked(batch))
        return Logits(logits.intent[0], logits.slots[0])

    def infer_all(self, batch: Batch) -> Logits:
        """Logits of n sentences in one call (fields of ``batch`` with a leading axis n)."""
        n = len(batch.length)
        config = self.config
        examples = encode_examples(batch, np.zeros(n, np.float32), config)
        results = np.empty(1 + n * (config.n_intents + config.seq_len * config.n_slots), np.float32)
        self._run(INFER, examples=examples, results=results)
        rows = results[1:].reshape(n, -1)
        slots = rows[:, config.n_intents :].reshape(n, config.seq_len, config.n_slots)
        return Logits(rows[:, : config.n_intents], slots)

    def read(self) -> Params:
        """The parameters on the chip now."""
        return self.manifest.layout.unpack(self._store())

    def _store(self) -> UInt32[np.ndarray, " words"]:
        image = np.empty(self.manifest.layout.image_words, np.uint32)
        self._run(STORE, image=image)
        return image

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
        self._library.ttfpga_csim_run(command, n, *pointers)
        if results[0] != 0.0:
            raise UserError(
                f"the kernel refused: {_STATUS[float(results[0])]}; load it for this configuration"
            )

    def _check_layout(self, library: Path | None) -> None:
        found = np.ctypeslib.as_array(self._library.ttfpga_csim_layout_hash(), (HASH_WORDS,))
        same = np.array_equal(found, self.manifest.layout.hash)
        same = same and self._library.ttfpga_csim_image_words() == self.manifest.layout.image_words
        if not (same and self._library.ttfpga_csim_trace_words() == self.manifest.words):
            expected = self.manifest.layout.hash[0]
            raise UserError(
                f"stale kernel: {library} was built for another configuration (layout {found[0]:08x},"
                f" expected {expected:08x}); build it again"
            )


def _load(library: Path) -> ctypes.CDLL:
    """Loads a private copy: the loader shares a file's static arrays between all who open it."""
    if not library.is_file():
        raise UserError(f"no kernel at {library}: build one with `fpga-bridge build`")
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        copy = shutil.copy(library, scratch)
        try:
            loaded = ctypes.CDLL(copy)
            loaded.ttfpga_csim_layout_hash.restype = ctypes.POINTER(ctypes.c_uint32)
            loaded.ttfpga_csim_run.restype = None
        except (OSError, AttributeError) as error:
            raise UserError(f"{library} is not a simulation kernel: {error}") from None
    loaded.ttfpga_csim_run.argtypes = [ctypes.c_uint32] * 2 + [ctypes.c_void_p] * 5
    return loaded


def _pointer(array: np.ndarray | None) -> int | None:
    if array is None:
        return None
    if not array.flags.c_contiguous or array.dtype.itemsize != 4:
        raise ValueError(f"a kernel buffer is contiguous 32-bit words, found {array.dtype}, {array.flags}")
    return array.ctypes.data
