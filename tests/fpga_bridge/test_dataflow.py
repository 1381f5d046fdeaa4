"""Dataflow graphs read from LLVM's code, and the netlists made of them: no tool but these two is needed."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpga_bridge.kernel.build import kernel_sources
from fpga_bridge.rtl import bodies
from fpga_bridge.rtl.dataflow import Graph, read_graph
from fpga_bridge.rtl.netlist import make_netlist
from ttjax import UserError

CYCLES = {"add": 5, "mul": 3, "div": 15, "sqrt": 20}
HEAD = "define dso_local void @body_one(float* %0, i32* %1, float* %2) {\n"
MASK = (1 << 32) - 1


def graph_of(*lines: str, results: int = 1) -> Graph:
    return read_graph("\n".join([HEAD, *(f"  {line}" for line in lines), "  ret void", "}"]), "one", results)


def signed(word: int, bits: int) -> int:
    return word - (1 << bits) if word >> (bits - 1) else word


def evaluate(graph: Graph, x: list[float], n: list[int]) -> list[int]:
    """Bits of the results, by NumPy and Python's integers."""
    bits = np.array(x, np.float32).view(np.uint32)
    found: list[int] = []
    for value in graph.values:
        of = [found[i] for i in value.of]
        widths = [graph.values[i].bits for i in value.of]
        floats = [np.uint32(word & MASK).view(np.float32) for word in of]
        match value.kind.split():
            case ["constant"]:
                word = value.number
            case ["x"]:
                word = int(bits[value.number])
            case ["n"]:
                word = n[value.number]
            case ["fadd"]:
                word = int((floats[0] + floats[1]).view(np.uint32))
            case ["fmul"]:
                word = int((floats[0] * floats[1]).view(np.uint32))
            case ["less"]:
                word = int(floats[0] < floats[1])
            case ["equal"]:
                word = int(floats[0] == floats[1])
            case ["unordered"]:
                word = int(np.isnan(floats[0]) or np.isnan(floats[1]))
            case ["select"]:
                word = of[1] if of[0] else of[2]
            case ["icmp", test]:
                left, right = (signed(w, widths[0]) if test[0] == "s" else w for w in of)
                word = {"eq": left == right, "ne": left != right}.get(test, left < right)
                assert test in ("eq", "ne", "slt", "ult")
            case ["and" | "or" | "xor" | "add" | "sub" | "shl" | "lshr" as kind]:
                a, b = of
                both = {"and": a & b, "or": a | b, "xor": a ^ b, "add": a + b, "sub": a - b}
                word = (both | {"shl": a << b, "lshr": a >> b})[kind]
            case ["zext" | "trunc"]:
                word = of[0]
            case ["sext"]:
                word = signed(of[0], widths[0])
            case _:
                raise AssertionError(value)
        found.append(int(word) % (1 << value.bits))
    return [found[i] for i in graph.results]


NUMBERS = st.floats(width=32, allow_subnormal=False)


