"""The norm unit by itself against LayerNorm in float64: values, trips, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
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
# From a row's last trip to its first in the next pass: the operators in between, each as slow as an adder;
# where the next pass reads `inverse`, a root and a division too.
SETTLE = SUM_DISTANCE * (4 + 5 + levels(NORM_LANES) + levels(SUM_DISTANCE))
SETTLE_INVERSE = SETTLE + SUM_DISTANCE * 5 * 2

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
    before = {
        Op.NORM: max(rows, SETTLE) + max(rows * chunks, chunks - 1 + SETTLE_INVERSE),
        Op.NORM_AGAIN: 0,
        # The next pass takes `chunks` trips a row: it catches up with a padded one.
        Op.NORM_BACKWARD: max(rows * summing, chunks - 1 + (rows - 1) * (summing - chunks) + SETTLE_INVERSE),
    }
    return interval * (before[op] + rows * chunks)


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


@pytest.mark.parametrize("op", [Op.NORM, Op.NORM_BACKWARD])
@pytest.mark.parametrize("trains", [False, True])
def test_sums_have_settled_where_the_next_pass_uses_them(units: Units, op: Op, trains: bool) -> None:
    """Each row's own trips, of the unit itself: from its last in a pass to its first in the next."""
    rng = np.random.default_rng(0)
    idle = []
    for rows in range(1, TOKENS + 1):
        for cols in range(1, WIDTH + 1, NORM_LANES):
            units.clear()
            x = units.put(np.zeros((1, rows, cols), np.float32), "activation", rng)
            scale = units.put(np.zeros((1, 1, WIDTH), np.float32), "weights", rng)
            operands = (x, x, x, scale, x, *[scale if op == Op.NORM or trains else None] * 3)
            flags = int(Flag.TRAINS) if trains else 0
            job = Instruction(op, ("", ""), operands, stream=rows, cols=cols, interval=1, flags=flags)
            idle.append(units.settled(job, random_sentence(2, rng)))
    # None waits longer than it must, either: some row of the shortest has no trip to spare.
    assert min(idle) == 0


def forward(units: Units, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normalised values (rows, cols) and inverse standard deviations (rows,) of x (rows, cols)."""
    units.clear()
    rows, cols = x.shape
    shape = (1, rows, cols)
    x_at = units.put(x[None], "activation", rng)
    unit_at = units.put(np.zeros(shape, np.float32), "activation", rng)
    scale_at, shift_at = one_row(units, cols, rng), one_row(units, cols, rng)
    inverse_at = units.put(np.zeros((1, 1, rows), np.float32), "extra", rng)
    operands = (x_at, unit_at, x_at, scale_at, inverse_at, shift_at)
    job = Instruction(Op.NORM, ("", ""), operands, stream=rows, cols=cols, interval=1)
    units.run(job, random_sentence(rows, rng), [(x_at, shape), (unit_at, shape), (inverse_at, (1, 1, rows))])
    return units.view(unit_at, shape)[0].copy(), units.view(inverse_at, (1, 1, rows))[0, 0].copy()


ROWS = {
    "far_from_zero": lambda rng, cols: 1e4 + rng.standard_normal(cols),
    "far_from_zero_and_close": lambda rng, cols: 1e4 + 0.01 * rng.standard_normal(cols),
    "small": lambda rng, cols: 1e-3 * rng.standard_normal(cols),
    "an_outlier": lambda rng, cols: np.where(
        np.arange(cols) == rng.integers(cols), 1e3, rng.standard_normal(cols)
    ),
    # As far as a mean can be from that of the first chunk.
    "two_levels": lambda rng, cols: np.where(np.arange(cols) < NORM_LANES, 100.0, 0.0),
}


@settings(max_examples=20)
@given(seeds, st.integers(2, WIDTH), st.integers(1, TOKENS))
@pytest.mark.parametrize("kind", ROWS)
def test_mean_and_variance_lose_no_digits(units: Units, kind: str, seed: int, cols: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.stack([ROWS[kind](rng, cols) for _ in range(rows)]).astype(np.float32)
    unit, inverse = forward(units, x, rng)
    exact = x.astype(np.float64)
    mean = exact.mean(axis=1, keepdims=True)
    expected = 1 / np.sqrt(exact.var(axis=1) + EPS)
    # m2 is this much larger than the variance, at most.
    chunks = max(1.0, cols / NORM_LANES)
    np.testing.assert_allclose(inverse, expected, rtol=1e-6 * chunks)
    rounded = np.spacing(np.abs(mean).astype(np.float32)).astype(np.float64)
    size = (1 + np.abs(exact - mean)) * expected[:, None] * chunks
    assert np.all(
        np.abs(unit - (exact - mean) * expected[:, None]) <= 2e-6 * size + 2 * rounded * expected[:, None]
    )


@settings(max_examples=40)
@given(seeds, widths, st.floats(-(2.0**50), 2.0**50, width=32))
def test_equal_elements_have_no_variance(units: Units, seed: int, cols: int, value: float) -> None:
    """Nor a negative one: their mean is rounded, and the sum of squares with it."""
    rng = np.random.default_rng(seed)
    unit, inverse = forward(units, np.full((2, cols), value, np.float32), rng)
    assert np.all(np.isfinite(unit)) and np.all(inverse > 0)
    assert np.all(inverse <= np.float32(1 / np.sqrt(EPS)) * (1 + 1e-6))
    if abs(value) < 1e3:
        np.testing.assert_allclose(inverse, 1 / np.sqrt(EPS), rtol=1e-5)


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
