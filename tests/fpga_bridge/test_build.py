"""Building the kernel: once for each content, whole or not at all, and errors in one line."""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fpga_bridge.cli import main
from fpga_bridge.devices import csim
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel import build
from fpga_bridge.kernel.build import (
    build_kernel,
    find_compiler,
    kernel_cache,
    kernel_folder,
    kernel_sources,
)
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY
from ttjax import UserError
from ttjax.output import replace_file

MANIFEST = make_manifest(TINY)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own, and quick builds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    flags = ["-O0" if flag == "-O3" else flag for flag in build.FLAGS]
    monkeypatch.setattr(build, "FLAGS", tuple(flags))
    return tmp_path / "cache" / "ttjax" / "kernels"


def built(cache: Path) -> list[Path]:
    """Every file in the cache."""
    return [path for path in cache.rglob("*") if path.is_file()]


def counted_runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of all compilations from now on, as they come."""
    runs: list[list[str]] = []
    run = build.subprocess.run

    def counting(command: list[str], *args: object, **options: object) -> object:
        if "-shared" in command:
            runs.append(command)
        return run(command, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(build.subprocess, "run", counting)
    return runs


def test_the_cache_lies_where_xdg_says_else_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert kernel_cache() == Path("/somewhere/ttjax/kernels")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert kernel_cache() == Path("/home/someone/.cache/ttjax/kernels")


def test_one_content_is_built_once_and_any_change_is_built_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = counted_runs(monkeypatch)
    first = build_kernel(MANIFEST)
    assert first.is_relative_to(cache)
    written = first.stat().st_mtime_ns
    assert build_kernel(make_manifest(TINY)) == first
    assert first.stat().st_mtime_ns == written
    assert len(runs) == 1

    sources = kernel_sources()
    changed = {**sources, "norm.hpp": sources["norm.hpp"] + "// another byte\n"}
    assert build_kernel(MANIFEST, changed) != first
    assert len(runs) == 2
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-fno-inline"))
    assert build_kernel(MANIFEST) != first
    assert len(runs) == 3
    assert len(built(cache)) == 3


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[:-1],
        lambda whole: b"",
        lambda whole: whole[:3] + b"?" + whole[4:],
        lambda whole: whole[: -hashlib.sha256().digest_size],
    ],
    ids=["cut off", "empty", "another byte", "of an earlier version, without a digest"],
)
def test_a_damaged_library_in_the_cache_is_built_again(
    damaged: Callable[[bytes], bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be loaded, and would end the process without a word where a page is missing."""
    monkeypatch.setattr(build, "read_built", lambda *_: b"no matter what")
    monkeypatch.setattr(build, "run_compiler", lambda *_: SimpleNamespace(returncode=0))
    library = build_kernel(MANIFEST)
    whole = library.read_bytes()
    library.write_bytes(damaged(whole))
    assert build_kernel(MANIFEST) == library
    assert library.read_bytes() == whole


