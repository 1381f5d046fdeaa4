"""The nonlinear unit by itself against float64: every operation, forward and backward, and its trips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fpga_bridge.program.instructions import LENGTH, Flag, Instruction, Op, Operand
from tests.hls.units import (
    NONLINEAR_LANES,
    SUM_DISTANCE,
    TOKENS,
    Sentence,
    Units,
    assert_close,
    levels,
    random_sentence,
)

INTENTS, SLOTS, SLOT_WEIGHT = 5, 13, 3.0  # as mock_config.hpp has them
# Trips until a result that the next pass needs is there (nonlinear.hpp says which).
DRAIN = (levels(NONLINEAR_LANES) + 1) * SUM_DISTANCE
LOG_DRAIN = (22 + levels(NONLINEAR_LANES)) * SUM_DISTANCE
TOTAL_DRAIN = 5 * SUM_DISTANCE

seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(2, TOKENS)
intervals = st.sampled_from([1, 2])


def chunks_of(cols: int) -> int:
    return -(-cols // NONLINEAR_LANES)


def summing_trips(rows: int, chunks: int) -> int:
    """Of a pass that sums over rows: rows lie between a row's additions, idle trips where they are few."""
    filled = max(rows, SUM_DISTANCE)
    return chunks * filled + max(0, DRAIN - filled)


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GELU with tanh, and its derivative."""
    linear, cubic = np.sqrt(2 / np.pi), 0.044715
    t = np.tanh(linear * (x + cubic * x**3))
    slope = linear * (1 + 3 * cubic * x**2)
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * slope


def run(
    units: Units,
    op: Op,
    sentence: Sentence,
    operands: tuple[Operand | None, ...],
    shape: tuple,
    **fields: Any,
) -> tuple[np.ndarray, int]:
    """The third operand after the operation, and the operation's trips."""
    out = operands[2]
    assert out is not None
    trips = units.run(Instruction(op, ("", ""), operands, **fields), sentence, [(out, shape)])
    return units.view(out, shape), trips


@settings(max_examples=60)
@given(seeds, st.integers(1, 3 * NONLINEAR_LANES + 1), lengths, intervals, st.booleans(), st.booleans())
def test_gelu(
    units: Units, seed: int, cols: int, length: int, interval: int, backward: bool, in_place: bool
) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence = random_sentence(length, rng)
    x, dy = (rng.normal(0, spread, (1, length, cols)).astype(np.float32) for spread in (3.0, 1.0))
    x[0, 0, 0], x[0, 1, 0] = 40.0, -40.0
    x_at, dy_at = units.put(x, "activation", rng), units.put(dy, "activation", rng)
    out_at = units.put(np.full_like(x, np.nan), "activation", rng)
    if in_place:
        out_at = dy_at if backward else x_at
    value, slope = gelu(x.astype(np.float64))
    expected, size = (dy * slope, np.abs(dy)) if backward else (value, np.abs(x))
    op = Op.GELU_BACKWARD if backward else Op.GELU
    operands = (x_at, dy_at if backward else None, out_at)
    found, trips = run(units, op, sentence, operands, x.shape, stream=LENGTH, cols=cols, interval=interval)
    assert trips == interval * length * chunks_of(cols)
    assert_close(found, expected, size)


@settings(max_examples=30)
@given(seeds, st.integers(1, 60))
def test_tanh(units: Units, seed: int, cols: int) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence = random_sentence(2, rng)
    x, dy = (rng.normal(0, 0.7, (1, 1, cols)).astype(np.float32) for _ in range(2))
    x_at, y_at = units.put(x, "extra", rng), units.put(np.full_like(x, np.nan), "extra", rng)
    y, trips = run(units, Op.TANH, sentence, (x_at, None, y_at), x.shape, cols=cols)
    assert trips == cols  # one lane
    assert_close(y, np.tanh(x.astype(np.float64)), np.abs(y))

    dy_at = units.put(dy, "extra", rng)
    dx, trips = run(units, Op.TANH_BACKWARD, sentence, (y_at, dy_at, dy_at), x.shape, cols=cols)
    assert trips == chunks_of(cols)
    assert_close(dx, dy * (1 - y.astype(np.float64) ** 2), np.abs(dy))


