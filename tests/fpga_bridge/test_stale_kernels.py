"""A kernel of another program, accelerator or memory map has another hash, and no device takes it.

Kernels of another config are in test_csim.py and test_xrt_device.py; those with planted faults, which devices
do take, in test_faults.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.xrt import XrtDevice
from fpga_bridge.kernel import build
from fpga_bridge.kernel import header as header_module
from fpga_bridge.kernel.build import build_kernel
from fpga_bridge.kernel.header import hash_text, header, kernel_hash
from fpga_bridge.program.accelerator import DEFAULT, Accelerator
from fpga_bridge.program.instructions import Program
from fpga_bridge.program.make_program import make_program
from fpga_bridge.program.manifest import Manifest, make_manifest
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import TINY
from ttjax import UserError

MANIFEST = make_manifest(TINY)
OTHER = replace(DEFAULT, sum_distance=DEFAULT.sum_distance + 1)


def of_another_version(manifest: Manifest, accelerator: Accelerator) -> Program:
    """The program of an emitter that gives the first instruction more time."""
    program = make_program(manifest, accelerator)
    first, *others = program.instructions
    return replace(program, instructions=(replace(first, interval=first.interval + 1), *others))


@contextmanager
def another_version() -> Iterator[None]:
    """In it, programs are another version's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(header_module, "make_program", of_another_version)
        header_module._own_content.cache_clear()
        yield
    header_module._own_content.cache_clear()


def hash_line(text: str) -> str:
    """The line of a header that has the hash."""
    [line] = [line for line in text.splitlines() if "kHash[]" in line]
    return line


@dataclass(frozen=True)
class Kernel:
    """A built kernel, opened by a device that takes it."""

    library: Path
    device: CsimDevice


@pytest.fixture(params=["accelerator", "version"])
def stale(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """TINY's kernel, of its own layout, for another accelerator or by another version."""
    monkeypatch.setattr(build, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in build.FLAGS))
    if request.param == "accelerator":
        library = build_kernel(MANIFEST, accelerator=OTHER)
        return Kernel(library, CsimDevice(TINY, library, OTHER))
    with another_version():
        library = build_kernel(MANIFEST)
        return Kernel(library, CsimDevice(TINY, library))


def test_the_hash_is_of_program_accelerator_and_map_and_stands_in_the_header() -> None:
    first, *others = MANIFEST.layout.placements
    turned = replace(first, axes=first.axes[::-1])
    hashes = [
        kernel_hash(MANIFEST),
        kernel_hash(MANIFEST, OTHER),
        # Of the places of parameters in the image the header says nothing.
        kernel_hash(replace(MANIFEST, layout=replace(MANIFEST.layout, placements=(turned, *others)))),
    ]
    with another_version():
        hashes.append(kernel_hash(MANIFEST))
        texts = [header(MANIFEST)]
    assert len({found.tobytes() for found in hashes}) == len(hashes)
    texts += [header(MANIFEST), header(MANIFEST, OTHER)]
    for text, expected in zip(texts, (hashes[3], hashes[0], hashes[1]), strict=True):
        assert [int(word, 16) for word in re.findall(r"0x[0-9a-f]{8}", hash_line(text))] == expected.tolist()


def test_the_hash_is_the_same_each_time_and_not_that_of_a_planted_program() -> None:
    """A kernel with a fault in its program must be taken, or the fault could not be found."""
    faulty = of_another_version(MANIFEST, DEFAULT)
    before, planted = header(MANIFEST), header(MANIFEST, program=faulty)
    header_module._own_content.cache_clear()
    assert header(MANIFEST) == before != planted
    assert hash_line(planted) == hash_line(before)


def test_csim_refuses_it_and_says_what_was_expected_and_found(stale: Kernel) -> None:
    expected, found = kernel_hash(MANIFEST), stale.device.hash
    with pytest.raises(UserError) as caught:
        CsimDevice(TINY, stale.library)
    assert str(caught.value) == (
        f"stale kernel: {stale.library} was built for another configuration or by another version (expected"
        f" hash {hash_text(expected)}, found {hash_text(found)}); build it again"
    )


def test_a_card_with_it_is_refused(stale: Kernel, tmp_path: Path) -> None:
    xclbin = tmp_path / "card.xclbin"
    xclbin.write_bytes(b"xclbin2")
    with pytest.raises(
        UserError, match=f"stale xclbin: .* refuses hash {hash_text(kernel_hash(MANIFEST))}; b"
    ):
        XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(Card(TINY, kernel=stale.device)))
    XrtDevice(TINY, "0", xclbin, pyxrt=make_pyxrt(Card(TINY)))
