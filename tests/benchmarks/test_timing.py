"""Trainings take turns in another order every round; times, rates and quartiles come out in their units."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.timing import Row, Training, time_in_turn, warm_up


class Decay:
    """A training of one number: its loss is multiplied by ``factor`` at every step."""

    def __init__(self, value: float, factor: float) -> None:
        self.value, self.factor, self.passes = value, factor, 0

    def advance(self) -> np.ndarray:
        self.passes += 1
        losses = self.value * self.factor ** np.arange(3)
        self.value *= self.factor**3
        return losses


def timed(*decays: Decay) -> list[tuple[Row, Training]]:
    return [(Row(f"row {i}", "case"), Training(decay.advance, 5, "same")) for i, decay in enumerate(decays)]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (Decay(1.0, 1.0), "row 1 .*: its parameters aren't carried on"),
        (Decay(1.0, float("nan")), "row 1 .*: its parameters aren't carried on, or it diverges"),
        (Decay(1.0, 0.8), "row 1 .* is not the same training as row 0 .*: at step 5"),
    ],
)
def test_a_row_that_trains_otherwise_is_not_timed(second: Decay, message: str) -> None:
    warm_up(timed(Decay(1.0, 0.9), Decay(1.0, 0.9)), lambda: None)
    with pytest.raises(RuntimeError, match=message):
        warm_up(timed(Decay(1.0, 0.9), second), lambda: None)


def test_rows_take_turns() -> None:
    first, second = Decay(1.0, 0.9), Decay(1.0, 0.9)
    rows = timed(first, second)
    seen = []
    time_in_turn(rows, 4, 1e-9, lambda: seen.append((first.passes, second.passes)))
    assert seen == [(1, 1), (2, 2), (3, 3), (4, 4)]
    for row, _ in rows:
        assert len(row.ms) == 4 and min(row.ms) > 0


def test_a_slice_of_no_length_is_one_pass() -> None:
    decay = Decay(1.0, 0.9)
    time_in_turn(timed(decay), 3, 0, lambda: None)
    assert decay.passes == 3


def test_each_round_has_another_order() -> None:
    """None always comes first, or always after the same one; all have their turn in each."""
    seen: list[int] = []

    def training(i: int) -> Training:
        return Training(lambda: np.array([float(seen.append(i) or 1)]), 1, "same")

    time_in_turn([(Row(str(i), "case"), training(i)) for i in range(3)], 12, 0, lambda: None)
    rounds = [tuple(seen[i : i + 3]) for i in range(0, len(seen), 3)]
    assert all(sorted(order) == [0, 1, 2] for order in rounds)
    assert {order[0] for order in rounds} == {0, 1, 2}
    assert len({pair for order in rounds for pair in pairwise(order)}) == 6


def test_ms_are_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of two passes: 0.25 s for 3 steps each, 0.5 s for 6."""
    clock = [100.0]

    def advance() -> np.ndarray:
        clock[0] += 0.25
        return np.ones(3)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    row = Row("row", "case")
    time_in_turn([(row, Training(advance, 5, "same"))], 2, 0.4, lambda: None)
    assert row.ms == pytest.approx([500 / 6, 500 / 6])


def test_a_loss_that_is_not_finite_ends_the_timing() -> None:
    with pytest.raises(RuntimeError, match=r"row 0 .* diverged while it was timed"):
        time_in_turn(timed(Decay(1.0, float("inf"))), 1, 0, lambda: None)


def test_a_summary_has_the_median_quartiles_and_rate() -> None:
    """Two operations a multiplication: 3e6 of them in 4 ms are 1.5 GFLOP/s."""
    row = Row("row", "case", 3_000_000, ms=[6.0, 1.0, 4.0, 2.0, 9.0])
    assert row.summary() == {
        "case": "case",
        "name": "row",
        "ms": 4.0,
        "ms_quartiles": [2.0, 6.0],
        "ms_extremes": [1.0, 9.0],
        "ms_slices": [6.0, 1.0, 4.0, 2.0, 9.0],
        "multiplications": 3_000_000,
        "gflops": pytest.approx(1.5),
    }
    missing = Row("row", "case", not_run="no torch")
    assert missing.summary() == {"case": "case", "name": "row", "not_run": "no torch"}
