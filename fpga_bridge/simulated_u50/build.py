"""Builds the simulated U50: the driver layer, the pyxrt binding and xclbins, each once for each content.

What is built is kept in the user's cache. Needs Debian's XRT (libxrt-dev, uuid-dev), pybind11 and g++.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from fpga_bridge.device import MissingXrt
from fpga_bridge.kernel.build import (
    build_kernel,
    find_compiler,
    first_errors,
    kernel_cache,
    read_built,
    run_compiler,
)
from fpga_bridge.kernel.interface import CLOCK_MHZ, HBM_BANK_BYTES, HBM_BANKS, PLATFORM, SHELL
from fpga_bridge.program.manifest import make_manifest
from fpga_bridge.simulated_u50.xclbin import write_xclbin
from ttjax import ModelConfig, UserError
from ttjax.output import replace_file

HEADERS = Path("/usr/include/xrt")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", f"-I{HEADERS}")
# The runtime itself, by the name it is loaded by: the link without a version comes with no other package.
RUNTIME = "libxrt_coreutil.so.2"
# The runtime's own device factory, out of libxrt-dev's archive for emulators. By name, not the whole archive:
# the rest of it is an emulator.
ARCHIVE = "libxrt_hwemu.a"
OBJECTS = (
    "system_hwemu.cxx.o",
    "device_hwemu.cxx.o",
    "system_pcie.cpp.o",
    "device_pcie.cpp.o",
    "aie_stubs.cpp.o",
)
# Its table of what a device answers to, local there: the driver layer adds its sensors.
REQUESTS = "_ZN12_GLOBAL__N_1L9query_tblE"
INSTALL = (
    "on a card's machine source XRT's setup.sh, which brings the vendor's pyxrt; without a card install XRT"
    " for the simulated U50 (Debian: apt install libxrt1 libxrt-dev uuid-dev)"
)

_importing = threading.Lock()


def import_pyxrt() -> ModuleType:
    """The vendor's pyxrt where it is installed; else ours, over simulated cards.

    Ours has the attribute ``ttfpga_simulated``. It must be imported before anything else loads XRT.

    Raises:
        MissingXrt: neither is there, and what ours is built with is missing.
        UserError: ours can't be built.
    """
    with _importing:
        try:
            return importlib.import_module("pyxrt")
        except ImportError as error:
            # What an installed pyxrt itself lacks is no reason to run on a simulated card instead.
            if not (isinstance(error, ModuleNotFoundError) and error.name == "pyxrt"):
                raise UserError(
                    f"the installed pyxrt can't be imported ({error}): source XRT's setup.sh"
                ) from None
        folder = simulated_xrt()
        binding = build_binding()
        # Python's copy of the environment and the process's are both what the runtime may read.
        os.environ["XILINX_XRT"] = str(folder)
        os.environ.pop("XCL_EMULATION_MODE", None)
        spec = importlib.util.spec_from_file_location("pyxrt", binding)
        if spec is None or spec.loader is None:
            raise UserError(f"{binding} is not a Python module; remove it")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules["pyxrt"] = module
        return module


def simulated_xrt(extra: tuple[str, ...] = ()) -> Path:
    """The folder for $XILINX_XRT, whose lib/libxrt_core.so.2 is our driver layer.

    extra: more options of the compiler, such as those of a memory checker.

    Raises:
        MissingXrt: no XRT to build against.
        UserError: no compiler, or it refuses.
    """
    here = Path(__file__).parent / "driver"
    sources = sorted(here.glob("*.cpp"))
    archive = _archive()
    defines = (
        f'-DTTFPGA_SHELL="{SHELL}"',
        f'-DTTFPGA_PLATFORM="{PLATFORM}"',
        f"-DTTFPGA_CLOCK_MHZ={CLOCK_MHZ}",
        f"-DTTFPGA_HBM_BANKS={HBM_BANKS}",
        f"-DTTFPGA_HBM_BANK_BYTES={HBM_BANK_BYTES}",
    )
    content = [*sources, *sorted(here.glob("*.hpp")), archive]
    target = _cached((*FLAGS, *extra, *defines, *OBJECTS, REQUESTS), content) / "lib" / "libxrt_core.so.2"
    if not target.is_file():
        with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
            _run("ar", ["ar", "x", str(archive), *OBJECTS], scratch)
            _run("objcopy", ["objcopy", f"--globalize-symbol={REQUESTS}", "device_hwemu.cxx.o"], scratch)
            objects = [str(Path(scratch, name)) for name in OBJECTS]
            # -Bsymbolic: our functions, not those of another driver layer in the process.
            linking = ("-Wl,-Bsymbolic", "-Wl,--no-undefined", f"-l:{RUNTIME}", "-ldl", "-pthread")
            _compile("the driver layer", [*extra, *defines, *map(str, sources), *objects, *linking], target)
    return target.parent.parent


def build_binding() -> Path:
    """Our pyxrt, for this Python.

    Raises:
        MissingXrt: no XRT, no pybind11 or no headers of Python to build with.
        UserError: no compiler, or it refuses.
    """
    _archive()
    try:
        pybind11 = importlib.import_module("pybind11")
    except ModuleNotFoundError:
        raise MissingXrt("no pybind11 to build pyxrt with: pip install 'ttjax-fpga[xrt]'") from None
    python = Path(sysconfig.get_path("include"))
    if not (python / "Python.h").is_file():
        raise MissingXrt(
            f"no Python.h in {python}: install Python's headers (Debian: apt install python3-dev)"
        )
    source = Path(__file__).parent / "pyxrt_binding.cpp"
    includes = ("-fvisibility=hidden", f"-I{python}", f"-I{pybind11.get_include()}")
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    target = _cached((*FLAGS, *includes, pybind11.__version__, suffix), [source]) / f"pyxrt{suffix}"
    if not target.is_file():
        _compile("the pyxrt binding", [*includes, str(source), f"-l:{RUNTIME}"], target)
    return target


def simulated_xclbin(config: ModelConfig) -> Path:
    """The xclbin of the kernel for a config, with taps, for the simulated U50."""
    library = build_kernel(make_manifest(config))
    writer = Path(__file__).with_name("xclbin.py"), Path(__file__).parents[1] / "kernel" / "interface.py"
    target = _cached((), [library, *writer]) / "kernel.xclbin"
    if not target.is_file():
        write_xclbin(target, library)
    return target


def _archive() -> Path:
    """The runtime's archive of objects, after a check that the rest is there too."""
    if not (HEADERS / "xrt" / "xrt_kernel.h").is_file():
        raise MissingXrt(f"no XRT headers in {HEADERS}: {INSTALL}")
    if not Path("/usr/include/uuid/uuid.h").is_file():
        raise MissingXrt(f"no uuid/uuid.h, which XRT's headers include: {INSTALL}")
    machine = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    archive = Path("/usr/lib") / machine / ARCHIVE
    if not archive.is_file() or ctypes.util.find_library("xrt_coreutil") is None:
        raise MissingXrt(f"no {archive.name} or no {RUNTIME} in {archive.parent}: {INSTALL}")
    return archive


