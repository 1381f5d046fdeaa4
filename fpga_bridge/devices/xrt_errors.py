"""What the runtime's exceptions mean and what to do about them, as one line each.

XRT's texts are quoted, and relied on only for better advice and to tell a missing device from a broken one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fpga_bridge.device import MissingXrt
from fpga_bridge.devices.xrt_sensors import is_simulated
from fpga_bridge.kernel.interface import (
    COMPUTE_UNIT,
    KERNEL,
    PLATFORM,
    SHELL_PREFIX,
    arguments,
)
from ttjax import UserError

# As which pyxrt, the vendor's or ours, hands on what XRT throws.
_OF_XRT = (RuntimeError, OSError, ValueError)
# XRT says "No such device with index '0'" and "No such device '0000:17:00.1'", our simulated cards "no card".
_ABSENT = ("no such device", "no card")
_BUSY = ("busy", "resource temporarily", "exclusive", "in use", "operation not permitted")
_WRONG_PLATFORM = ("interface uuid", "shell", "vbnv", "platform", "dsa")


@contextmanager
def opening(pyxrt: Any, address: str) -> Iterator[None]:
    """Around the opening of a device: one that is there and can't be opened is not a missing one."""
    try:
        yield
    except (*_OF_XRT, IndexError) as error:
        text = _text(error)
        if isinstance(error, IndexError) or _says(text, _ABSENT) or _beyond_simulated(pyxrt, address):
            raise MissingXrt(
                f"no device xrt:{address}: {text}; `xbutil examine` lists the cards that XRT sees, by BDF"
            ) from None
        raise UserError(
            f"can't open xrt:{address}: {text}; see `dmesg`, and by `xbutil examine` whether it is ready"
        ) from None


@contextmanager
def loading(xclbin: object, shell: str) -> Iterator[None]:
    """Around the loading of an xclbin onto a card with that shell."""
    try:
        yield
    except _OF_XRT as error:
        text = _text(error)
        if _says(text, _BUSY):
            raise UserError(
                f"the card is busy: {xclbin} can't be loaded while another process uses it ({text}); end that"
                " process"
            ) from None
        if _says(text, _WRONG_PLATFORM):
            raise wrong_platform(xclbin, text, shell) from None
        raise UserError(
            f"can't load {xclbin}: {text}; build it again with `make -C hls hw`, and see `dmesg`"
        ) from None


@contextmanager
def opening_kernel(xclbin: object) -> Iterator[None]:
    """Around the opening of the compute unit, which one process may hold at a time."""
    try:
        yield
    except _OF_XRT as error:
        text = _text(error)
        if _says(text, _BUSY):
            raise UserError(
                f"compute unit {COMPUTE_UNIT} is busy: another process holds it ({text}); end that process,"
                " its parameters are on the chip"
            ) from None
        raise UserError(
            f"wrong xclbin: {KERNEL} can't be opened in {xclbin} ({text}); build one with `make -C hls hw`"
        ) from None


@contextmanager
def allocating(name: str, size: int, bank: int | None) -> Iterator[None]:
    """Around the allocation of one argument's buffer."""
    try:
        yield
    except (*_OF_XRT, MemoryError) as error:
        raise UserError(
            f"no device memory for {name}: {size} bytes in HBM[{bank}] refused ({_text(error)}); end"
            " other users of the card, or lower the examples of a call"
        ) from None


class transferring:
    """Around a transfer between host and card. A class, as ``running``: each step enters several."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _OF_XRT):
            raise UserError(
                f"transfer of {self._name} failed: {_text(error)}; see `dmesg`, then reset the card"
                " (`xbutil reset`)"
            ) from None


class running:
    """Around the start of a run and the wait for its end."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, _OF_XRT):
            return
        text = _text(error)
        if _says(text, _BUSY):
            raise UserError(
                f"compute unit {COMPUTE_UNIT} is busy: the run was refused ({text}); end the other process"
            ) from None
        raise UserError(
            f"the run failed: {text}; see `dmesg`, then reset the card (`xbutil reset`)"
        ) from None


def wrong_shell(address: str, name: str) -> UserError:
    """The device is not a U50 with the platform the xclbin is built for."""
    return UserError(
        f"wrong shell on xrt:{address}: expected {SHELL_PREFIX}…, found {name}; choose another device, or"
        f" flash the U50's platform {PLATFORM} (docs/card.md)"
    )


def wrong_platform(xclbin: object, found: str, shell: str) -> UserError:
    """The xclbin was built for another platform than the card has."""
    return UserError(
        f"wrong platform: {xclbin} is not for this card's shell {shell} ({found}); build it for {PLATFORM},"
        " or flash that platform"
    )


def wrong_kernel(xclbin: object, found: int) -> UserError:
    """A kernel of our name with other arguments."""
    return UserError(
        f"wrong xclbin: {KERNEL} of {xclbin} has {found} arguments, expected {len(arguments(False))}, or"
        f" {len(arguments(True))} with taps; build one with `make -C hls hw`"
    )


def stale_xclbin(xclbin: object, expected: str) -> UserError:
    """The kernel in the xclbin refuses images with the hash that is expected."""
    return UserError(
        f"stale xclbin: the kernel of {xclbin} was built for another configuration or by another version: it"
        f" refuses hash {expected}; build it again (`make -C hls hw`, for this corpus's labels with"
        " MODEL='--data …')"
    )


def timed_out(seconds: float, state: Any) -> UserError:
    """A run that did not end in time."""
    return UserError(
        f"timeout: the run did not end within {seconds:g} s (state {_state(state)}); raise --timeout if it is"
        " only slow, else reset the card (`xbutil reset`)"
    )


def ended_badly(state: Any) -> UserError:
    """A run that XRT ended in another state than completed."""
    return UserError(
        f"the run ended as {_state(state)}, expected ERT_CMD_STATE_COMPLETED; see `dmesg`, then reset"
        " the card (`xbutil reset`)"
    )


def broken() -> UserError:
    """A device on which a run never ended."""
    return UserError(
        "this device has a run that never ended: reset the card (`xbutil reset`) and open it again"
    )


def closed() -> UserError:
    """A device after ``close``."""
    return UserError("this device is closed: open another")


def unwritten(what: str) -> UserError:
    """A buffer came back as it was before the run."""
    return UserError(
        f"lost sync: {what} came back as before the run, so a transfer was lost or the kernel did not write;"
        " reset the card (`xbutil reset`) and run again"
    )


def memory_differs(name: str, word: int, written: int, found: int) -> UserError:
    """Device memory does not hold what was written."""
    return UserError(
        f"read-back differs: word {word} of {name} was written as {written:#010x} and reads {found:#010x}: a"
        " lost sync or a flipped bit in device memory; reset the card (`xbutil reset`), if it stays the card"
        " is faulty"
    )


def _beyond_simulated(pyxrt: Any, address: str) -> bool:
    """Whether that is an index after the last simulated card's: of these XRT says only that it can't open."""
    return is_simulated(pyxrt) and address.isdigit() and int(address) >= pyxrt.enumerate_devices()


def _text(error: BaseException) -> str:
    """The runtime's own message as part of a line."""
    return " ".join(str(error).split()) or type(error).__name__


def _says(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text.lower() for word in words)


def _state(state: Any) -> str:
    return getattr(state, "name", str(state))