@given(x=NUMBERS, y=NUMBERS)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("test", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_a_comparison_is_made_of_less_equal_and_unordered(
    test: str, ordered: bool, x: float, y: float
) -> None:
    graph = graph_of(
        "%3 = load float, float* %0, align 4",
        "%4 = getelementptr inbounds float, float* %0, i64 1",
        "%5 = load float, float* %4, align 4",
        f"%6 = fcmp {'o' if ordered else 'u'}{test} float %3, %5",
        "%7 = select i1 %6, float 1.000000e+00, float 0.000000e+00",
        "store float %7, float* %2, align 4",
    )
    apart = np.isnan(x) or np.isnan(y)
    holds = {"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[test]
    expected = (holds and not apart) if ordered else (holds or apart)
    assert evaluate(graph, [x, y], []) == [0x3F800000 if expected else 0]


@given(x=NUMBERS, y=NUMBERS)
def test_whether_two_can_be_ordered(x: float, y: float) -> None:
    for test, expected in (("ord", not (np.isnan(x) or np.isnan(y))), ("uno", np.isnan(x) or np.isnan(y))):
        graph = graph_of(
            "%3 = load float, ptr %0, align 4, !tbaa !5",
            "%4 = getelementptr inbounds nuw i8, ptr %0, i64 4",
            "%5 = load float, ptr %4, align 4, !tbaa !5",
            f"%6 = fcmp {test} float %3, %5",
            "%7 = sext i1 %6 to i32",
            "%8 = bitcast i32 %7 to float",
            "store float %8, ptr %2, align 4, !tbaa !5",
        )
        assert evaluate(graph, [x, y], []) == [MASK if expected else 0]


@given(x=st.floats(-1e3, 1e3, width=32), n=st.integers(-40, 40))
def test_words_constants_and_signs(x: float, n: int) -> None:
    graph = graph_of(
        "; a remark",
        "%3 = load float, float* %0, align 4",
        "%4 = load i32, i32* %1, align 4",
        "%5 = fsub float 0x3FE6300000000000, %3",  # 0.693359375
        "%6 = tail call float @llvm.fabs.f32(float %5) #3",
        "%7 = fneg float %6",
        "%8 = icmp slt i32 %4, -3",
        "%9 = select i1 %8, float %7, float %6",
        "store float %9, float* %2, align 4",
        "%10 = bitcast float* %2 to i32*",
        "%11 = getelementptr inbounds i32, i32* %10, i64 1",
        "%12 = shl nuw i32 %4, 4",
        "%13 = xor i32 %12, -1",
        "store i32 %13, i32* %11, align 4",
        results=2,
    )
    magnitude = np.abs(np.float32(0.693359375) - np.float32(x))
    expected = -magnitude if n < -3 else magnitude
    found = evaluate(graph, [x], [n % (1 << 32)])
    assert found == [int(np.float32(expected).view(np.uint32)), ~(n << 4) & MASK]
    assert graph.count() == {"add": 1, "mul": 0, "div": 0, "sqrt": 0}


@pytest.mark.parametrize(
    "line",
    [
        "br i1 %3, label %4, label %5",
        "%3 = frem float 1.000000e+00, 2.000000e+00",
        "%3 = load double, double* %0, align 8",
        "%3 = call float @sinf(float 1.000000e+00)",
        "%3 = phi float [ 1.000000e+00, %4 ], [ 2.000000e+00, %5 ]",
        "%3 = load float, float* %2, align 4",
        "store float 1.000000e+00, float* %0, align 4",
    ],
)
def test_what_is_no_straight_line_is_refused_by_name(line: str) -> None:
    with pytest.raises(
        UserError, match=f"body one: expected straight-line arithmetic, found '{re.escape(line)}'"
    ):
        graph_of(line)


def test_a_body_without_its_results_and_one_that_is_not_there() -> None:
    with pytest.raises(UserError, match="expected 2 results, found fewer"):
        graph_of("store float 1.000000e+00, float* %2, align 4", results=2)
    with pytest.raises(UserError, match="body two: expected it among the compiled functions"):
        read_graph(HEAD + "}", "two", 1)


def test_values_wait_for_those_that_come_later() -> None:
    """x y + x: the sum begins when the product is there, and x is kept until then."""
    graph = graph_of(
        "%3 = load float, float* %0, align 4",
        "%4 = getelementptr inbounds float, float* %0, i64 1",
        "%5 = load float, float* %4, align 4",
        "%6 = fmul float %3, %5",
        "%7 = fadd float %6, %3",
        "store float %7, float* %2, align 4",
        "%8 = getelementptr inbounds float, float* %2, i64 1",
        "store float %6, float* %8, align 4",
        results=2,
    )
    netlist = make_netlist(graph, CYCLES, 2, 0)
    assert netlist.cycles == 3 + 5
    assert netlist.path == {"add": 1, "mul": 1, "div": 0, "sqrt": 0}
    kept = dict(re.findall(r"reg \[(\d+):0\] (v\d+)_late;", netlist.text))
    # x waits for the product, and as the second result the product for the sum.
    assert sorted(int(high) + 1 for high in kept) == [3 * 32, 5 * 32]


def test_each_body_of_the_source_is_known_by_name() -> None:
    source = kernel_sources()[bodies.SOURCE]
    assert re.findall(r"^BODY\((\w+),", source, re.MULTILINE) == list(bodies.BODIES)