def _cached(settings: Sequence[str], content: Sequence[Path]) -> Path:
    """The cache's folder for what is made of these files with these settings."""
    digest = hashlib.sha256()
    for setting in settings:
        digest.update(setting.encode() + b"\0")
    for path in content:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    version = HEADERS / "version.h"
    digest.update(version.read_bytes() if version.is_file() else b"")
    return kernel_cache().with_name("xrt") / digest.hexdigest()[:32]


def _compile(what: str, arguments: Sequence[str], target: Path) -> None:
    """Compiles a shared library into the cache, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="ttfpga-") as scratch:
        built = Path(scratch, "built.so")
        compiler = find_compiler()
        _run(what, [compiler, *FLAGS, *arguments, "-o", str(built)], scratch)
        content = read_built(built, compiler, what)
        try:
            replace_file(target, content, make_folder=True)
        except OSError as error:
            raise UserError(
                f"can't keep {what} in {target.parent}: {error.strerror}; name another cache in"
                " $XDG_CACHE_HOME"
            ) from None


def _run(what: str, command: Sequence[str], folder: str) -> None:
    try:
        result = run_compiler(command, folder)
    except OSError as error:
        raise UserError(f"can't build the simulated U50: {command[0]}: {error.strerror}") from None
    if result.returncode:
        raise UserError(f"{command[0]} can't build {what}: {first_errors(result.stderr)}; {INSTALL}")
