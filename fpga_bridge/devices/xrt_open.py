"""Opening a card: device, xclbin and compute unit, each checked before the next is touched.

Whether the kernel takes images of a layout is asked afterwards, of the kernel itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpga_bridge.devices.xrt_errors import (
    loading,
    opening,
    opening_kernel,
    wrong_kernel,
    wrong_platform,
    wrong_shell,
)
from fpga_bridge.devices.xrt_sensors import information
from fpga_bridge.kernel.interface import KERNEL, SHELL_PREFIX, arguments
from ttjax import UserError


@dataclass(frozen=True)
class Card:
    """pyxrt's device and kernel objects, and whether the kernel has taps."""

    device: Any
    kernel: Any
    taps: bool


def check_xclbin_file(xclbin: Path) -> None:
    """Refuses a card's program that isn't there.

    Raises:
        UserError: expected a file.
    """
    if not xclbin.is_file():
        raise UserError(f"no xclbin at {xclbin}: build one with `make -C hls hw`, or name another (--xclbin)")


def open_card(pyxrt: Any, address: str, xclbin: Path) -> Card:
    """Opens a device by index or BDF, loads the xclbin and takes its compute unit for this process alone.

    Raises:
        UserError: no such device or file, the wrong shell, platform or kernel, a busy card.
    """
    check_xclbin_file(xclbin)
    with opening(pyxrt, address):
        # XRT compares a BDF as text, which it writes in small letters.
        device = pyxrt.device(int(address) if address.isdigit() else address.lower())
    shell = information(pyxrt, device, "name") or "a device without a name"
    if not shell.startswith(SHELL_PREFIX):
        raise wrong_shell(address, shell)
    with loading(xclbin, shell):
        container = pyxrt.xclbin(str(xclbin))
        platform = str(container.get_xsa_name())
    if not platform.startswith(SHELL_PREFIX):
        raise wrong_platform(xclbin, platform, shell)
    with loading(xclbin, shell):
        uuid = device.load_xclbin(container)
    with opening_kernel(xclbin):
        # Alone: parameters live on the chip, and another host's steps would change them unseen.
        kernel = pyxrt.kernel(device, uuid, KERNEL, pyxrt.kernel.exclusive)
    counted = _count_arguments(kernel)
    if counted not in (len(arguments(False)), len(arguments(True))):
        raise wrong_kernel(xclbin, counted)
    return Card(device, kernel, counted == len(arguments(True)))


def _count_arguments(kernel: Any) -> int:
    """How many arguments the xclbin's kernel has: only those have a memory bank to ask for."""
    count = next(i for i, argument in enumerate(arguments(True)) if argument.kind == "buffer")
    while count <= len(arguments(True)):
        try:
            if kernel.group_id(count) < 0:
                break
        except (RuntimeError, IndexError, ValueError, OSError):
            break
        count += 1
    return count
