"""Rung 5 by itself: its operators against float64, faults that it must see, what its command says.

Tests marked ``rtl`` need clang, yosys and XLS; where one is missing they are skipped, by name.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fpga_bridge.cli import main
from fpga_bridge.cli import rtl as command
from fpga_bridge.cli.rtl import SMALL
from fpga_bridge.kernel.build import kernel_sources
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.rtl import bodies, check, operators, simulation
from fpga_bridge.rtl.check import SPECIAL, BodyReport, Difference, check_bodies
from tests.fpga_bridge.test_rtl import needs_tools
from ttjax import UserError, preset

MANIFEST = make_manifest(preset("tiny"))
FAULTS = [
    ("adder_tree.hpp", "value[i] + value[i + kHalf]", "value[2 * i] + value[2 * i + 1]", "norm_join"),
    ("elementary.hpp", "6.74664676e-2f", "6.75664676e-2f", "nonlinear_log"),
    ("update.hpp", "parameter[lane] - (rate", "parameter[lane] + (rate", "update_lanes"),
]


@pytest.mark.rtl
@needs_tools
def test_another_order_or_digit_or_sign_is_seen_where_it_is() -> None:
    """Of the sources that the Verilog is made of, not of those that it is held against."""
    sources = kernel_sources()
    for source, old, new, _ in FAULTS:
        assert sources[source].count(old) == 1
        sources[source] = sources[source].replace(old, new)
    names = tuple(name for *_, name in FAULTS)
    *broken, whole = check_bodies(
        MANIFEST, SMALL, names=(*names, "nonlinear_tanh"), vectors=1000, sources=sources
    )
    for report in broken:
        assert report.differing > 0 and report.first is not None, report.name
        assert report.first.expected != report.first.found
    assert (whole.differing, whole.first) == (0, None)


@pytest.mark.rtl
@needs_tools
def test_an_operator_that_is_a_cycle_late_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        check,
        "operator_modules",
        lambda cycles: operators.operator_modules({**cycles, "add": cycles["add"] + 1}),
    )
    (report,) = check_bodies(MANIFEST, SMALL, names=("update_lanes",), vectors=200)
    assert report.differing > 100


def rounded(exact: np.ndarray) -> np.ndarray:
    """float64 results, each of one operation, as float32 that flushes what is denormal once it is rounded.

    Twice rounded is right: float64 has more than twice float32's digits, and two more.
    """
    mantissa, exponent = np.frexp(exact)
    near = np.ldexp(np.rint(np.ldexp(mantissa, 24)), exponent - 24)
    with np.errstate(over="ignore"):
        return np.where(np.abs(near) < 2.0**-126, np.copysign(0.0, exact), near).astype(np.float32)


@pytest.fixture(scope="module")
def code() -> str:
    """The operators in XLS's own form."""
    text = Path(operators.__file__).with_name(operators.SOURCE).read_text()
    return operators.xls().convert_dslx_to_ir(text, operators.SOURCE, "operators")


EXACT: dict[str, Callable[..., np.ndarray]] = {
    "fadd": np.add,
    "fmul": np.multiply,
    "fdiv": np.divide,
    "fsqrt": lambda x, _: np.sqrt(x),
}