@settings(max_examples=60)
@given(seeds, st.integers(1, 3), lengths, intervals)
@example(0, 3, TOKENS, 1)  # as many rows as there can be
def test_softmax(units: Units, seed: int, heads: int, length: int, interval: int) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence = random_sentence(length, rng)
    shape, rows, chunks = (heads, length, length), heads * length, chunks_of(length)
    scores, dp = (rng.normal(0, 2.0, shape).astype(np.float32) for _ in range(2))
    scores[0, 0, 0] = 150.0  # the highest of its row by far
    scores_at, dp_at = units.put(scores, "extra", rng), units.put(dp, "weights", rng)
    extents = {"batches": heads, "stream": LENGTH, "cols": LENGTH, "interval": interval}
    p, trips = run(units, Op.SOFTMAX, sentence, (scores_at, None, scores_at), shape, **extents)
    assert trips == interval * (2 * summing_trips(rows, chunks) + chunks * rows)
    expected = softmax(scores.astype(np.float64))
    assert_close(p, expected, expected * 4)

    ds, trips = run(units, Op.SOFTMAX_BACKWARD, sentence, (scores_at, dp_at, dp_at), shape, **extents)
    assert trips == interval * (summing_trips(rows, chunks) + chunks * rows)
    weights = p.astype(np.float64)
    mean = (weights * dp).sum(axis=-1, keepdims=True)
    size = np.abs(dp) + np.abs(weights * dp).sum(axis=-1, keepdims=True)
    assert_close(ds, weights * (dp - mean), weights * size)


@settings(max_examples=60)
@given(seeds, lengths, intervals, st.booleans())
def test_cross_entropy(units: Units, seed: int, length: int, interval: int, of_slots: bool) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence = random_sentence(length, rng)
    rows, cols = (length, SLOTS) if of_slots else (1, INTENTS)
    logits = rng.normal(0, 2.0, (1, rows, cols)).astype(np.float32)
    logits_at = units.put(logits, "extra", rng)
    d_at, loss_at = (units.put(np.full_like(a, np.nan), "weights", rng) for a in (logits, logits[:, :1, :1]))
    flags, stream = (int(Flag.SLOT_LABELS), LENGTH) if of_slots else (0, 1)
    job = Instruction(
        Op.CROSS_ENTROPY,
        ("", ""),
        (logits_at, None, d_at, loss_at),
        stream=stream,
        cols=cols,
        flags=flags,
        interval=interval,
    )
    trips = units.run(job, sentence, [(d_at, logits.shape), (loss_at, (1, 1, 1))])
    chunks = chunks_of(cols)
    passes = 2 * summing_trips(rows, chunks) + max(chunks * rows, LOG_DRAIN)
    assert trips == interval * (passes + rows * SUM_DISTANCE + TOTAL_DRAIN - SUM_DISTANCE + 1)

    x = logits[0].astype(np.float64)
    p, log_sum = softmax(x), np.log(np.exp(x).sum(axis=-1))
    labels = sentence.slots if of_slots else np.array([sentence.intent])
    losses, d = log_sum - x[np.arange(rows), labels], p - np.eye(cols)[labels]
    size = np.abs(x).max() + 1
    if of_slots:  # [CLS] has no label
        losses, d = losses[1:].mean(), SLOT_WEIGHT / (length - 1) * np.r_[np.zeros((1, cols)), d[1:]]
    assert_close(units.view(loss_at, (1, 1, 1)), losses, size)
    assert_close(units.view(d_at, logits.shape)[0], d, (p + np.abs(d)) * 4 + 1e-3)


@pytest.mark.parametrize(("intent", "slot"), [(1.37, 0.71), (0.0, 2.5)])
def test_joint_loss(units: Units, intent: float, slot: float) -> None:
    units.clear()
    rng = np.random.default_rng(0)
    losses = np.array([[[np.nan, intent, slot]]], np.float32)
    at = units.put(losses, "extra", rng)
    joint, trips = run(units, Op.JOINT_LOSS, random_sentence(2, rng), (at.at(1), None, at), (1, 1, 1), cols=2)
    assert trips == 1
    assert joint[0, 0, 0] == losses[0, 0, 1] + np.float32(SLOT_WEIGHT) * losses[0, 0, 2]
