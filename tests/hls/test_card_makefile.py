"""The build for the card, as far as a machine without Vitis can tell: its commands, files and refusals.

A stand-in for v++ writes what it was asked for; nothing here says that Vitis would accept the kernel.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fpga_bridge.kernel.card_files import HLS_COMMANDS_NAME
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.kernel.interface import (
    CLOCK_MHZ,
    COMPUTE_UNIT,
    HBM_BANKS,
    KERNEL,
    PLATFORM,
    TOOLS,
    arguments,
    connectivity,
    hls_commands,
)
from fpga_bridge.kernel.operators import OPERATORS
from fpga_bridge.program.accelerator import CLASSES
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY

HLS = Path(__file__).parents[2] / "hls"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def run_make(
    out: Path | str, *arguments_of_make: str, path: str | None = None, folder: Path = HLS
) -> subprocess.CompletedProcess[str]:
    """`make` in hls/, or a copy, with this Python and nothing of an outer make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-C", str(folder), f"PYTHON={sys.executable}", f"OUT={out}", *arguments_of_make]
    environment["PATH"] = path or environment["PATH"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def options_of(commands: str, verb: str) -> list[str]:
    """Words of the one v++ command with that verb."""
    lines = [line for line in commands.splitlines() if f"v++ {verb}" in line]
    assert len(lines) == 1, commands
    return lines[0].split()


@pytest.mark.parametrize("target", ["hw", "hw_emu"])
def test_a_dry_run_shows_the_commands_with_the_interfaces_values(target: str, tmp_path: Path) -> None:
    ran = run_make(tmp_path, "-n", target, "PRESET=tiny")
    assert ran.returncode == 0, ran.stderr
    for verb in ("--compile", "--link"):
        words = options_of(ran.stdout, verb)
        for option, value in (
            ("--platform", PLATFORM),
            ("--target", target),
            ("--kernel_frequency", str(CLOCK_MHZ)),
        ):
            assert words[words.index(option) + 1] == value
    compiled, linked = options_of(ran.stdout, "--compile"), options_of(ran.stdout, "--link")
    assert compiled[compiled.index("--kernel") + 1] == KERNEL
    commands = str(tmp_path / "generated" / HLS_COMMANDS_NAME)
    assert compiled[compiled.index("--hls.pre_tcl") + 1] == commands and commands not in linked
    assert "-DTTFPGA_TAPS=0" in compiled and str(HLS / "kernel.cpp") in compiled
    assert linked[linked.index("--config") + 1] == str(tmp_path / "generated" / "link.cfg")
    assert linked[-1] == str(tmp_path / target / "ttfpga.xclbin")
    assert ("emconfigutil" in ran.stdout) == (target == "hw_emu")
    assert list(tmp_path.iterdir()) == [], "a dry run wrote something"


@pytest.mark.parametrize("taps", ["", "2", "yes", "0 1"])
def test_taps_are_0_or_1(taps: str, tmp_path: Path) -> None:
    made = run_make(tmp_path, "-n", "hw", "PRESET=tiny", f"TAPS={taps}")
    assert made.returncode == 2 and f"TAPS: expected 0 or 1, found '{taps}'" in made.stderr


@pytest.mark.parametrize("target", ["hw", "hw_emu", "files"])
def test_a_header_left_among_the_sources_is_refused(target: str, tmp_path: Path) -> None:
    """As `fpga-bridge build --to hls` leaves one: the compiler would take it, not the one generated."""
    folder = Path(shutil.copytree(HLS, tmp_path / "hls"))
    left = folder / HEADER_NAME
    left.write_text("// of another config\n")
    made = run_make(tmp_path / "out", "-n", target, "PRESET=tiny", folder=folder)
    assert made.returncode == 2 and f"expected none, found {left}: remove it" in made.stderr
    left.unlink()
    assert run_make(tmp_path / "out", "-n", target, "PRESET=tiny", folder=folder).returncode == 0


@pytest.mark.parametrize("target", ["hw", "hw_emu"])
def test_a_folder_named_from_hls_is_the_same_folder_in_every_command(target: str, tmp_path: Path) -> None:
    """The compiler runs in a folder of its own, where a name from hls/ would be another folder."""
    named = run_make(os.path.relpath(tmp_path, HLS), "-n", target, "PRESET=tiny")
    assert named.returncode == 0, named.stderr
    assert named.stdout == run_make(tmp_path, "-n", target, "PRESET=tiny").stdout


@pytest.mark.parametrize("target", ["hw", "hw_emu"])
def test_without_vitis_one_line_says_what_is_missing(target: str, tmp_path: Path) -> None:
    ran = run_make(tmp_path, target, "VPP=no-such-v++")
    assert ran.returncode != 0
    said = [line for line in ran.stderr.splitlines() if line.startswith("make: no ")]
    assert len(said) == 1 and "no-such-v++" in said[0]
    assert PLATFORM in said[0] and f"Vitis {TOOLS}" in said[0] and "docs/card.md" in said[0]
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("taps", [False, True])
def test_the_generated_files_are_those_of_the_interface_and_the_config(taps: bool, tmp_path: Path) -> None:
    ran = run_make(tmp_path, "files", "PRESET=tiny", f"TAPS={int(taps)}")
    assert ran.returncode == 0, ran.stderr
    generated = tmp_path / "generated"
    assert (generated / HEADER_NAME).read_text() == header(make_manifest(TINY))
    assert (generated / HLS_COMMANDS_NAME).read_text() == hls_commands()
    text = (generated / "link.cfg").read_text()
    assert text == connectivity(taps)
    assert f"nk={KERNEL}:1:{COMPUTE_UNIT}" in text
    banks = dict(re.findall(rf"^sp={COMPUTE_UNIT}\.(\w+):HBM\[(\d+)\]$", text, re.MULTILINE))
    assert banks == {a.name: str(a.bank) for a in arguments(taps) if a.bank is not None}
    assert all(int(bank) < HBM_BANKS for bank in banks.values())


def test_the_card_s_multipliers_are_those_that_the_cycle_model_counts() -> None:
    """Full usage of the vendor's floating-point core: 2 DSP blocks."""
    commands = [line for line in hls_commands().splitlines() if not line.startswith("#")]
    assert commands == ["config_op fmul -impl fulldsp"]
    assert [OPERATORS["mul"].dsp[c] for c in CLASSES] == [2, 2, 2]


def test_a_whole_build_with_a_stand_in_for_vitis_is_made_once(tmp_path: Path) -> None:
    """And again when the model or the taps change, not otherwise."""
    out, tools = tmp_path / "out", tmp_path / "tools"
    tools.mkdir()
    log = tmp_path / "log"
    for name in ("v++", "emconfigutil"):
        script = tools / name
        # The last word is the output of both verbs.
        script.write_text(
            f'#!/bin/sh\necho {name} "$@" >>{log}\nfor last; do :; done\n'
            f'case $last in *.xo|*.xclbin) echo made >"$last";; *) echo {{}} >"$last/emconfig.json";; esac\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
    path = f"{tools}:{os.environ['PATH']}"

    def calls(*options: str) -> int:
        log.write_text("")
        ran = run_make(out, "hw_emu", "PRESET=tiny", *options, path=path)
        assert ran.returncode == 0, ran.stderr
        return len(log.read_text().splitlines())

    assert calls() == 3
    assert (out / "hw_emu" / "ttfpga.xclbin").is_file()
    assert calls() == 0
    assert calls("TAPS=1") == 2
    assert "-DTTFPGA_TAPS=1" in log.read_text()
    assert calls("TAPS=1", "MODEL=--rank 3") == 2
    assert "kHash" in (out / "generated" / HEADER_NAME).read_text()


def test_an_unknown_preset_stops_the_build(tmp_path: Path) -> None:
    ran = run_make(tmp_path, "files", "PRESET=enc3")
    assert ran.returncode != 0 and "unknown preset 'enc3'" in ran.stderr