@pytest.mark.rtl
@needs_tools
@pytest.mark.parametrize("name", EXACT)
def test_an_operator_rounds_as_float64_says(name: str, code: str) -> None:
    """Also where a result is just normal, where a sum cancels, and for zeros, infinities and NaN."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 1 << 32, (2, 1500), dtype=np.uint32).view(np.float32)
    near = rng.standard_normal((2, 900)).astype(np.float32)
    smallest = np.float32(2.0**-126)
    with np.errstate(all="ignore"):
        # Products, quotients and sums around the smallest normal number, and x - x'.
        edges = [smallest / near[0], near[0] / smallest, -near[0]]
    close = [(edge.view(np.uint32) + rng.integers(-3, 4, edge.size).astype(np.uint32)) for edge in edges]
    left = np.concatenate([x, near[0], *(3 * [near[0]]), np.repeat(SPECIAL, SPECIAL.size)])
    right = np.concatenate(
        [y, near[1], *(bits.view(np.float32) for bits in close), np.tile(SPECIAL, SPECIAL.size)]
    )
    flush = lambda z: np.where(np.abs(z) < smallest, np.copysign(np.float32(0), z), z)  # noqa: E731
    with np.errstate(all="ignore"):
        expected = rounded(EXACT[name](flush(left).astype(np.float64), flush(right).astype(np.float64)))

    xls = operators.xls()
    top = xls.mangle_dslx_name("operators", name)
    package = xls.Package.parse_ir(xls.optimize_ir(code, top))
    run = package.get_function(top).to_jit()
    words = zip(left.view(np.uint32), right.view(np.uint32), strict=True)
    arity = 1 if name == "fsqrt" else 2
    found = np.array(
        [
            run.run([xls.Value.make_ubits(32, int(word)) for word in pair[:arity]]).get_bits().to_uint64()
            for pair in words
        ],
        np.uint32,
    )
    same = (found == expected.view(np.uint32)) | (np.isnan(found.view(np.float32)) & np.isnan(expected))
    assert same.all(), [(left[i], right[i], expected[i], found[i]) for i in np.flatnonzero(~same)[:5]]


def report(differing: int, first: Difference | None) -> BodyReport:
    counts = {"add": 5, "mul": 7, "div": 0, "sqrt": 0}
    return BodyReport("nonlinear_tanh", counts, counts, 46, 1, 50, differing, first)


@pytest.mark.parametrize("agrees", [True, False])
def test_the_command_says_where_they_part(
    agrees: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = report(0, None) if agrees else report(3, Difference(7, 0, 0x3F800000, 0x3F800001))
    monkeypatch.setattr(command, "check_bodies", lambda *_, **__: [found])
    monkeypatch.setattr(command, "tool_versions", lambda: {"clang": "14"})
    assert main(["rtl", "--body", "nonlinear_tanh", "--vectors", "50", "--json", "-"]) == (0 if agrees else 1)
    said = capsys.readouterr()
    figures = json.loads(said.out)
    assert figures["agree"] is agrees and figures["bodies"][0]["operators"]["mul"] == 7
    assert figures["accelerator"]["nonlinear_lanes"] == 2 and figures["tools"] == {"clang": "14"}
    assert (
        f"\n{'AGREE' if agrees else 'DISAGREE'}: rung 5, of an open flow; nothing here is Vitis's" in said.err
    )
    where = (
        "nonlinear_tanh: first at vector 7, result 0: expected 1 (0x3f800000), found 1.00000012 (0x3f800001)"
    )
    assert (where in said.err) is not agrees


@pytest.mark.rtl
@needs_tools
def test_the_command_runs_what_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    kept = tmp_path / "highest.v"
    command = ["rtl", "--body", "nonlinear_highest", "--vectors", "50", "--json", "-", "--verilog", str(kept)]
    assert main(command) == 0
    assert re.findall(r"^module (\w+)", kept.read_text(), re.MULTILINE)[-2:] == [
        "nonlinear_highest",
        "bodies",
    ]
    figures = json.loads(capsys.readouterr().out)
    assert [body["name"] for body in figures["bodies"]] == ["nonlinear_highest"]
    assert set(figures["tools"]) == {"clang", "XLS", "simulator"}


def test_a_body_that_is_none_and_no_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rtl", "--body", "softmax"]) == 2
    assert "expected some of engine_to_wide" in (said := capsys.readouterr().err) and "found softmax" in said
    assert main(["rtl", "--vectors", "0"]) == 2
    assert "expected at least 1, found 0" in capsys.readouterr().err
    assert main(["rtl", "--verilog", "no/such/folder/a.v"]) == 2
    assert "no/such/folder" in capsys.readouterr().err


def test_a_missing_tool_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for find, expected in (
        (bodies.find_clang, "no clang, which reads the bodies' C.*apt-get install clang.*make test-rtl"),
        (simulation.headers, "no yosys and no yosys-config; run `apt-get install yosys yosys-dev`"),
    ):
        with pytest.raises(UserError, match=expected):
            find()
    monkeypatch.setitem(sys.modules, "xls.c_api", None)
    with pytest.raises(UserError, match=r"no XLS.*pip install 'ttjax-fpga\[rtl\]'.*make test-rtl"):
        operators.xls()


def test_operands_reach_special_values_and_none_is_denormal() -> None:
    body = bodies.CompiledBody("norm_lanes", 40, 6, 1, library=None)  # type: ignore[arg-type]
    x, n = check.random_operands(body, 500, np.random.default_rng(0))
    tiny = (np.abs(x) < np.finfo(np.float32).smallest_normal) & (x != 0)
    assert not tiny.any() and np.isnan(x).any() and np.isinf(x).any()
    assert {*np.unique(n[:, 0])} == {0, 1} and n[:, 5].min() == -1 and n[:, 5].max() == 33
    assert np.isfinite(x[::2]).all() and (np.abs(x[::2]) < 1e6).all()
