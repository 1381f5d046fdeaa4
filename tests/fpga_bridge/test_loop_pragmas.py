"""What the one loop asks synthesis for, as the preprocessor leaves it: its interval, and its dependences.

What Vitis makes of these isn't seen here; what they mean is read in AMD's UG1399.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fpga_bridge.kernel.build import find_compiler
from fpga_bridge.kernel.header import HEADER_NAME, array_sizes, header
from fpga_bridge.kernel.lint_tree import hls_pragmas
from fpga_bridge.memory.memory_map import make_memory_map
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY

HLS = Path(__file__).parents[2] / "hls"

# Iterations from a store to its use; the units' comments say why. Sums that a trip adds to and a later one
# stores have no such pragma.
DISTANCES = {
    "engine.c.sums": "kSumDistance",
    "engine.c.part_sums": "kSumDistance",
    "norm.minus_mean": "kNormSettle",
    "norm.minus_slope": "kNormSettleInverse",
    "norm.inverse": "kNormSettleInverse",
    "norm.d_scale": "kSumDistance",
    "norm.d_shift": "kSumDistance",
    "nonlinear.highest": "kSumDistance",
    "nonlinear.sums": "kSumDistance",
    "nonlinear.total": "kSumDistance",
    "nonlinear.weight": "kSumDistance",
}


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The loop's beginning, up to its first statement, of the tiny model's kernel."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / HEADER_NAME).write_text(header(make_manifest(TINY)))
    command = [find_compiler(), "-E", "-P", "-std=c++14", "-D__SYNTHESIS__", f"-I{folder}", f"-I{HLS}"]
    text = subprocess.run(
        [*command, HLS / "sequencer.hpp"], check=True, capture_output=True, text=True
    ).stdout
    (found,) = re.findall(r"SEQUENCE:.*?count_iteration\(\)", text, re.DOTALL)
    return found


def pragmas(text: str) -> list[str]:
    return [re.sub(r"\s*=\s*", "=", pragma.decode()) for pragma in hls_pragmas(text.encode())]


def test_the_loop_is_pipelined_at_the_interval_of_the_cycle_model(loop: str) -> None:
    assert [pragma for pragma in pragmas(loop) if pragma.startswith("PIPELINE")] == ["PIPELINE II=kInterval"]


def test_dependences_are_stated_with_their_distances_and_no_array_has_any(loop: str) -> None:
    arrays = array_sizes(make_memory_map(TINY))
    expected = [f"DEPENDENCE variable={name} inter RAW distance={n} true" for name, n in DISTANCES.items()]
    expected += [f"DEPENDENCE variable={name} inter false" for name in arrays]
    found = [pragma for pragma in pragmas(loop) if pragma.startswith("DEPENDENCE")]
    assert sorted(found) == sorted(expected)


def test_a_trip_s_registers_of_an_element_chosen_by_the_mode_are_asked_for() -> None:
    found = pragmas((HLS / "engine.hpp").read_text())
    assert {"ARRAY_PARTITION variable=wide complete", "ARRAY_PARTITION variable=product complete"} <= {*found}
