"""The rules of the house, checked on every file of the repository: sizes, descriptions, direction of imports.

In a git checkout these are the tracked files and the new ones that are not ignored; elsewhere, all files.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_SUFFIXES = {".py", ".hpp", ".cpp"}
# Lower may not import upper: benchmarks, experiments → fpga_bridge → ttjax.
LAYERS = ["ttjax", "fpga_bridge", "experiments", "benchmarks"]
# The same within fpga_bridge, lowest first.
PARTS = [
    *("__init__", "device", "memory", "program", "kernel", "simulated_u50", "devices"),
    *("budget", "cycles", "agreement", "training", "cli"),
]
KERNEL_INCLUDES = {"<cstdint>", "<cmath>", '"ttfpga_config.hpp"'}
NOT_OURS = {".git", ".venv", "__pycache__", "build", "dist"}


def repository_files() -> list[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = {ROOT / name for name in listed.split("\0") if name}
    else:
        paths = {path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)}
    return sorted(path for path in paths if path.is_file())


FILES = repository_files()
SOURCES = [path for path in FILES if path.suffix in SOURCE_SUFFIXES]
MODULES = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in LAYERS]
HLS = [path for path in FILES if path.relative_to(ROOT).parts[0] == "hls"]
KERNEL = [path for path in HLS if path.parent.name == "hls"]  # below it: what only simulation compiles


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_is_something_to_check() -> None:
    assert MODULES
    assert KERNEL


def test_no_file_is_over_one_megabyte() -> None:
    assert names([path for path in FILES if path.stat().st_size > 1_000_000]) == []


def test_no_source_file_is_over_350_lines() -> None:
    assert names([path for path in SOURCES if len(path.read_bytes().splitlines()) > 350]) == []


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


@pytest.mark.parametrize("path", HLS, ids=names(HLS))
def test_a_kernel_source_says_what_it_is(path: Path) -> None:
    """A comment stands before all code; ``#pragma once`` may come first."""
    text = path.read_text().removeprefix("#pragma once").lstrip()
    comment = r"#+ *\w" if path.name == "Makefile" else r"//+ *\w|/\*+\s*\w"
    assert re.match(comment, text), "no comment that says what the file is"


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_imports_run_one_way(path: Path) -> None:
    own = LAYERS.index(path.relative_to(ROOT).parts[0])
    imported = {name.split(".")[0] for name in imported_names(path)}
    assert imported & set(LAYERS[own + 1 :]) == set()
    assert "tests" not in imported


BRIDGE = [path for path in MODULES if path.is_relative_to(ROOT / "fpga_bridge")]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "fpga_bridge").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", BRIDGE, ids=names(BRIDGE))
def test_parts_of_the_bridge_import_one_way(path: Path) -> None:
    own = PARTS.index(part_of(path))
    modules = [name.split(".") for name in imported_names(path)]
    imported = {parts[1] for parts in modules if parts[0] == "fpga_bridge" and len(parts) > 1}
    assert imported & set(PARTS[own + 1 :]) == set()


def test_the_bridge_has_these_parts_and_no_others() -> None:
    assert {part_of(path) for path in BRIDGE} == set(PARTS)


def imported_names(path: Path) -> Iterator[str]:
    """Absolute names of all modules a file imports, at its top or inside its functions."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = [*above, node.module] if node.module else [*above]
            yield ".".join(base)


@pytest.mark.parametrize("path", KERNEL, ids=names(KERNEL))
def test_the_kernel_includes_only_its_own_headers(path: Path) -> None:
    found = re.findall(r'^\s*#\s*include\s*([<"][^>"]*[>"])', path.read_text(), re.MULTILINE)
    foreign = [name for name in found if name not in KERNEL_INCLUDES]
    assert [name for name in foreign if name[0] == "<" or not (path.parent / name.strip('"')).is_file()] == []


def test_console_scripts_exist() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"ttjax", "fpga-bridge"}
    for target in scripts.values():
        module, function = target.split(":")
        base = ROOT.joinpath(*module.split("."))
        source = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        assert source.is_file(), f"{target}: no {source.name}"
        defined = {
            node.name for node in ast.parse(source.read_text()).body if isinstance(node, ast.FunctionDef)
        }
        assert function in defined


def test_the_versions_agree() -> None:
    """The changelog's newest release is the version that is installed."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    released = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[:1] == [version]
