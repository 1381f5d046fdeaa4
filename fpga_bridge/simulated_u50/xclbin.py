"""Writes an xclbin for the simulated U50.

The container is that of the public header ``xclbin.h`` of XRT; the sections are those the runtime asks for.
In place of a bitstream stands the kernel, compiled for this machine.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from xml.sax.saxutils import quoteattr

from fpga_bridge.kernel.interface import (
    BOARD,
    CLOCK_MHZ,
    COMPUTE_UNIT,
    DEVICE,
    HBM_BANK_BYTES,
    HBM_BANKS,
    KERNEL,
    PLATFORM,
    Argument,
    arguments,
)
from ttjax.output import replace_file

# Numbers of xclbin.h.
_BITSTREAM, _EMBEDDED_METADATA, _MEM_TOPOLOGY, _CONNECTIVITY, _IP_LAYOUT = 0, 2, 6, 7, 8
_CLOCK_FREQ_TOPOLOGY = 11
_MEM_HBM, _IP_KERNEL, _AP_CTRL_CHAIN, _CT_DATA = 6, 1, 1, 1
_HEADER = struct.Struct("<8si28s256sQ QQQHBBHH16s64s16s16sI 4x")
_SECTION = struct.Struct("<I16s4xQQ")
_MAGIC = b"xclbin2\0"

# Where the compute unit's registers lie on the card's bus: any multiple of their range.
_REGISTERS_AT, _REGISTERS = 0x800000, 0x10000


def write_xclbin(path: Path, kernel_library: Path, platform: str = PLATFORM, taps: bool = True) -> None:
    """Writes the xclbin of a kernel that ``build_kernel`` made, atomically.

    The same content gets the same UUID: a card that holds it already is not programmed again.
    """
    interface = arguments(taps)
    library = kernel_library.read_bytes()
    sections = [
        (_BITSTREAM, library),
        (_MEM_TOPOLOGY, _memory_topology(interface)),
        (_CONNECTIVITY, _connectivity(interface)),
        (_IP_LAYOUT, _ip_layout()),
        (_CLOCK_FREQ_TOPOLOGY, struct.pack("<hHB5x128s", 1, CLOCK_MHZ, _CT_DATA, b"DATA_CLK")),
        (_EMBEDDED_METADATA, _metadata(interface, platform).encode()),
    ]
    replace_file(path, _container(sections, platform), make_folder=True)


def _container(sections: list[tuple[int, bytes]], platform: str) -> bytes:
    body = bytearray()
    table = bytearray()
    start = _HEADER.size + _SECTION.size * len(sections)
    for kind, content in sections:
        # Sections begin at multiples of 8 bytes.
        body += b"\0" * (-(start + len(body)) % 8)
        table += _SECTION.pack(kind, b"", start + len(body), len(content))
        body += content
    name = platform.encode()
    uuid = hashlib.sha256(name + b"\0" + body).digest()[:16]
    head = _HEADER.pack(
        _MAGIC,
        -1,  # not signed
        b"\xff" * 28,
        b"",
        int.from_bytes(uuid[:8], "little"),
        start + len(body),
        0,  # no time stamps: the same content is the same file
        0,
        0,
        2,
        1,
        0,  # a flat image, not one of an emulator
        0,
        b"",
        name,
        uuid,
        b"",
        len(sections),
    )
    return head + bytes(table) + bytes(body)


def _memory_topology(interface: tuple[Argument, ...]) -> bytes:
    used = {argument.bank for argument in interface}
    banks = b"".join(
        struct.pack(
            "<BB6xQQ16s",
            _MEM_HBM,
            bank in used,
            HBM_BANK_BYTES // 1024,
            bank * HBM_BANK_BYTES,
            f"HBM[{bank}]".encode(),
        )
        for bank in range(HBM_BANKS)
    )
    return struct.pack("<i4x", HBM_BANKS) + banks


def _connectivity(interface: tuple[Argument, ...]) -> bytes:
    links = [(index, argument.bank) for index, argument in enumerate(interface) if argument.bank is not None]
    return struct.pack("<i", len(links)) + b"".join(struct.pack("<iii", i, 0, bank) for i, bank in links)


def _ip_layout() -> bytes:
    name = f"{KERNEL}:{COMPUTE_UNIT}".encode()
    return struct.pack("<i4xIIQ64s", 1, _IP_KERNEL, _AP_CTRL_CHAIN << 8, _REGISTERS_AT, name)


def _metadata(interface: tuple[Argument, ...], platform: str) -> str:
    """The kernel's description as v++ writes it: ports, and each argument's place among the registers."""
    masters = sorted({argument.bank for argument in interface if argument.bank is not None})
    ports = [
        '<port name="S_AXI_CONTROL" mode="slave" range="0x10000" dataWidth="32" portType="addressable"/>'
    ]
    ports += [
        f'<port name="M_AXI_GMEM{bank}" mode="master" range="0xFFFFFFFFFFFFFFFF" dataWidth="32"'
        ' portType="addressable"/>'
        for bank in masters
    ]
    args = [
        f'<arg name="{a.name}" addressQualifier="{int(a.kind == "buffer")}" id="{i}"'
        f' port="{"S_AXI_CONTROL" if a.bank is None else f"M_AXI_GMEM{a.bank}"}" size="{a.size:#x}"'
        f' offset="{a.offset:#x}" hostOffset="0x0" hostSize="{a.size:#x}"'
        f' type="{"uint" if a.kind == "scalar" else "int*"}"/>'
        for i, a in enumerate(interface)
    ]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<project name={quoteattr(KERNEL)}>",
            f'<platform vendor="xilinx" boardid={quoteattr(BOARD)} name={quoteattr(platform)}>',
            '<version major="1" minor="0"/>',
            f'<device name="fpga0" fpgaDevice={quoteattr(DEVICE)}>',
            '<core name="OCL_REGION_0" target="hw" type="clc_region">',
            f'<kernel name="{KERNEL}" language="c" type="pl" preferredWorkGroupSizeMultiple="0"'
            ' workGroupSize="1" interrupt="true" hwControlProtocol="ap_ctrl_chain">',
            *ports,
            *args,
            f'<instance name="{COMPUTE_UNIT}"><addrRemap base="{_REGISTERS_AT:#x}"'
            f' range="{_REGISTERS:#x}" port="S_AXI_CONTROL"/></instance>',
            "</kernel>",
            "</core></device></platform></project>",
            "",
        ]
    )
