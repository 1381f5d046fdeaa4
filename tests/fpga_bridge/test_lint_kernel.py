"""The lint of the kernel as a whole: its sources with their generated header, without taps and with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.kernel.lint import Finding, lint_kernel
from fpga_bridge.program.manifest import make_manifest
from ttjax.config import preset

HLS = Path(__file__).parents[2] / "hls"


@pytest.mark.parametrize("name", ["tiny", "enc2"])
def test_the_kernel_sources_are_clean(name: str) -> None:
    assert len(list(HLS.glob("*.hpp"))) > 1
    generated = header(make_manifest(preset(name)))
    assert [str(finding) for finding in lint_kernel(HLS, generated)] == []


def test_the_kernel_is_read_without_taps_and_with_them(tmp_path: Path) -> None:
    text = "#if TTFPGA_TAPS\ndouble a;\n#else\ndouble b;\n#endif\ndouble c;\n"
    (tmp_path / "source.cpp").write_text(text)
    found = lint_kernel(tmp_path, "")
    assert [(f.file, f.line, f.rule) for f in found] == [
        (tmp_path / "source.cpp", line, "double") for line in (2, 4, 6)
    ]


def test_a_header_left_among_the_sources_is_not_read(tmp_path: Path) -> None:
    """As `fpga-bridge build --to hls` leaves one; `build_kernel` does not read it either."""
    folder = Path(shutil.copytree(HLS, tmp_path / "hls"))
    (folder / HEADER_NAME).write_text("double of_another_config;\n")
    assert [str(finding) for finding in lint_kernel(folder, header(make_manifest(preset("tiny"))))] == []


def test_findings_name_sources_where_they_are_and_the_generated_header_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "uses.cpp").write_text(f'#include "broken.hpp"\n#include "{HEADER_NAME}"\n')
    (tmp_path / "broken.hpp").write_text("#pragma once\nint a = b;\n")
    undeclared = "use of undeclared identifier"
    assert lint_kernel(tmp_path, "#pragma once\nint c = d;\n") == [
        Finding(tmp_path / "broken.hpp", 2, "parse", f"{undeclared} 'b'"),
        Finding(tmp_path / "uses.cpp", 1, "parse", f"{undeclared} 'b' ({tmp_path / 'broken.hpp'}:2)"),
        Finding(Path(HEADER_NAME), 2, "parse", f"{undeclared} 'd'"),
    ]
