"""What XRT costs over csim is taken round by round, and shown with how far the rounds spread."""

from __future__ import annotations

import pytest

from benchmarks.timing import Row
from benchmarks.xrt_overhead import over_csim


def test_the_overhead_is_of_the_same_round() -> None:
    """In µs. The rounds differ by far more than the devices do: differences of medians would be others."""
    csim = Row("csim", "way", ms=[1.0, 2.0, 3.0, 4.0, 5.0])
    again = Row("csim again", "way", ms=[0.998, 2.001, 3.0, 4.003, 4.999])
    xrt = Row("xrt", "way", ms=[6.0, 2.02, 3.03, 4.01, 5.04])
    assert over_csim(csim, again, xrt) == {
        "xrt_us": pytest.approx(30),
        "xrt_us_quartiles": pytest.approx([20, 40]),
        "csim_again_us": pytest.approx(0, abs=1e-9),
        "csim_again_us_quartiles": pytest.approx([-1, 1]),
        "ratio": pytest.approx(4.01 / 3),
    }
