"""Elementary functions and the lanes of GELU and tanh against the C library's double: accuracy, bits."""

import json
import math
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from fpga_bridge.kernel.header import HEADER_NAME

REPOSITORY = Path(__file__).resolve().parents[2]
HLS = REPOSITORY / "hls"
PROGRAM = REPOSITORY / "tests" / "hls" / "elementary_accuracy.cpp"
COMPILE = ["g++", "-std=c++14", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
COMPILE += ["-Wno-unused-label", "-Wno-unused-variable"]

# Prime, so that the walk meets all patterns of low bits. The coarse one is for slow builds.
STRIDE = 101
COARSE_STRIDE = 9973

# Upper bounds; the exhaustive maxima stand in the header.
BOUNDS = {
    "exp": {"max_ulp": 1.0},
    "tanh": {"max_ulp": 1.5},
    "log": {"max_ulp": 0.9},
    "gelu": {"max_ulp": 4.0, "max_normwise": 6e-8},
    "gelu_tail": {"max_ulp": 220.0, "max_absolute": 6e-8},
    "gelu_derivative": {"max_absolute": 2.3e-7, "max_normwise": 2e-7},
}
MONOTONE = ("exp", "tanh", "log")

NAN = float("nan")
INFINITY = float("inf")
SMALLEST_NORMAL = 2.0**-126
LARGEST = (2.0 - 2.0**-23) * 2.0**127


def build(program: Path, *flags: str, include: Path = HLS) -> Path:
    """The accuracy program with the headers of ``include``, and the mock of the generated one beside it."""
    config = program.with_name(HEADER_NAME)
    config.write_text(PROGRAM.with_name("mock_config.hpp").read_text())
    includes = (f"-I{include}", f"-I{config.parent}")
    subprocess.run([*COMPILE, *flags, *includes, str(PROGRAM), "-o", str(program)], check=True)
    return program


def measure(program: Path, case: str, stride: int) -> dict:
    done = subprocess.run([str(program), case, str(stride)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def bits_of(value: float) -> int:
    return struct.unpack("<I", struct.pack("<f", value))[0]


def float_of(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def results_at(program: Path, case: str, operands: list[int]) -> list[int]:
    """Result bits for operand bits."""
    command = [str(program), case, "at", *(f"{operand:08x}" for operand in operands)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [int(result, 16) for result in json.loads(done.stdout)]


def broken_bounds(report: dict) -> list[str]:
    """What in a report exceeds its bounds, each with both values; empty when all is well."""
    broken = [
        f"{key} {report[key]} > {bound} near x = {report['worst_x']}"
        for key, bound in BOUNDS[report["function"]].items()
        if not report[key] <= bound
    ]
    if report["not_finite"]:
        broken.append(f"{report['not_finite']} results not finite")
    if report["function"] in MONOTONE and report["falls"]:
        broken.append(f"{report['falls']} falls where the function rises")
    return broken


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("elementary") / "accuracy", "-O2", "-march=native")


@pytest.mark.parametrize("case", BOUNDS)
def test_error_is_within_bounds(program: Path, case: str) -> None:
    report = measure(program, case, STRIDE)
    assert report["count"] > 100_000
    assert broken_bounds(report) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)  # those through tanh take more than five minutes on a busy core
@pytest.mark.parametrize("case", BOUNDS)
def test_error_is_within_bounds_on_every_float(program: Path, case: str) -> None:
    assert broken_bounds(measure(program, case, 1)) == []


@pytest.mark.parametrize(
    ("case", "operand", "expected"),
    [
        ("exp", 0.0, 1.0),
        ("exp", -0.0, 1.0),
        ("exp", SMALLEST_NORMAL / 2, 1.0),
        ("exp", -87.34, 0.0),
        ("exp", -1000.0, 0.0),
        ("exp", -LARGEST, 0.0),
        ("exp", -INFINITY, 0.0),
        ("exp", 88.73, INFINITY),
        ("exp", LARGEST, INFINITY),
        ("exp", INFINITY, INFINITY),
        ("exp", NAN, NAN),
        ("tanh", 0.0, 0.0),
        ("tanh", -0.0, 0.0),
        ("tanh", SMALLEST_NORMAL, SMALLEST_NORMAL),
        ("tanh", -1e-20, float_of(bits_of(-1e-20))),
        ("tanh", 10.0, 1.0),
        ("tanh", -10.0, -1.0),
        ("tanh", LARGEST, 1.0),
        ("tanh", INFINITY, 1.0),
        ("tanh", -INFINITY, -1.0),
        ("tanh", NAN, NAN),
        ("log", 1.0, 0.0),
        ("log", 0.0, -INFINITY),
        ("log", -0.0, -INFINITY),
        ("log", SMALLEST_NORMAL / 2, -INFINITY),
        ("log", -1.0, NAN),
        ("log", -INFINITY, NAN),
        ("log", INFINITY, INFINITY),
        ("log", NAN, NAN),
        ("gelu", 0.0, 0.0),
        ("gelu", -0.0, -0.0),
        ("gelu", -20.0, -0.0),
        ("gelu", 20.0, 20.0),
        ("gelu", LARGEST, LARGEST),
        ("gelu", -LARGEST, -0.0),
        ("gelu", INFINITY, INFINITY),
        ("gelu", -INFINITY, NAN),
        ("gelu", NAN, NAN),
        ("gelu_derivative", 0.0, 0.5),
        ("gelu_derivative", 20.0, 1.0),
        ("gelu_derivative", -20.0, 0.0),
        ("gelu_derivative", LARGEST, 1.0),
        ("gelu_derivative", -LARGEST, 0.0),
        ("gelu_derivative", INFINITY, 1.0),
        ("gelu_derivative", -INFINITY, 0.0),
        ("gelu_derivative", NAN, NAN),
    ],
)
def test_special_value(program: Path, case: str, operand: float, expected: float) -> None:
    [actual] = results_at(program, case, [bits_of(operand)])
    if math.isnan(expected):
        assert math.isnan(float_of(actual))
    else:
        assert f"{actual:08x}" == f"{bits_of(expected):08x}"


def test_tanh_is_odd_bit_for_bit(program: Path) -> None:
    draw = random.Random(0)
    operands = [draw.randrange(0x00800000, 0x7F800000) for _ in range(2000)]
    positive = results_at(program, "tanh", operands)
    negative = results_at(program, "tanh", [operand | 0x80000000 for operand in operands])
    assert negative == [result | 0x80000000 for result in positive]


@pytest.mark.parametrize(
    ("case", "centre"),
    [
        ("exp", -87.33),  # the cut to zero
        ("exp", 88.72283),  # the step to infinity
        ("tanh", 0.5625),  # where its two forms meet
        ("tanh", 9.01),  # where it reaches 1
        ("log", math.sqrt(0.5)),  # where the exponent steps
        ("log", 1.0),
    ],
)
def test_no_fall_across_a_seam(program: Path, case: str, centre: float) -> None:
    middle = bits_of(centre)
    operands = sorted(range(middle - 1000, middle + 1001), key=float_of)
    results = [float_of(result) for result in results_at(program, case, operands)]
    assert results == sorted(results)
    assert results[0] < results[-1]


def test_bits_are_the_same_at_every_optimisation(tmp_path: Path) -> None:
    plain = build(tmp_path / "plain", "-O0")
    fast = build(tmp_path / "fast", "-O3", "-march=native")
    for case in BOUNDS:
        expected = measure(plain, case, COARSE_STRIDE)
        assert measure(fast, case, COARSE_STRIDE)["checksum"] == expected["checksum"], case


@pytest.mark.parametrize(
    ("coefficient", "wrong", "case"),
    [
        ("1.66665196e-1f", "1.66675196e-1f", "exp"),
        ("1.33324519e-1f", "1.33325519e-1f", "tanh"),
        ("2.00021192e-1f", "2.00022192e-1f", "log"),
        ("-2.12194440e-4f", "-2.12294440e-4f", "log"),
        ("0.0713548163f", "0.0713558163f", "gelu"),
        ("0.0713548163f", "0.0713558163f", "gelu_tail"),
        ("0.214064449f", "0.214074449f", "gelu_derivative"),
    ],
)
def test_a_wrong_coefficient_breaks_the_bound(
    tmp_path: Path, coefficient: str, wrong: str, case: str
) -> None:
    mutated = tmp_path / "hls"
    shutil.copytree(HLS, mutated)
    [header] = [path for path in mutated.glob("*.hpp") if coefficient in path.read_text()]
    assert header.read_text().count(coefficient) == 1
    header.write_text(header.read_text().replace(coefficient, wrong))
    mutant = build(tmp_path / "mutant", "-O2", "-march=native", include=mutated)
    assert broken_bounds(measure(mutant, case, COARSE_STRIDE)) != []


def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover")
    program = build(tmp_path / "sanitized", *flags)
    special = [0x00000000, 0x00000001, 0x00800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000]
    for case in BOUNDS:
        assert measure(program, case, COARSE_STRIDE)["not_finite"] == 0
        assert len(results_at(program, case, special + [bits | 0x80000000 for bits in special])) == 14


@pytest.mark.parametrize("function", ["exp_f32", "log_f32"])
def test_a_loop_over_it_vectorises(tmp_path: Path, function: str) -> None:
    source = tmp_path / "loop.cpp"
    source.write_text(
        '#include "elementary.hpp"\n'
        "void apply(const float* __restrict x, float* __restrict y) {\n"
        f"  for (int i = 0; i < 4096; ++i) y[i] = ttfpga::{function}(x[i]);\n"
        "}\n"
    )
    command = [*COMPILE, "-O3", "-march=native", "-fopt-info-vec-optimized", f"-I{HLS}", "-c"]
    done = subprocess.run(
        [*command, str(source), "-o", str(tmp_path / "loop.o")], check=True, capture_output=True, text=True
    )
    assert "loop vectorized" in done.stderr
