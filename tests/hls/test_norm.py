"""The norm unit by itself against LayerNorm in float64: values, trips, and what it leaves alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fpga_bridge.program.instructions import LENGTH, Flag, Instruction, Op, Operand
from tests.hls.units import (
    NORM_LANES,
    SUM_DISTANCE,
    TOKENS,
    Sentence,
    Units,
    assert_close,
    levels,
    random_sentence,
)

WIDTH = 44  # kNormWidth
EPS = float(np.float32(1e-5))
# From a row's last trip to its first in the next pass: the operators in between, each as slow as an adder but
# the root and the division.
SETTLE = SUM_DISTANCE * (3 + 4 + levels(NORM_LANES) + levels(SUM_DISTANCE) + 5 * 2)

seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, WIDTH)
lengths = st.integers(2, TOKENS)
streams = st.sampled_from([LENGTH, 1])
intervals = st.sampled_from([1, 3])


def trips(op: Op, rows: int, cols: int, interval: int, trains: bool = False) -> int:
    """Trips of an operation: of its passes over all rows, of which all but the last wait for their sums."""
    chunks = -(-cols // NORM_LANES)
    # A chunk's sums over the rows come again with the next row.
    summing = max(chunks, SUM_DISTANCE) if trains else chunks
    sums = max(rows * summing, summing - 1 + SETTLE)
    return interval * ({Op.NORM: 2, Op.NORM_AGAIN: 0, Op.NORM_BACKWARD: 1}[op] * sums + rows * chunks)


def draw_rows(
    length: int, stream: int, cols: int, rng: np.random.Generator, *sets: float
) -> tuple[Sentence, list[np.ndarray]]:
    """A sentence, and for each mean in ``sets`` rows of that mean (1, rows, cols)."""
    sentence = random_sentence(length, rng)
    rows = length if stream == LENGTH else stream
    return sentence, [rng.normal(mean, 1.0, (1, rows, cols)).astype(np.float32) for mean in sets]


def one_row(units: Units, cols: int, rng: np.random.Generator, *, empty: bool = False) -> Operand:
    """Scale, shift or a gradient of them."""
    values = rng.standard_normal((1, 1, cols)).astype(np.float32)
    return units.put(np.full_like(values, np.nan) if empty else values, "weights", rng)


@settings(max_examples=100)
@given(seeds, widths, lengths, streams, intervals, st.sampled_from([0.0, 30.0]), st.booleans(), st.booleans())
def test_forward_and_again(
    units: Units,
    seed: int,
    cols: int,
    length: int,
    stream: int,
    interval: int,
    mean: float,
    in_place: bool,
    residual: bool,
) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence, (x, more) = draw_rows(length, stream, cols, rng, mean, 0.0)
    shape = x.shape
    empty = np.full_like(x, np.nan)
    x_at, unit_at = units.put(x, "activation", rng), units.put(empty, "activation", rng)
    y_at = x_at if in_place else units.put(empty, "activation", rng)
    scale_at, shift_at = one_row(units, cols, rng), one_row(units, cols, rng)
    inverse_at = units.put(np.full((1, 1, shape[1]), np.nan, np.float32), "extra", rng)
    residual_at = units.put(more, "activation", rng) if residual else None
    scale, shift = (units.view(at, (1, 1, cols)).astype(np.float64) for at in (scale_at, shift_at))

    operands = (x_at, unit_at, y_at, scale_at, inverse_at, shift_at, residual_at)
    job = Instruction(Op.NORM, ("", ""), operands, stream=stream, cols=cols, interval=interval)
    written = [(unit_at, shape), (y_at, shape), (inverse_at, (1, 1, shape[1]))]
    assert units.run(job, sentence, written) == trips(Op.NORM, shape[1], cols, interval)

    total = (x + more if residual else x).astype(np.float64)
    centred = total - total.mean(axis=-1, keepdims=True)
    inverse = 1 / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + EPS)
    # What a rounding of x makes of the deviations.
    condition = 1 + inverse * np.abs(total).max(axis=-1, keepdims=True)
    unit = centred * inverse
    size = condition * (1 + np.abs(unit))
    assert_close(
        units.view(inverse_at, (1, 1, shape[1]))[0, 0], inverse[0, :, 0], (inverse * condition)[0, :, 0]
    )
    assert_close(units.view(unit_at, shape), unit, size)
    y = units.view(y_at, shape).copy()
    assert_close(y, unit * scale + shift, size * np.abs(scale) + np.abs(shift))

    again_at = units.put(empty, "activation", rng)
    operands = (None, unit_at, again_at, scale_at, None, shift_at)
    job = Instruction(Op.NORM_AGAIN, ("", ""), operands, stream=stream, cols=cols, interval=interval)
    assert units.run(job, sentence, [(again_at, shape)]) == trips(Op.NORM_AGAIN, shape[1], cols, interval)
    assert units.view(again_at, shape).tobytes() == y.tobytes()


@settings(max_examples=100)
@given(seeds, widths, lengths, streams, intervals, st.booleans(), st.booleans(), st.booleans())
def test_backward(
    units: Units,
    seed: int,
    cols: int,
    length: int,
    stream: int,
    interval: int,
    trains: bool,
    copied: bool,
    in_place: bool,
) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence, (dy, unit) = draw_rows(length, stream, cols, rng, 0.5, 0.0)
    shape = dy.shape
    empty = np.full_like(dy, np.nan)
    dy_at, unit_at = units.put(dy, "activation", rng), units.put(unit, "activation", rng)
    dx_at = dy_at if in_place else units.put(empty, "activation", rng)
    copy_at = units.put(empty, "activation", rng) if copied else None
    scale_at = one_row(units, cols, rng)
    inverse = rng.uniform(0.5, 2.0, (1, 1, shape[1])).astype(np.float32)
    inverse_at = units.put(inverse, "extra", rng)
    gradients = [one_row(units, cols, rng, empty=True) if trains else None for _ in range(2)]

    operands = (dy_at, unit_at, dx_at, scale_at, inverse_at, copy_at, *gradients)
    flags = int(Flag.TRAINS) if trains else 0
    job = Instruction(
        Op.NORM_BACKWARD, ("", ""), operands, stream=stream, cols=cols, interval=interval, flags=flags
    )
    written = [(at, shape) for at in (dx_at, copy_at) if at is not None]
    written += [(at, (1, 1, cols)) for at in gradients if at is not None]
    taken = units.run(job, sentence, written)
    assert taken == trips(Op.NORM_BACKWARD, shape[1], cols, interval, trains)

    d, n = dy.astype(np.float64), unit.astype(np.float64)
    g = d * units.view(scale_at, (1, 1, cols)).astype(np.float64)
    by_row = inverse.astype(np.float64).transpose(0, 2, 1)
    mean, slope = (a.mean(axis=-1, keepdims=True) for a in (g, g * n))
    sizes = [np.abs(a).mean(axis=-1, keepdims=True) for a in (g, g * n)]
    found = units.view(dx_at, shape)
    assert_close(
        found, (g - mean - n * slope) * by_row, by_row * (np.abs(g) + sizes[0] + np.abs(n) * sizes[1])
    )
    if copy_at is not None:
        assert units.view(copy_at, shape).tobytes() == found.tobytes()
    for at, terms in zip(gradients, (d * n, d), strict=True):
        if at is not None:
            assert_close(units.view(at, (1, 1, cols))[0], terms.sum(axis=1), np.abs(terms).sum(axis=1))
