"""Devices that run the kernel, by the names that the command line gives them: csim, xrt:INDEX, xrt:BDF.

A simulated card is called so wherever its name is shown.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.host import KernelDevice
from fpga_bridge.devices.xrt_open import check_xclbin_file
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.kernel.faults import Fault
from fpga_bridge.program.manifest import make_manifest
from ttjax import ModelConfig, UserError

_ADDRESS = re.compile(r"\d+|([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", re.IGNORECASE)
# XRT takes an index in an unsigned 32-bit number.
LARGEST_INDEX = 2**32 - 1


@dataclass(frozen=True)
class Opened:
    """A device and what to call it."""

    device: KernelDevice
    label: str
    simulated: bool


def check_name(name: str) -> None:
    """Refuses a name that can't be a kernel's device.

    Raises:
        UserError: expected csim, xrt:INDEX or xrt:BDF.
    """
    kind, _, address = name.partition(":")
    fits = kind == "xrt" and _ADDRESS.fullmatch(address) is not None
    if fits and address.isdigit():
        fits = int(address) <= LARGEST_INDEX
    if name != "csim" and not fits:
        raise UserError(
            f"unknown device {name!r}: expected csim, xrt:INDEX such as xrt:0, or xrt:BDF such as"
            " xrt:0000:17:00.1"
        )


def check_xclbin(name: str, xclbin: Path | None) -> None:
    """Refuses an xclbin that the device can't use, before any work.

    Raises:
        UserError: one for csim, or no file.
    """
    if xclbin is None:
        return
    if name == "csim":
        raise UserError("--xclbin is a card's program: expected --device xrt:…, found csim")
    check_xclbin_file(xclbin)


def open_device(name: str, config: ModelConfig, *, xclbin: Path | None = None, timeout: float = 60) -> Opened:
    """Opens a device by name; a simulated U50 gets an xclbin made for the config unless one is named.

    Raises:
        UserError: an unknown name, a card without --xclbin, or what the device itself refuses.
    """
    check_name(name)
    if name == "csim":
        check_xclbin(name, xclbin)
        return Opened(CsimDevice(config), "csim", True)
    # Here, not above: a machine without XRT does everything else.
    from fpga_bridge.devices.xrt import XrtDevice
    from fpga_bridge.devices.xrt_sensors import is_simulated
    from fpga_bridge.simulated_u50 import import_pyxrt, simulated_xclbin

    pyxrt = import_pyxrt()
    simulated = is_simulated(pyxrt)
    if xclbin is None:
        if not simulated:
            raise UserError(
                "--xclbin: expected the card's program, found none; build it with"
                " `make -C hls hw` (docs/card.md)"
            )
        xclbin = simulated_xclbin(config)
    address = name.partition(":")[2]
    device = XrtDevice(config, address, xclbin, pyxrt=pyxrt, timeout_s=timeout)
    return Opened(device, f"simulated U50 {name}" if simulated else f"U50 {name}", simulated)


def sensors_of(device: object) -> dict[str, float | bool | None] | None:
    """Clock, temperature and power of a card, and whether it is simulated; None for what is no card."""
    read = getattr(device, "sensors", None)
    return None if read is None else asdict(read())


def open_csim(config: ModelConfig, fault: Fault | None = None, kernel: Path | None = None) -> CsimDevice:
    """The csim device of a config: freshly built, with a fault planted, or from a library built before."""
    if fault is not None:
        manifest = make_manifest(config)
        kernel = build_kernel(manifest, fault.sources(manifest))
    return CsimDevice(config, kernel)
