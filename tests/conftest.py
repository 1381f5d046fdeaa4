"""What all tests share: strict JAX, shapes checked at every call of ttjax, ATIS, hypothesis profiles."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

# Before anything imports ttjax: annotations are checked at run time in tests alone.
install_import_hook("ttjax", "beartype.beartype")

from ttjax.compiled import QUICK_TO_COMPILE  # noqa: E402

# Most of the tests' time is XLA's compiling, and most of that is spent on speed that a small shape can't use.
# `make slow` and `make cosim` run what users run; $XLA_FLAGS, even empty, takes the place of this.
OPTIONS = [f"--{name}={int(value)}" for name, value in QUICK_TO_COMPILE.items()]
os.environ.setdefault("XLA_FLAGS", " ".join(OPTIONS))

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Each new shape costs JAX a compilation, so time limits per example would fail at random.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=15, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=300, **_COMMON)
settings.load_profile("ci")  # pytest --hypothesis-profile=thorough chooses the other


@pytest.fixture(scope="session")
def atis_folder() -> Path:
    """The folder of the nine ATIS files; the test is skipped where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "atis"
    folder = Path(os.environ.get("TTJAX_DATA") or beside)
    if not (folder / "train" / "seq.in").is_file():
        pytest.skip(f"no ATIS in {folder}: set TTJAX_DATA to its folder")
    return folder
