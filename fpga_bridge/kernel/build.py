"""Builds the kernel for simulation, once for each content: sources, header, compiler and flags.

Built libraries are kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.manifest import Manifest
from ttjax import UserError
from ttjax.output import replace_file, user_cache

# No contraction into fused multiply-adds and no value-changing optimisation: the bits are IEEE's own, at
# any level and vector width. Hidden symbols: kernels in one process must not share any, and g++ marks what is
# static in an inline function as unique in the process. What is declared and not defined is refused here,
# not when the library is loaded.
FLAGS = (
    "-std=c++14",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wl,-z,defs",
    "-DTTFPGA_TAPS=1",
)
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-label")
# In a compiler's words (FILE:LINE:COLUMN: error: ...) or a linker's, whose places are the object's.
ERROR = re.compile(r"(?:^|.*: )(?:fatal )?error: .*|(?:undefined reference|multiple definition) .*")
SUMMARY = re.compile(r"collect2: error|.*linker command failed")
SHOWN_ERRORS = 3


def kernel_folder() -> Path:
    """The folder of the kernel's sources: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "hls", package / "hls"):
        if (folder / "kernel.cpp").is_file():
            return folder
    raise UserError("the kernel's sources (hls/kernel.cpp) are missing: reinstall, or run from a checkout")


def kernel_cache() -> Path:
    """Where built kernels are kept: ttjax/kernels in the user's cache."""
    return user_cache() / "kernels"


def kernel_sources(folder: Path | None = None) -> dict[str, str]:
    """Text of every kernel source by its path below a folder, by default the kernel's.

    The generated header is none of them: one that lies there is of the config it was written for. A source
    would find it before any other, so sources are compiled as ``write_sources`` writes them elsewhere.
    """
    folder = folder or kernel_folder()
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".hpp", ".cpp") and p.name != HEADER_NAME)
    return {str(p.relative_to(folder)): p.read_text() for p in files}


def find_compiler() -> str:
    """Path of $CXX, by default and where that is empty g++.

    Raises:
        UserError: there is none.
    """
    name = os.environ.get("CXX") or "g++"
    compiler = shutil.which(name)
    if compiler is None:
        raise UserError(
            f"no C++ compiler: expected {name} on the PATH, found none; install it (Debian: apt install g++)"
            " or name another in $CXX"
        )
    return compiler


def build_kernel(
    manifest: Manifest, sources: Mapping[str, str] | None = None, accelerator: Accelerator = DEFAULT
) -> Path:
    """The shared library of an accelerator's kernel for a manifest's config, compiled unless in the cache.

    ``sources`` replaces the kernel's own, and the generated header if it has one (a planted fault). The
    library is written atomically, with a digest after its content: a damaged one is compiled again.

    Raises:
        UserError: there is no compiler, it refuses the sources (its first errors are quoted) or writes
            nothing, or the cache can't be written.
    """
    compiler = find_compiler()
    files = {HEADER_NAME: header(manifest, accelerator), **(sources or kernel_sources())}
    digest = hashlib.sha256(_target(compiler))
    for part in (*FLAGS, *WARNINGS, *(text for item in sorted(files.items()) for text in item)):
        digest.update(part.encode() + b"\0")
    library = kernel_cache() / digest.hexdigest()[:32] / "kernel.so"
    if _is_whole(library):
        return library
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        # The compiler names a source as it lies in a checkout, and what is generated as such.
        folders = {name: "generated" if name == HEADER_NAME else "hls" for name in files}
        write_sources({f"{folders[name]}/{name}": text for name, text in files.items()}, Path(scratch))
        built = Path(scratch, "kernel.so")
        command = [compiler, *FLAGS, *WARNINGS, "-Ihls", "-Igenerated", "hls/csim/csim.cpp", "-o", str(built)]
        result = run_compiler(command, scratch)
        if result.returncode:
            raise UserError(f"{compiler} does not compile the kernel: {first_errors(result.stderr)}")
        content = read_built(built, compiler, "the kernel")
        try:
            # One file, so that builds at the same time can't leave one's digest with the other's library.
            # What follows an ELF file's sections is not loaded.
            replace_file(library, content + hashlib.sha256(content).digest(), make_folder=True)
        except OSError as error:
            raise UserError(
                f"can't keep the kernel in {kernel_cache()}: {error.strerror}; name another cache in"
                " $XDG_CACHE_HOME"
            ) from None
    return library


def write_sources(files: Mapping[str, str], folder: Path) -> None:
    """Writes texts by their paths below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_compiler(command: Sequence[str], folder: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a compiler in a folder; it speaks English, which its errors are known by."""
    english = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, cwd=folder, env=english, capture_output=True, text=True, check=False)


def first_errors(messages: str) -> str:
    """The first errors among what a compiler or linker has said, in one line, and how many more there are."""
    said = messages.splitlines()
    found = [match[0] for match in map(ERROR.search, said) if match]
    # A linker's last word only says that there were errors; and it repeats itself at each use of a function.
    errors = list(dict.fromkeys(line for line in found if not SUMMARY.match(line))) or said
    more = len(errors) - SHOWN_ERRORS
    shown = "; ".join(errors[:SHOWN_ERRORS]) or "no message"
    return f"{shown}; and {more} more" if more > 0 else shown


def read_built(built: Path, compiler: str, what: str) -> bytes:
    """Content of the library that a compiler which ended without an error should have written.

    Raises:
        UserError: it has not.
    """
    try:
        return built.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"{compiler} ended without an error but did not write {what}: name another compiler in $CXX"
        ) from None


def _is_whole(library: Path) -> bool:
    """Whether a library is in the cache with the content that was written: a page less kills who loads it."""
    if not library.is_file():
        return False
    content, end = library.read_bytes(), -hashlib.sha256().digest_size
    return hashlib.sha256(content[:end]).digest() == content[end:]


def _target(compiler: str) -> bytes:
    """What -march=native means here and which compiler this is, as its predefined macros."""
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        raise UserError(f"{compiler} is not a C++ compiler that can build the kernel; name another in $CXX")
    return result.stdout
