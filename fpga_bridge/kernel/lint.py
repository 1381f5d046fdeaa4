"""Rung 3 of the verification ladder: do the kernel sources stay inside what HLS can synthesise?

An open parser (libclang) reads them as the HLS compiler would; ``lint_tree`` has the rules.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from fpga_bridge.kernel.lint_tree import ALLOWED_STD, RULES, Finding, Tree
from ttjax.errors import UserError

__all__ = ["ALLOWED_STD", "RULES", "Finding", "lint", "lint_kernel"]


def lint(
    sources: Sequence[Path], include_dirs: Sequence[Path] = (), defines: Sequence[str] = ()
) -> list[Finding]:
    """Every breach of ``RULES`` in the sources, ordered by file and line; at most one a line and rule.

    Each source is parsed by itself, as synthesis sees it (``__SYNTHESIS__`` is defined), so a header must
    include what it uses; of a source that doesn't parse, only that is said. A header is looked at only when
    it is one of the sources. Calls are followed from one source into the others.

    Args:
        sources: files to look at.
        include_dirs: folders of headers the sources include; code from elsewhere counts as a library.
        defines: macros beside that, each ``NAME=VALUE``.

    Raises:
        UserError: libclang or the compiler is missing, or a source is.
    """
    clang = _libclang()
    own = {path.resolve().parent for path in sources} | {path.resolve() for path in include_dirs}
    flags = ["-xc++", "-std=c++14", "-Wno-unknown-pragmas", "-D__SYNTHESIS__"]
    flags += ["-isystem", _compiler_headers(), *(f"-I{path}" for path in include_dirs)]
    flags += [f"-D{define}" for define in defines]
    index = clang.Index.create()
    findings: dict[tuple[Path, int, str], Finding] = {}
    calls = _Calls()
    for source in sources:
        if not source.is_file():
            raise UserError(f"lint: no such source file: {source}")
        unit = index.parse(str(source), args=flags)
        for finding in Tree(clang, source, own, calls.add).findings(unit):
            findings.setdefault((finding.file, finding.line, finding.rule), finding)
    for finding in calls.cycles():
        findings.setdefault((finding.file, finding.line, finding.rule), finding)
    return sorted(findings.values())


def lint_kernel(folder: Path, header_name: str, header: str) -> list[Finding]:
    """``lint`` of the kernel's sources and their generated header, without trace points and with them."""
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        generated = Path(scratch, header_name)
        generated.write_text(header)
        sources = sorted(path for path in folder.iterdir() if path.suffix in {".hpp", ".cpp"})
        found = [lint([*sources, generated], [generated.parent], [f"TTFPGA_TAPS={taps}"]) for taps in (0, 1)]
        return sorted({finding for findings in found for finding in findings})


class _Calls:
    """Who calls whom, over all sources; a function is known by clang's name for it (its USR)."""

    def __init__(self) -> None:
        self._sites: dict[str, dict[str, tuple[Path, int]]] = {}
        self._names: dict[str, str] = {}

    def add(self, caller: Any, callee: str, source: Path, line: int) -> None:
        usr = caller.get_usr()
        self._names[usr] = caller.spelling.split("<")[0]
        self._sites.setdefault(usr, {}).setdefault(callee, (source, line))

    def cycles(self) -> Iterator[Finding]:
        """One finding for each call that closes a cycle, in a depth-first walk from every function."""
        done: set[str] = set()

        def visit(usr: str, path: list[str]) -> Iterator[Finding]:
            for callee, (source, line) in self._sites.get(usr, {}).items():
                if callee in path:
                    names = [self._names[step] for step in [*path[path.index(callee) :], callee]]
                    yield Finding(source, line, "recursion", f"recursion: {' → '.join(names)}")
                elif callee not in done:
                    yield from visit(callee, [*path, callee])
            done.add(usr)

        for usr in self._sites:
            if usr not in done:
                yield from visit(usr, [usr])


def _libclang() -> ModuleType:
    try:
        from clang import cindex
    except ImportError:
        raise UserError("lint needs libclang: pip install 'ttjax-fpga[test]'") from None
    return cindex


def _compiler_headers() -> str:
    """The folder of gcc's own headers (stddef.h and the like), which the libclang package lacks."""
    command = ["g++", "-print-file-name=include"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        raise UserError("lint needs g++ and its headers: install g++") from None
