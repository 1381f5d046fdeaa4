"""What every device offers (csim, the card, the JAX reference), and how a sentence crosses to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float32, UInt32

from ttjax import Batch, Logits, ModelConfig, Params, UserError

# Arrays by trace point: ``block0.q``, ``d_block0.q``, ``d_block0.q.core3``, ``new_block0.q.core3``.
Trace = dict[str, Float[np.ndarray, "..."]]


class MissingXrt(UserError):
    """There is no runtime or no device: the machine has no card to drive."""


@dataclass(frozen=True)
class StepResult:
    """Losses of one SGD step and, if asked for, every trace point by name in order of execution."""

    loss: float
    intent_loss: float
    slot_loss: float
    trace: Trace | None = None

    @property
    def losses(self) -> Float32[np.ndarray, "3"]:
        """Joint, intent and slot loss: a row of what ``Device.steps`` returns."""
        return np.array([self.loss, self.intent_loss, self.slot_loss], np.float32)


class Device(Protocol):
    """Something that holds parameters and trains them one sentence at a time.

    ``taps``: whether it shows and takes in values within a step; else its trace is losses and parameters.
    """

    config: ModelConfig
    taps: bool

    def load(self, params: Params) -> None:
        """Puts parameters on the device and checks that they arrived."""
        ...

    def step(
        self, batch: Batch, rate: float, *, trace: bool = False, overrides: Trace | None = None
    ) -> StepResult:
        """One SGD step on one sentence at learning rate ``rate``; the new parameters stay on the device.

        ``overrides`` replaces the values at the trace points it names after they are recorded. At padding,
        the positions after the sentence's end, values and their gradients are nobody's: there the trace is
        zero, and what is handed in counts as zero (``Manifest.without_padding``).
        """
        ...

    def steps(self, batch: Batch, rates: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, "n 3"]:
        """Runs n SGD steps in one call (fields of ``batch`` with a leading axis n).

        Returns:
            joint, intent and slot loss of each.
        """
        ...

    def infer(self, batch: Batch) -> Logits:
        """Logits of one sentence, with zeros at the slots of padding; parameters are left alone."""
        ...

    def read(self) -> Params:
        """The parameters the device holds now, float32."""
        ...


HEAD_WORDS = 3  # of an example, before its tokens: length, intent, learning rate


def example_words(config: ModelConfig) -> int:
    """32-bit words of the kernel's record of one sentence: see ``encode_examples``."""
    return HEAD_WORDS + 2 * config.seq_len


def logits_per_example(config: ModelConfig) -> int:
    """Numbers that INFER writes for one example."""
    return config.n_intents + config.seq_len * config.n_slots


def encode_examples(
    batch: Batch, rates: Float32[np.ndarray, " n"], config: ModelConfig
) -> UInt32[np.ndarray, "n words"]:
    """The kernel's records of n sentences (fields with a leading axis n).

    A record is length, intent, learning rate as its bits, tokens, slots: 32-bit words.

    Raises:
        UserError: a field of the wrong shape or type, or an id outside the model's range.
    """
    n = len(rates)
    if not n:
        raise UserError("nothing to run: expected at least one sentence")
    tokens, length, intent, slots = (np.asarray(field) for field in batch)
    for name, field, shape in (
        ("tokens", tokens, (n, config.seq_len)),
        ("length", length, (n,)),
        ("intent", intent, (n,)),
        ("slots", slots, (n, config.seq_len)),
    ):
        if field.shape != shape or field.dtype != np.int32:
            raise UserError(f"example {name}: expected int32 {shape}, found {field.dtype} {field.shape}")
    for name, field, low, high in (
        ("tokens", tokens, 0, config.vocab_size - 1),
        ("length", length, 2, config.seq_len),
        ("intent", intent, 0, config.n_intents - 1),
        ("slots", slots, 0, config.n_slots - 1),
    ):
        if field.min() < low or field.max() > high:
            raise UserError(f"example {name}: expected {low} to {high}, found {field.min()} to {field.max()}")
    head = np.stack([length, intent, np.asarray(rates, np.float32).view(np.int32)], axis=1)
    return np.ascontiguousarray(np.concatenate([head, tokens, slots], axis=1)).view(np.uint32)


def stacked(batch: Batch) -> Batch:
    """One sentence as n = 1 sentences."""
    return Batch(*(np.asarray(field)[None] for field in batch))
