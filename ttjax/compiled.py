"""What is done about the time that JAX takes to compile: programs kept in the user's cache, quick options.

A short command, such as twenty steps in lockstep, spends most of its time on compiling.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from ttjax.output import user_cache

CPUINFO = Path("/proc/cpuinfo")
# Programs that take less than this to compile (seconds) are not worth a file.
WORTH_KEEPING = 0.3

# Options of XLA on a CPU for a program that takes longer to compile than to run: LLVM optimises nothing, and
# loops come from XLA's plain emitter, which jax 0.11 no longer has.
QUICK_TO_COMPILE: dict[str, int | bool] = {
    "xla_backend_optimization_level": 0,
    **({"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}),
}


def keep_compiled(flags: frozenset[str] | None = None) -> Path | None:
    """Has JAX keep compiled programs in the user's cache; returns the folder, or None where it doesn't.

    It doesn't where $JAX_COMPILATION_CACHE_DIR names another folder (JAX's own affair then), where the cache
    can't be written, and on processors with AVX-512: there XLA refuses to load the programs it wrote, each
    with a page of log (jax issue 38445). To be called before anything is compiled.

    Args:
        flags: what the processor can do, as Linux names it; by default this machine's.
    """
    flags = processor_flags() if flags is None else flags
    if jax.config.values["jax_compilation_cache_dir"] is not None or "avx512f" in flags:
        return None
    # Machine code: a home folder can be shared by machines that differ.
    machine = " ".join([platform.machine(), *sorted(flags)])
    folder = user_cache() / "programs" / hashlib.sha256(machine.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    return folder


def processor_flags() -> frozenset[str]:
    """The first processor's flags; none where the system doesn't list them."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    # x86 has flags, ARM features.
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.partition(":")[2].split())