def test_another_compiler_or_machine_is_another_build(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another -march=native could end in an illegal instruction."""
    built_in = []
    monkeypatch.setattr(build, "read_built", lambda *_: b"no matter what")
    monkeypatch.setattr(build.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    for macros in (b"#define __AVX512F__ 1", b"#define __AVX2__ 1", b"#define __AVX2__ 1"):
        monkeypatch.setattr(build, "_target", lambda compiler, macros=macros: macros)
        built_in.append(build_kernel(MANIFEST))
    assert built_in[0] != built_in[1] == built_in[2]


def test_a_header_left_among_the_sources_is_not_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `fpga-bridge build --to hls` leaves one: the config's own is taken, as it was before."""
    built_before = build_kernel(MANIFEST)
    folder = shutil.copytree(kernel_folder(), tmp_path / "hls")
    (folder / HEADER_NAME).write_text("// of another config\n")
    monkeypatch.setattr(build, "kernel_folder", lambda: folder)
    assert build_kernel(MANIFEST) == built_before


def test_a_kernel_of_the_same_shapes_and_another_epsilon_is_stale_by_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the hash tells the two apart; a kernel that was looked up is named too."""
    library, other = build_kernel(MANIFEST), TINY.replace(norm_eps=1e-3)
    monkeypatch.setattr(csim, "build_kernel", lambda manifest, accelerator: library)
    for given in (library, None):
        with pytest.raises(UserError, match=f"stale kernel: {library} was built for another configuration"):
            CsimDevice(other, given)


def test_builds_at_the_same_time_leave_one_whole_library(cache: Path) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(build_kernel(MANIFEST))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert built(cache) == [results[0]]
    CsimDevice(TINY, results[0])


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"
    contents = [bytes([letter]) * 3_000_000 for letter in b"abc"]
    replace_file(target, contents[0], make_folder=True)
    done = threading.Event()

    def write() -> None:
        for n in range(60):
            replace_file(target, contents[n % 3])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        content = target.read_bytes()
        assert content in contents
        seen.add(content[:1])
    writer.join()
    assert len(seen) > 1
    assert list(target.parent.iterdir()) == [target]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        replace_file(tmp_path / "taken", b"content")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


def refusal(cache: Path, **more: str) -> str:
    """The one line that a kernel is refused with, of which nothing is kept; text is added to some sources."""
    sources = kernel_sources()
    broken = {**sources, **{name: sources[name] + text for name, text in more.items()}}
    with pytest.raises(UserError) as caught:
        build_kernel(MANIFEST, broken)
    [line] = str(caught.value).splitlines()
    assert built(cache) == []
    return line


@pytest.mark.parametrize(("errors", "rest"), [(1, ""), (3, ""), (5, "; and 2 more")])
def test_a_source_that_does_not_compile_is_one_line_with_the_first_errors(
    cache: Path, errors: int, rest: str
) -> None:
    """By their places in the checkout, however the sources include each other."""
    first = kernel_sources()["norm.hpp"].count("\n") + 1
    line = refusal(cache, **{"norm.hpp": "".join(f"int number_{n} = lost_{n};\n" for n in range(errors))})
    shown = [
        f"hls/norm.hpp:{first + n}:16: error: 'lost_{n}' was not declared in this scope"
        for n in range(min(errors, 3))
    ]
    assert line == f"{find_compiler()} does not compile the kernel: {'; '.join(shown)}{rest}"


@pytest.mark.parametrize("name", ["csim/numbered_arrays.hpp", "csim/csim.cpp"])
def test_an_error_of_what_only_simulation_compiles_is_found_below_hls_too(cache: Path, name: str) -> None:
    assert re.search(
        rf"kernel: hls/{name}:\d+:13: error: 'lost' ", refusal(cache, **{name: "int taken = lost;\n"})
    )


def test_an_error_in_the_generated_header_is_not_looked_for_in_hls(cache: Path) -> None:
    text = header(MANIFEST) + "int number = lost;\n"
    with pytest.raises(
        UserError, match=rf"kernel: generated/{HEADER_NAME}:\d+:14: error: 'lost' was not [^;]*$"
    ):
        build_kernel(MANIFEST, {**kernel_sources(), HEADER_NAME: text})
    assert built(cache) == []


def test_a_function_that_is_nowhere_defined_is_refused_by_name_and_not_kept(cache: Path) -> None:
    """However often it is used; the library could not be loaded."""
    uses = "namespace ttfpga {\nfloat lost(int);\n" + "".join(
        f"float number_{n}() {{ return lost({n}); }}\n" for n in range(3)
    )
    line = refusal(cache, **{"update.hpp": uses + "}\n"})
    assert re.fullmatch(
        r"\S+ does not compile the kernel: undefined reference to `ttfpga::lost\(int\)'", line
    )


def test_a_compiler_is_asked_for_english_by_which_its_errors_are_known(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever languages this machine has: the compiler is one that says what it was asked for."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\necho "in $LC_ALL: error: none" >&2\n[ "$3" = -E ]\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("CXX", str(compiler))
    assert refusal(cache) == f"{compiler} does not compile the kernel: in C: error: none"


def test_a_warning_is_an_error(cache: Path) -> None:
    sources = kernel_sources()
    careless = {
        **sources,
        "kernel.cpp": sources["kernel.cpp"] + "\nstatic int unused_function() { return 1; }\n",
    }
    with pytest.raises(UserError, match="unused_function"):
        build_kernel(MANIFEST, careless)


def test_no_compiler_is_refused_with_its_name_and_a_remedy(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no C\+\+ compiler: expected no-such-compiler on the PATH"):
        build_kernel(MANIFEST)
    assert not cache.exists()


def test_a_program_that_is_no_compiler_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(UserError, match="false"):
        build_kernel(MANIFEST)
    assert not cache.exists()


def test_the_compiler_is_gxx_unless_cxx_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = find_compiler()
    monkeypatch.delenv("CXX", raising=False)
    assert Path(find_compiler()).name == "g++"
    monkeypatch.setenv("CXX", "")
    assert Path(find_compiler()).name == "g++"
    link = tmp_path / "my-compiler"
    link.symlink_to(compiler)
    monkeypatch.setenv("CXX", str(link))
    assert find_compiler() == str(link)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(build, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in build.FLAGS))
    with pytest.raises(UserError, match="file"):
        build_kernel(MANIFEST)


def test_a_compiler_that_writes_nothing_is_refused_by_name(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "true")
    with pytest.raises(
        UserError, match=r"/true ended without an error but did not write the kernel: .*\$CXX"
    ):
        build_kernel(MANIFEST)
    assert built(cache) == []


def test_the_command_hands_out_no_library_that_it_could_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "kernel.so"
    library.write_bytes(b"no matter what")
    monkeypatch.setattr("fpga_bridge.cli.kernel.build_kernel", lambda manifest: library)
    assert main(["build", "--preset", "tiny", "--to", str(tmp_path / "built")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {library} is not a simulation kernel") and "hash" not in said.out
    assert not (tmp_path / "built").exists()
