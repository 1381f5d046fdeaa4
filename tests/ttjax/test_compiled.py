"""What JAX compiles is kept for the next run of a command: where, and where not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from ttjax import compiled
from ttjax.compiled import keep_compiled, processor_flags

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
AVX2 = frozenset({"avx2", "fma"})
# A command that compiles a little, and then says how many programs it found compiled.
COMMAND = """
import jax, jax.numpy as jnp
from ttjax import compiled
from ttjax.cli import exit_status

compiled.WORTH_KEEPING = 0.0
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))

def command():
    print(float(jax.jit(lambda x: jnp.tanh(x) @ x)(jnp.linspace(0, 1, 7))).hex())
    print(events.count("/jax/compilation_cache/cache_hits"))
    return 0

exit_status(command, own_process=True)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's cache; JAX's settings are put back afterwards."""
    before = {name: jax.config.values[name] for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "ttjax"
    for name, value in before.items():
        jax.config.update(name, value)


def test_each_kind_of_processor_has_a_folder_in_the_users_cache(cache: Path) -> None:
    folder = keep_compiled(AVX2)
    assert folder is not None and folder.is_dir() and folder.parent == cache / "programs"
    assert jax.config.values["jax_compilation_cache_dir"] == str(folder)
    for flags, same in ((AVX2, True), (AVX2 | {"bmi2"}, False)):
        jax.config.update("jax_compilation_cache_dir", None)
        assert (keep_compiled(flags) == folder) is same


@pytest.mark.parametrize(
    ("cpuinfo", "flags"),
    [
        ("processor\t: 0\nflags\t\t: fma avx2\nprocessor\t: 1\nflags\t\t: none\n", {"fma", "avx2"}),
        ("processor\t: 0\nFeatures\t: fp asimd sve\n", {"fp", "asimd", "sve"}),
        (None, set()),
    ],
    ids=["x86", "ARM", "another system"],
)
def test_what_the_processor_can_do(
    cpuinfo: str | None, flags: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "CPUINFO", tmp_path / "cpuinfo")
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert processor_flags() == flags


def test_a_folder_of_the_users_own_choice_stays(cache: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", "/elsewhere")
    assert keep_compiled(AVX2) is None
    assert jax.config.values["jax_compilation_cache_dir"] == "/elsewhere"
    assert not cache.exists()


def test_nothing_is_kept_where_it_could_not_be_loaded(cache: Path) -> None:
    assert keep_compiled(AVX2 | {"avx512f"}) is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_a_cache_that_cannot_be_written_is_done_without(cache: Path) -> None:
    cache.write_text("no folder")
    assert keep_compiled(AVX2) is None
    assert jax.config.values["jax_compilation_cache_dir"] is None


def test_the_second_run_of_a_command_finds_its_programs_compiled_and_computes_the_same(
    tmp_path: Path,
) -> None:
    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)},
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split()

    if "avx512f" in processor_flags():
        pytest.skip("XLA can't load its own programs on a processor with AVX-512")
    (first, found_first), (second, found_second) = run(), run()
    assert first == second
    assert int(found_first) == 0 and int(found_second) >= 1
