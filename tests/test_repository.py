"""The rules of the house, checked on every file of the repository: sizes, descriptions, direction of imports.

In a git checkout these are the tracked files and the new ones that are not ignored; elsewhere, all files.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE_SUFFIXES = {".py", ".hpp", ".cpp"}
# Lower may not import upper: benchmarks, experiments → fpga_bridge → ttjax.
LAYERS = ["ttjax", "fpga_bridge", "experiments", "benchmarks"]
# The same within fpga_bridge, lowest first.
PARTS = [
    *("__init__", "device", "memory", "program", "kernel", "simulated_u50", "devices"),
    *("budget", "rtl", "cycles", "agreement", "training", "cli"),
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


PACKAGES = sorted({path.parent for path in MODULES})


def part_of(path: Path, package: Path) -> str:
    """The module or the inner package of ``package`` that a file below it belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


@pytest.mark.parametrize("package", PACKAGES, ids=names(PACKAGES))
def test_parts_of_a_package_import_one_way(package: Path) -> None:
    """No module, and no package in it, imports one that over others imports it."""
    inside = package.relative_to(ROOT).parts
    parts = {path: part_of(path, package) for path in MODULES if path.is_relative_to(package)}
    graph: dict[str, set[str]] = {part: set() for part in parts.values()}
    for path, part in parts.items():
        for name in imported_names(path):
            *above, other = name.split(".")[: len(inside) + 1]
            if tuple(above) == inside and other != part:
                graph[part].add(other if other in graph else "__init__")
    TopologicalSorter(graph).prepare()  # its error names the cycle


BRIDGE_FOLDER = ROOT / "fpga_bridge"
BRIDGE = [path for path in MODULES if path.is_relative_to(BRIDGE_FOLDER)]


@pytest.mark.parametrize("path", BRIDGE, ids=names(BRIDGE))
def test_parts_of_the_bridge_import_one_way(path: Path) -> None:
    own = PARTS.index(part_of(path, BRIDGE_FOLDER))
    modules = [name.split(".") for name in imported_names(path)]
    imported = {parts[1] for parts in modules if parts[0] == "fpga_bridge" and len(parts) > 1}
    assert imported & set(PARTS[own + 1 :]) == set()


def test_the_bridge_has_these_parts_and_no_others() -> None:
    assert {part_of(path, BRIDGE_FOLDER) for path in BRIDGE} == set(PARTS)


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
            # What is imported from it may be a module too.
            yield from (".".join([*base, alias.name]) for alias in node.names)


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
