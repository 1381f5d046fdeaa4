"""Exit statuses that say no: each command ends with 1 for each reason that is its alone, and says which.

Devices, faults and sources that are wrong in one way each stand in for the kernel's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fpga_bridge.agreement import compare
from fpga_bridge.agreement.criterion import Comparison, Criterion
from fpga_bridge.agreement.lockstep import Report
from fpga_bridge.cli import main
from fpga_bridge.devices.by_name import Opened
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.faults import FAULTS, Fault
from tests.fpga_bridge.samples import TINY, random_params
from ttjax import ModelConfig, Params
from ttjax.data import Sentence
from ttjax.data.corpus import Corpus

STEPS = ["--preset", "tiny", "--steps", "2", "--json", "out.json"]
SENTENCE = Sentence(("to", "rome"), ("O", "B-city"), "go")
CORPUS = Corpus("small", False, (SENTENCE,) * 3, (SENTENCE,), (SENTENCE,))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the test's own; a few sentences, and parameters from numpy, which cost no compilation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    for command in ("cosim", "compare", "faults"):
        monkeypatch.setattr(f"fpga_bridge.cli.{command}.load_corpus", lambda data, notify: CORPUS)
    for command in ("cosim", "compare"):
        monkeypatch.setattr(
            f"fpga_bridge.cli.{command}.init_params", lambda key, config: random_params(config)
        )


def written() -> Any:
    return json.loads(Path("out.json").read_text())


def stand_in(device: Callable[[ModelConfig], CsimDevice]) -> Callable[..., Opened]:
    """For ``open_device``: csim itself, and that device for any other name."""
    return lambda name, config, **_: Opened(
        CsimDevice(config) if name == "csim" else device(config), name, simulated=True
    )


class FlipsABit(CsimDevice):
    """The lowest bit of one parameter reads back as another."""

    def read(self) -> Params:
        params = super().read()
        params["slot_out"]["weight"].view(np.uint32)[0, 0] ^= 1
        return params


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """JAX's steps cost nothing and change nothing; whether each was in float64."""
    in_float64: list[bool] = []

    def step(params: Params, state: Any, *_: Any) -> tuple[Params, Any, Any]:
        in_float64.append(jax.tree.leaves(params)[0].dtype == np.float64)
        return params, state, np.float32(1)

    monkeypatch.setattr(compare, "sgd_step", step)
    return in_float64


