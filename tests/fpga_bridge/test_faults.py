"""Proof that the agreement check can fail: each planted fault is named at its first point, in its step."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from fpga_bridge.agreement.lockstep import Report, cosimulate
from fpga_bridge.cli import main
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.kernel.build import build_kernel, kernel_sources
from fpga_bridge.kernel.faults import FAULTS, Fault, ProgramFault, SourceFault, find_fault
from fpga_bridge.kernel.header import HEADER_NAME, header
from fpga_bridge.program.makers import makers
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY, random_params, rates, sentences
from ttjax import ModelConfig, UserError, preset

# The faults that every comparison must find, in words, and what they are called here.
REQUIRED = {
    "a flipped parameter bit": "flipped_bit",
    "a dropped mask": "dropped_mask",
    "a wrong LayerNorm epsilon": "norm_epsilon",
    "a transposed core": "transposed_core",
    "a missing bias gradient": "missing_bias_gradient",
    "a stale merged half": "stale_merged_half",
    "a wrong label index": "wrong_label",
    "a skipped update of one core": "skipped_update",
}


def plant(fault: Fault, config: ModelConfig, mode: str = "locked") -> Report:
    """Two steps of a kernel with the fault in it, on sentences with padding and a token that comes twice."""
    manifest = make_manifest(config)
    device = CsimDevice(config, build_kernel(manifest, fault.sources(manifest)))
    batch = sentences(config, 2, lengths=[config.seq_len - 3, 4])
    batch.tokens[:, 2] = batch.tokens[:, 1]
    return cosimulate(device, random_params(config), batch, rates(2), mode=mode)  # type: ignore[arg-type]


def assert_found(fault: Fault, report: Report, config: ModelConfig) -> None:
    first = report.first_divergence
    assert not report.agree and first is not None
    assert (first.step, first.name) == (fault.step, fault.first_point(config))
    assert first.stage == make_manifest(config).by_name[first.name].stage
    assert first.reason == "beyond tolerance"
    assert first.worst is not None and first.actual != first.expected
    assert report.made_by == tuple(job.label for job in makers(make_manifest(config))[first.name])
    assert report.failing["device"].keys() == report.failing["jax"].keys()
    assert not np.array_equal(report.failing["device"][first.name], report.failing["jax"][first.name])


def test_the_list_holds_the_eight_that_are_asked_for() -> None:
    assert FAULTS.keys() >= set(REQUIRED.values())
    assert all(name == fault.name for name, fault in FAULTS.items())


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_changes_its_file_alone(name: str) -> None:
    manifest = make_manifest(TINY)
    fault, sources = FAULTS[name], {**kernel_sources(), HEADER_NAME: header(manifest)}
    mutated = {**sources, **fault.sources(manifest)}
    assert {file for file in mutated if sources[file] != mutated[file]} == {fault.file}
    if isinstance(fault, SourceFault):
        assert fault.new in mutated[fault.file]
    else:
        # Instructions differ, and what they need of the engine; none is added or left out.
        lines = [text[HEADER_NAME].splitlines() for text in (sources, mutated)]
        differing = [a for a, b in zip(*lines, strict=True) if a != b]
        assert all(line.startswith(("  {", "constexpr int kSumDepth")) for line in differing)
    assert fault.first_point(TINY) in manifest.by_name


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_in_tiny_is_named_at_its_first_point_and_step(name: str) -> None:
    assert_found(FAULTS[name], plant(FAULTS[name], TINY), TINY)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_in_enc2_is_named_at_its_first_point_and_step(name: str) -> None:
    config = preset("enc2")
    assert_found(FAULTS[name], plant(FAULTS[name], config), config)


NORMS = ["embed_norm", "block0.norm1", "block0.norm2", "block1.norm1", "block1.norm2", "slot_norm"]
# What goes into a norm. The residual stream's gradient is read where the branch's lies, which is handed in.
INTO_NORMS = ["embed", "block0.o", "block0.ffn_out", "block1.o", "block1.ffn_out", "slot_gelu"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("dropped_mask", {"block0.probs", "block1.probs"}),
        ("norm_epsilon", {*NORMS, *(f"d_{value}" for value in INTO_NORMS)}),
        ("unscaled_score_gradient", {f"d_block{b}.{part}" for b in (0, 1) for part in "qk"}),
        ("padding_in_slot_loss", {"slot_loss"}),
    ],
)
def test_isolated_stages_disagree_where_the_fault_is_and_nowhere_else(name: str, wrong: set[str]) -> None:
    """Each stage gets right inputs; what it hands on, forward and back, is wrong at its own points alone.

    A value's gradient is handed back by the stages after it, and stands under the value's own.
    """
    report = plant(FAULTS[name], TINY, "isolated")
    found = [c for c in report.comparisons if not c.agree and c.step == 0]
    assert {c.name for c in found if c.kind in ("value", "value_gradient")} == wrong


def test_the_kernel_without_a_fault_agrees_on_the_same_sentences() -> None:
    report = plant(SourceFault("none", "", "", "step.hpp", "#pragma once", "#pragma once"), TINY)
    assert report.agree, report.first_divergence


def test_a_missing_wait_shows_in_the_bits_of_steps_without_trace() -> None:
    """With a trace, instructions run in order; without one, units work at once as far as waits let them."""
    fault = ProgramFault("no_waits", "", "", lambda job, config: replace(job, waits=()))
    report = plant(fault, TINY)
    assert report.first_divergence is None and report.same_bits is False
    assert not report.agree


@pytest.mark.parametrize("mode", ["locked", "free", "isolated"])
def test_a_parameter_that_changes_after_it_was_shown_is_named_with_its_step(mode: str) -> None:
    """At the end of a step, where no trace point sees it; the steps without trace do the same."""
    run = "  run_program(kInstructions, sentence, taps);\n"
    fault = SourceFault("late_write", "", "", "step.hpp", run, f"{run}  linear_core1[3] *= 2.0f;\n")
    report = plant(fault, TINY, mode)
    assert report.moved == {"block0.q.core1": 0} and not report.agree
    if mode != "free":
        # The next step begins with it on all sides.
        assert report.first_divergence is None and report.same_bits is not False


def test_a_fault_whose_text_is_gone_says_so() -> None:
    gone = SourceFault("gone", "", "loss", "norm.hpp", "no such text", "")
    with pytest.raises(
        UserError, match=re.escape("fault gone: expected its text once in norm.hpp, found it 0")
    ):
        gone.sources(make_manifest(TINY))
    twice = SourceFault("twice", "", "loss", "norm.hpp", "float", "double")
    with pytest.raises(UserError, match="expected its text once"):
        twice.sources(make_manifest(TINY))


def test_a_fault_that_changes_no_instruction_says_so() -> None:
    idle = ProgramFault("idle", "", "loss", lambda job, config: job)
    with pytest.raises(UserError, match="fault idle: expected instructions that change, found none"):
        idle.sources(make_manifest(TINY))


@pytest.mark.parametrize("option", [["--immediate", "False"], ["--frozen", "slot_pre"]])
def test_a_model_in_which_faults_show_elsewhere_is_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["faults", "--preset", "tiny", *option]) == 2
    assert f"{option[0]}: expected none, since where each fault must show" in capsys.readouterr().err


def test_an_unknown_fault_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(UserError, match=f"unknown fault 'typo': expected one of {', '.join(FAULTS)}"):
        find_fault("typo")
