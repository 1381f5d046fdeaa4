"""Rung 3 of the verification ladder: do the kernel sources keep the rules that HLS asks for?

An open parser (libclang) reads them as the HLS compiler would; ``lint_rules`` says what it looks for.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from fpga_bridge.kernel.build import find_compiler, kernel_sources, write_sources
from fpga_bridge.kernel.header import HEADER_NAME
from fpga_bridge.kernel.lint_calls import Calls
from fpga_bridge.kernel.lint_rules import ALLOWED_STD, RULES, Finding
from fpga_bridge.kernel.lint_tree import Tree
from ttjax.errors import UserError

__all__ = ["ALLOWED_STD", "RULES", "Finding", "lint", "lint_kernel", "load_libclang", "synthesis_flags"]


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
    clang = load_libclang()
    own = {path.resolve().parent for path in sources} | {path.resolve() for path in include_dirs}
    flags = synthesis_flags(include_dirs, defines)
    index = clang.Index.create()
    findings: dict[tuple[Path, int, str], Finding] = {}
    calls = Calls()
    for source in sources:
        if not source.is_file():
            raise UserError(f"lint: no such source file: {source}")
        unit = index.parse(str(source), args=flags)
        for finding in Tree(clang, source, own, calls).findings(unit):
            findings.setdefault((finding.file, finding.line, finding.rule), finding)
    for finding in (*calls.cycles(), *calls.in_pipelines()):
        findings.setdefault((finding.file, finding.line, finding.rule), finding)
    return sorted(findings.values())


def lint_kernel(folder: Path, header: str) -> list[Finding]:
    """``lint`` of the kernel's sources and their generated header, without trace points and with them.

    The sources are read beside that header, as they are built; findings name them where they are.
    """
    files = {HEADER_NAME: header, **kernel_sources(folder)}
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        write_sources(files, Path(scratch))
        sources = sorted(Path(scratch, name) for name in files if "/" not in name)
        found = [lint(sources, defines=[f"TTFPGA_TAPS={taps}"]) for taps in (0, 1)]

    def in_place(finding: Finding) -> Finding:
        name = finding.file.name
        message = finding.message.replace(f"{scratch}/{HEADER_NAME}", HEADER_NAME)
        return replace(
            finding,
            file=Path(name) if name == HEADER_NAME else folder / name,
            message=message.replace(f"{scratch}/", f"{folder}/"),
        )

    return sorted({in_place(finding) for findings in found for finding in findings})


def synthesis_flags(include_dirs: Sequence[Path] = (), defines: Sequence[str] = ()) -> list[str]:
    """The flags by which libclang reads a source as synthesis does; arguments as for ``lint``."""
    flags = ["-xc++", "-std=c++14", "-Wno-unknown-pragmas", "-D__SYNTHESIS__"]
    flags += ["-isystem", _compiler_headers(), *(f"-I{path}" for path in include_dirs)]
    return flags + [f"-D{define}" for define in defines]


def load_libclang() -> ModuleType:
    """The parser's bindings."""
    try:
        from clang import cindex
    except ImportError:
        raise UserError("lint needs libclang: pip install 'ttjax-fpga[test]'") from None
    return cindex


def _compiler_headers() -> str:
    """The folder of the compiler's own headers (stddef.h and the like), which the libclang package lacks."""
    command = [find_compiler(), "-print-file-name=include"]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        found = ""
    if not found:
        raise UserError(
            f"lint needs a C++ compiler's headers: {command[0]} doesn't say where they are; install g++, or"
            " name another compiler in $CXX"
        )
    return found
