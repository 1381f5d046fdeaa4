"""The host's side of the kernel's commands, the same for every device that runs the kernel.

A subclass says how one command crosses to the kernel; packing, checking and decoding are here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, UInt32
from numpy.typing import ArrayLike

from fpga_bridge.device import Device, StepResult, Trace, encode_examples, logits_per_example, stacked
from fpga_bridge.kernel.header import kernel_hash
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.manifest import LOSSES, Manifest, TracePoint, make_manifest
from ttjax import Batch, Logits, ModelConfig, Params, UserError, flatten

LOAD, STEP, INFER, STORE = range(4)
LOSSES_PER_EXAMPLE = len(LOSSES)
DONE, WRONG_HASH, UNKNOWN_COMMAND = 0.0, 1.0, 2.0
_STATUS = {
    WRONG_HASH: "the image was packed for another kernel",
    UNKNOWN_COMMAND: "unknown command",
}


# XRT counts the milliseconds of a wait in a signed 32-bit number: some 24 days.
LONGEST_TIMEOUT_S = (2**31 - 1) / 1e3


class KernelRefusal(UserError):
    """The kernel ran and refused the command."""


class KernelDevice(ABC):
    """A Device that runs the kernel, wherever it is.

    ``taps``: whether that build of the kernel records and overrides trace points. ``hash``: what the kernel
    must have been built with, and every image begins with.
    """

    taps: bool = True

    def __init__(self, config: ModelConfig, accelerator: Accelerator = DEFAULT) -> None:
        self.config = config
        self.manifest: Manifest = make_manifest(config)
        self.hash = kernel_hash(self.manifest, accelerator)

    def pack(self, params: Params) -> UInt32[np.ndarray, " words"]:
        """The image of parameters that this kernel takes; errors as of ``Layout.pack``."""
        return self.manifest.layout.pack(params, self.hash)

    def load(self, params: Params) -> None:
        """Packs, writes the image, reads it back and compares every bit.

        Raises:
            UserError: parameters that don't fit the config, or a word that reads back differently.
        """
        image = self.pack(params)
        self._run(LOAD, image=image)
        back = self._store()
        if not np.array_equal(image, back):
            word = int(np.flatnonzero(image != back)[0])
            self._differs(word, int(image[word]), int(back[word]))

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        """One SGD step on one sentence. Overrides imply a trace.

        A kernel without taps has no values of its own to show: its trace is the losses and the parameters.
        At padding the trace is zero whatever the kernel left there, and so are the values handed in.
        """
        if overrides and not self.taps:
            raise UserError(
                "this kernel was built without taps and can't take values in: run mode locked or free, or"
                " build it with taps"
            )
        examples = encode_examples(stacked(batch), np.array([rate], np.float32), self.config)
        results = np.empty(1 + LOSSES_PER_EXAMPLE, np.float32)
        # A point that the kernel fails to record stays NaN, which never agrees.
        wanted = bool(trace or overrides)
        buffer = np.full(self.manifest.words, np.nan, np.float32) if wanted and self.taps else None
        length = int(batch.length)
        handed_in = None
        if overrides is not None:
            handed_in = self.manifest.overrides(self.manifest.without_padding(overrides, length))
        self._run(STEP, examples=examples, results=results, trace=buffer, overrides=handed_in)
        joint, intent, slot = (float(loss) for loss in results[1:])
        if buffer is not None:
            recorded = self.manifest.without_padding(self.manifest.read(buffer), length)
            return StepResult(joint, intent, slot, recorded)
        return StepResult(joint, intent, slot, self._outside(results[1:]) if wanted else None)

    def steps(self, batch: Batch, rates: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Runs n SGD steps in one call (fields of ``batch`` with a leading axis n).

        Returns:
            joint, intent and slot loss of each.
        """
        examples = encode_examples(batch, rates, self.config)
        return self._over_examples(STEP, examples, LOSSES_PER_EXAMPLE)

    def infer(self, batch: Batch) -> Logits:
        """Logits of one sentence; zeros at the slots of padding."""
        logits = self.infer_all(stacked(batch))
        return Logits(logits.intent[0], logits.slots[0])

    def infer_all(self, batch: Batch) -> Logits:
        """Logits of n sentences in one call (fields of ``batch`` with a leading axis n), as of ``infer``."""
        n = len(batch.length)
        config = self.config
        examples = encode_examples(batch, np.zeros(n, np.float32), config)
        rows = self._over_examples(INFER, examples, logits_per_example(config))
        slots = rows[:, config.n_intents :].reshape(n, config.seq_len, config.n_slots)
        return logits_without_padding(Logits(rows[:, : config.n_intents], slots), batch.length)

    def read(self) -> Params:
        """The parameters on the chip now."""
        return self.manifest.layout.unpack(self._store(), self.hash)

    def _store(self) -> UInt32[np.ndarray, " words"]:
        image = np.empty(self.manifest.layout.image_words, np.uint32)
        self._run(STORE, image=image)
        return image

    def _over_examples(self, command: int, examples: np.ndarray, width: int) -> np.ndarray:
        """One command over n examples: ``width`` numbers of each."""
        results = np.empty(1 + width * len(examples), np.float32)
        self._run(command, examples=examples, results=results)
        return results[1:].reshape(len(examples), width)

    def _outside(self, losses: np.ndarray) -> Trace:
        """What can be seen of a step from outside the kernel."""
        joint, intent, slot = losses
        values = dict(zip(LOSSES, (intent, slot, joint), strict=True))
        seen: Trace = {name: np.asarray(value, np.float32) for name, value in values.items()}
        new = {f"new_{name}": np.asarray(leaf) for name, leaf in flatten(self.read()).items()}
        return seen | {name: leaf for name, leaf in new.items() if name in self.manifest.by_name}

    def _differs(self, word: int, written: int, found: int) -> NoReturn:
        """Refuses to go on with an image of which that word reads back as another."""
        raise UserError(
            f"read-back differs: image word {word} was written as {written:#010x} and reads {found:#010x}"
        )

    @abstractmethod
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
        """One command to its end; ``image`` (STORE), ``results`` and ``trace`` are filled in place."""


def check_timeout(seconds: float) -> None:
    """Refuses what is no time that a run could be waited for.

    Raises:
        UserError: a number that is not above 0, NaN, or longer than XRT counts.
    """
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise UserError(
            f"timeout: expected a number of seconds above 0 and up to {LONGEST_TIMEOUT_S:,.0f}, found"
            f" {seconds:g}"
        )


def check_status(status: float) -> None:
    """Turns the kernel's refusal, the first word of its results, into an error."""
    if status != DONE:
        reason = _STATUS.get(status, f"unknown status {status}")
        raise KernelRefusal(f"the kernel refused: {reason}; load it for this configuration")


def logits_without_padding(logits: Logits, length: ArrayLike) -> Logits:
    """The logits with zeros at the slots of padding, which are nobody's; a leading axis n on all, or none."""
    slots = np.array(logits.slots)
    slots[np.arange(slots.shape[-2]) >= np.asarray(length)[..., None]] = 0
    return Logits(np.asarray(logits.intent), slots)


def visible_points(device: Device, manifest: Manifest) -> tuple[TracePoint, ...]:
    """The trace points a device can show: all, or losses and updated parameters of a build without taps."""
    if device.taps:
        return manifest.points
    return tuple(p for p in manifest.points if p.kind == "updated" or p.name in LOSSES)