@pytest.mark.parametrize(("same_bits", "same_losses"), [(False, True), (True, False), (True, True)])
def test_cosim_says_no_to_other_bits_or_losses_without_trace(
    same_bits: bool, same_losses: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device whose steps differ so is in test_lockstep.py; here it is its report."""
    device = Opened(CsimDevice(TINY), "csim", simulated=True)
    monkeypatch.setattr("fpga_bridge.cli.cosim.open_device", lambda *_, **__: device)
    agreeing = Comparison(0, "embed", "value", "embed", (), agree=True)
    made = Report("locked", Criterion(), [agreeing], [(1.0, 1.0)], 1.0, same_bits, same_losses=same_losses)
    monkeypatch.setattr("fpga_bridge.cli.cosim.cosimulate", lambda *_, **__: made)
    same = same_bits and same_losses
    assert main(["cosim", *STEPS]) == (0 if same else 1)
    report = written()
    assert report["first_divergence"] is None and report["agree"] is same
    assert (report["same_bits_untraced"], report["same_losses_untraced"]) == (same_bits, same_losses)
    ending = "the same bits" if same_bits else "OTHER BITS"
    losses = "the same losses" if same_losses else "OTHER LOSSES"
    line = f"the same steps in one call without trace end in {ending}, with {losses}"
    assert line in capsys.readouterr().out


def test_cosim_says_no_where_its_steps_say_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = Opened(CsimDevice(TINY), "csim", simulated=True)
    monkeypatch.setattr("fpga_bridge.cli.cosim.open_device", lambda *_, **__: device)
    for allowed, status in ((1.0, 1), (0.9, 0)):
        agreeing = Comparison(0, "embed", "value", "embed", (), agree=True, allowed=allowed)
        made = Report("locked", Criterion(), [agreeing], [(1.0, 1.0)], 1.0, True, same_losses=True)
        monkeypatch.setattr("fpga_bridge.cli.cosim.cosimulate", lambda *_, made=made, **__: made)
        assert main(["cosim", *STEPS]) == status
        assert written()["agree"] is (status == 0)
        assert ("NO VERDICT" in capsys.readouterr().out) is (status == 1)


def test_compare_says_no_to_kernels_that_end_in_other_bits(
    stepped: list[bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for device, status in ((FlipsABit, 1), (CsimDevice, 0)):
        monkeypatch.setattr("fpga_bridge.cli.compare.open_device", stand_in(device))
        assert main(["compare", *STEPS, "--devices", "csim", "xrt:0"]) == status
        assert written()["same_bits"] is (status == 0)
        assert all(row["absent"] is row["failed"] is None for row in written()["devices"])
        ending = "OTHER BITS" if status else "the same bits"
        assert f"the kernel's devices end in {ending}" in capsys.readouterr().out


def test_compare_runs_the_truth_once_and_twice_only_what_it_times(stepped: list[bool]) -> None:
    assert main(["compare", *STEPS, "--devices", "jax-cpu"]) == 0
    assert (stepped.count(True), stepped.count(False)) == (2, 4)
    assert written()["devices"][0]["ms_per_step"] > 0


def found_at(step: int, name: str) -> Report:
    """A comparison that disagrees there first."""
    report = Report("locked", Criterion())
    for agree in (True, False):
        report.comparisons.append(Comparison(step, name, "value", "stage", (), agree=agree))
    return report


def test_faults_says_no_unless_each_is_found_at_its_point_and_not_before_its_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FAULTS["stale_merged_half"]
    planted = {
        fault.name: (fault.step, fault.point, True),
        "later": (fault.step + 1, fault.point, True),
        "too_early": (fault.step - 1, fault.point, False),
        "elsewhere": (fault.step, "embed", False),
    }

    def plant(planted_fault: Fault, *_: Any) -> Report:
        if planted_fault.name == "unseen":
            return Report("locked", Criterion(), [replace(found_at(0, "embed").comparisons[0])])
        return found_at(*planted[planted_fault.name][:2])

    monkeypatch.setattr("fpga_bridge.cli.faults.plant", plant)
    arguments = ["faults", "--preset", "tiny", "--json", "out.json"]
    for names in ([fault.name], [*planted, "unseen"]):
        faults = {name: replace(fault, name=name) for name in names}
        monkeypatch.setattr("fpga_bridge.cli.faults.FAULTS", faults)
        assert main(arguments) == (0 if len(names) == 1 else 1)
    assert written() == {
        "data": CORPUS.identity,
        "findings": [
            *(
                {"fault": name, "found_at": point, "step": step, "right": right}
                for name, (step, point, right) in planted.items()
            ),
            {"fault": "unseen", "found_at": None, "step": None, "right": False},
        ],
    }
    said = capsys.readouterr().out
    assert "1 of 1 faults found" in said and "2 of 5 faults found" in said
    assert f"step 2 or later, {fault.point}" in said and f"step 1, {fault.point}" in said
    assert "nowhere" in said


def test_lint_says_no_to_a_source_with_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fpga_bridge.cli.kernel.kernel_folder", lambda: tmp_path)
    source = tmp_path / "dirty.hpp"
    source.write_text("inline int* f() { return new int[4]; }\n")
    assert main(["lint", "--json", "out.json"]) == 1
    (finding,) = written()
    assert (finding["file"], finding["line"], finding["rule"]) == (str(source), 1, "heap")
    assert "1 findings" in capsys.readouterr().out
