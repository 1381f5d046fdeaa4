"""Rung 5: the units' pipelines as Verilog against C simulation, and what the kernel states of them.

Tests marked ``rtl`` need clang, yosys and XLS; where one is missing they are skipped, by name.
"""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from fpga_bridge.cli.rtl import SMALL
from fpga_bridge.kernel.pipelines import Operators, pipelines
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.rtl import bodies
from fpga_bridge.rtl.check import BodyReport, check_bodies
from ttjax import preset

MANIFEST = make_manifest(preset("tiny"))
MISSING = [tool for tool in ("clang", "yosys", "yosys-config") if shutil.which(tool) is None]
MISSING += ["xls-python"] * (importlib.util.find_spec("xls") is None)
needs_tools = pytest.mark.skipif(
    bool(MISSING), reason=f"no {', '.join(MISSING)}: make test-rtl installs them"
)


@pytest.fixture(scope="module")
def reports() -> dict[str, BodyReport]:
    return {report.name: report for report in check_bodies(MANIFEST, SMALL, vectors=2000)}


@pytest.mark.rtl
@needs_tools
@pytest.mark.parametrize("name", bodies.BODIES)
def test_the_verilog_has_the_bits_of_c_simulation(name: str, reports: dict[str, BodyReport]) -> None:
    assert (reports[name].vectors, reports[name].differing, reports[name].first) == (2000, 0, None)


def stated(unit: str) -> tuple[Operators, Operators]:
    pipeline = pipelines(SMALL)[unit]
    return pipeline.path, pipeline.units


@pytest.mark.rtl
@needs_tools
def test_the_operators_are_those_that_the_units_state(reports: dict[str, BodyReport]) -> None:
    """What a unit states beside its body (``hls/*.hpp``) is what its lanes, trees and functions have."""
    mul, add, div, sqrt = (
        {name: report.operators[kind] for name, report in reports.items()}
        for kind in ("mul", "add", "div", "sqrt")
    )
    a, (_, units) = SMALL, stated("engine")
    assert {mul[f"engine_{mode}"] for mode in ("to_wide", "to_narrow", "to_tile")} == {a.macs}
    assert units.mul == a.macs + 2 * a.tile_rows  # the scales
    # With few lanes the narrow tree has most adders at each level; half of the others stand in its first.
    tree = max(add["engine_to_wide"], add["engine_to_narrow"])
    assert units.add == tree + (add["engine_to_tile"] - a.macs // 2) + 6 * a.tile_lanes

    _, units = stated("norm")
    assert units.mul == mul["norm_lanes"] + 3  # of a row
    sums = 2 * add["norm_add"] + 2 * add["norm_join"]
    assert units.add == add["norm_lanes"] + a.norm_lanes + sums + add["norm_inverse"] + 1
    assert (units.div, units.sqrt) == (div["norm_inverse"] + 1, sqrt["norm_inverse"])

    _, units = stated("nonlinear")
    assert units.mul == mul["nonlinear_lanes"] + mul["nonlinear_tanh"] + mul["nonlinear_log"]
    sums = add["nonlinear_sum"] + 1 + add["nonlinear_tanh"] + add["nonlinear_log"] + 3
    assert units.add == add["nonlinear_lanes"] + sums
    assert (units.div, units.sqrt) == (div["nonlinear_lanes"], 0)

    assert stated("update")[1] == Operators(mul["update_lanes"], add["update_lanes"], 0, 0, 0)


@pytest.mark.rtl
@needs_tools
def test_the_longest_paths_are_those_that_the_units_state(reports: dict[str, BodyReport]) -> None:
    def path(*names: str, **more: int) -> dict[str, int]:
        kinds = ("mul", "add", "div", "sqrt")
        return {kind: sum(reports[name].path[kind] for name in names) + more.get(kind, 0) for kind in kinds}

    def of(unit: str) -> dict[str, int]:
        return {kind: n for kind, n in stated(unit)[0].items() if kind != "memory"}

    # Scales before and after; the accumulation, and bias or addend.
    longest = max(("engine_to_wide", "engine_to_narrow"), key=lambda name: reports[name].cycles)
    assert of("engine") == path(longest, mul=2, add=2)
    assert of("nonlinear") == path("nonlinear_lanes")
    assert of("update") == path("update_lanes")
    # A row's sums: residual; g, g - mean, product and scaled of the lanes (whose longest way is dx's); m2.
    of_lanes = {"mul": 3, "add": 1}
    assert reports["norm_lanes"].path["mul"] == 3
    residual_and_m2 = {"mul": 1 + of_lanes["mul"], "add": 1 + of_lanes["add"]}
    assert of("norm") == path("norm_add", "norm_join", "norm_inverse", **residual_and_m2)
