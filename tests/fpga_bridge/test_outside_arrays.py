"""A kernel that leaves one of its numbered arrays: csim stops it, says where, and lives on.

The same on the simulated U50 is in test_simulated_u50_refusals.py.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import RATE, TINY, one_of, random_params, sentences
from ttjax import UserError

WRITE = "write(parameter_at.array, at, count"
READ = "read(gradient_at.array, gradient0, count"
MANIFEST = make_manifest(TINY)


def broken_kernel(old: str, new: str) -> CsimDevice:
    """A device whose update unit accesses something else; its parameters are loaded."""
    sources = kernel_sources()
    assert sources["update.hpp"].count(old) == 1
    broken = {**sources, "update.hpp": sources["update.hpp"].replace(old, new)}
    device = CsimDevice(TINY, build_kernel(MANIFEST, broken))
    device.load(random_params(TINY))
    return device


def refusal(device: CsimDevice, *, trace: bool = False) -> str:
    """What a step is refused with."""
    with pytest.raises(UserError) as error:
        device.step(one_of(sentences(TINY, 1)), RATE, trace=trace)
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (WRITE, "write(parameter_at.array, at + 100000, count", "writes 16 elements from index 1000"),
        (READ, "read(gradient_at.array, ~gradient0, count", "reads 16 elements from index -"),
        (WRITE, "write(kArrayCount, at, count", r"writes array (\d+); there are \2 \("),
    ],
    ids=["far beyond", "before the first", "no such array"],
)
def test_a_kernel_that_leaves_an_array_is_stopped_and_says_where(old: str, new: str, found: str) -> None:
    device = broken_kernel(old, new)
    message = refusal(device)
    assert re.match(rf"the kernel left an array: instruction (\d+) {found}", message), message
    assert re.search(r" \(UPDATE of backward \w+\); look at the last change to hls/ \(`make test`", message)
    assert "\n" not in message
    assert refusal(device, trace=True) == message
    # The process goes on, and so does what has no update.
    assert np.isfinite(device.infer(one_of(sentences(TINY, 1))).slots).all()


def test_one_element_past_the_end_is_outside_and_the_last_is_not() -> None:
    """Every update's write is moved to its array's end, and in the second kernel one further."""
    last = "write(parameter_at.array, kArrays[parameter_at.array].size - count, count"
    inside = broken_kernel(WRITE, last)
    assert np.isfinite(inside.step(one_of(sentences(TINY, 1)), RATE).loss)
    message = refusal(broken_kernel(WRITE, last.replace("- count,", "- count + 1,")))
    count, at, size = re.findall(r"writes (\d+) elements from index (\d+) on in array \w+ of (\d+)", message)[
        0
    ]
    assert int(at) + int(count) == int(size) + 1
