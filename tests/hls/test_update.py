"""The update unit by itself: plain SGD to the bit, on the slices that the sentence's tokens have touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.program.instructions import LENGTH, NONE, Instruction, Op
from tests.hls.units import MODE, TOKENS, UPDATE_LANES, Units, random_sentence


@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, TOKENS),
    st.integers(1, 3 * UPDATE_LANES + 1),
    st.sampled_from([1, 3, LENGTH]),
    st.sampled_from([NONE, 0, 1]),
    st.sampled_from([1, 2]),
)
def test_what_the_tokens_touch_is_updated(
    units: Units, seed: int, length: int, cols: int, stream: int, digit: int, interval: int
) -> None:
    units.clear()
    rng = np.random.default_rng(seed)
    sentence = random_sentence(length, rng)
    rows = length if stream == LENGTH else stream
    shape = (MODE, rows, cols)
    parameter, gradient = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    parameter_at = units.put(parameter, "cores", rng, digit=digit)
    gradient_at = units.put(gradient, "extra", rng, digit=digit)

    # With a digit the number of batches is the sentence's own.
    batches = MODE if digit == NONE else 10**6
    operands = (parameter_at, gradient_at)
    job = Instruction(
        Op.UPDATE, ("", ""), operands, stream=stream, cols=cols, batches=batches, interval=interval
    )
    touched = range(MODE) if digit == NONE else set(sentence.digits[digit].tolist())
    trips = units.run(job, sentence, [(parameter_at, shape)])
    assert trips == interval * len(touched) * rows * -(-cols // UPDATE_LANES)

    for batch in touched:
        parameter[batch] -= np.float32(sentence.rate) * gradient[batch]
    assert units.view(parameter_at, shape).tobytes() == parameter.tobytes()


@pytest.mark.parametrize("batches", [0, 1])
def test_a_bank_is_one_row_of_any_length(units: Units, batches: int) -> None:
    units.clear()
    rng = np.random.default_rng(0)
    parameter, gradient = (rng.standard_normal((1, 1, 1003)).astype(np.float32) for _ in range(2))
    operands = (units.put(parameter, "weights", rng), units.put(gradient, "weights", rng))
    sentence = random_sentence(2, rng)
    job = Instruction(Op.UPDATE, ("", ""), operands, cols=1003, batches=batches)
    trips = units.run(job, sentence, [(operands[0], parameter.shape)])
    assert trips == batches * -(-1003 // UPDATE_LANES)
    expected = parameter - batches * np.float32(sentence.rate) * gradient
    assert units.view(operands[0], parameter.shape).tobytes() == expected.tobytes()
