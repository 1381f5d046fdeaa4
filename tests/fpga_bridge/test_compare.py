"""The comparison across devices: errors against float64, drift, absent devices by name, wrong options.

The devices here are JAX and csim; one that is told to err shows that an error is seen.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
import pytest

from fpga_bridge.agreement.compare import (
    Course,
    Finding,
    jax_course,
    judge,
    kernel_course,
    marked_steps,
    same_end,
)
from fpga_bridge.cli import main
from fpga_bridge.cli.steps import draw_sentences
from fpga_bridge.devices.by_name import check_name, open_device
from fpga_bridge.devices.csim import CsimDevice
from fpga_bridge.devices.reference import JaxDevice
from tests.fpga_bridge.fake_pyxrt import Card, make_pyxrt
from tests.fpga_bridge.samples import TINY, differing, random_params, rates, same_bits, sentences
from ttjax import UserError, flatten
from ttjax.data import build_vocabulary, encode, travel_corpus

COMPARE = ["compare", "--preset", "tiny", "--data", "travel", "--steps", "3"]
RATE = 1e-2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")


def courses() -> tuple[Course, Course, Course]:
    """Truth, JAX and csim over five steps."""
    params, batch, cpu = random_params(TINY), sentences(TINY, 5), jax.devices("cpu")[0]
    truth = jax_course(TINY, params, batch, RATE, cpu, np.float64)
    return (
        truth,
        jax_course(TINY, params, batch, RATE, cpu),
        kernel_course(CsimDevice(TINY), params, batch, RATE),
    )


def test_float32_devices_are_near_the_truth_and_not_on_it() -> None:
    truth, single, kernel = courses()
    assert all(array.dtype == np.float64 for array in truth.states[5].values())
    for course in (single, kernel):
        finding = judge("x", course, truth)
        assert finding.parameter_error is not None and 1e-9 < finding.parameter_error < 1e-5
        assert finding.loss_error is not None and 0 < finding.loss_error < 1e-4
        assert [*finding.drift] == [1, 2, 3, 4, 5]
        assert finding.drift[5] == finding.parameter_error and course.ms_per_step
    exact = judge("truth", truth, truth)
    assert (exact.parameter_error, exact.loss_error) == (0.0, 0.0)


def test_a_course_is_that_of_the_device_alone() -> None:
    params, batch = random_params(TINY), sentences(TINY, 5)
    device = CsimDevice(TINY)
    course = kernel_course(device, params, batch, RATE)
    device.load(params)
    losses = device.steps(batch, rates(5))
    assert same_bits(course.losses.astype(np.float32), losses[:, 0].copy())
    after = flatten(device.read())
    assert all(same_bits(course.states[5][name], np.asarray(after[name])) for name in after)


def test_the_truth_is_the_lockstep_truth() -> None:
    """Two float64 evaluations of the same steps: one traced, one the step that trains."""
    params, batch = random_params(TINY), sentences(TINY, 3)
    truth = JaxDevice(TINY, np.float64)
    truth.load(params)
    truth.steps(batch, rates(3))
    course = jax_course(TINY, params, batch, RATE, jax.devices("cpu")[0], np.float64)
    for name, leaf in flatten(truth.read()).items():
        np.testing.assert_allclose(course.states[3][name], leaf, rtol=2e-7, atol=1e-9)


def test_an_error_is_seen_where_it_is() -> None:
    truth, _, kernel = courses()
    kernel.states[3]["slot_out.weight"][0, 0] += 0.5
    first = next(iter(kernel.states[5]))
    kernel.states[5][first].flat[0] += 2.0
    finding = judge("x", kernel, truth)
    assert finding.drift[3] > 100 * finding.drift[2]
    assert finding.worst == first
    kernel.states[5]["slot_out.weight"][0, 0] = np.nan
    finding = judge("x", kernel, truth)
    assert finding.worst == "slot_out.weight" and np.isnan(finding.drift[5]) and not finding.finite


def test_a_loss_that_is_no_number_is_seen() -> None:
    truth, single, kernel = courses()
    assert judge("x", kernel, truth).finite and judge("x", single, truth).finite
    assert not replace(judge("x", kernel, truth), drift={1: np.nan, 2: 0.0}).finite
    kernel.losses[2] = np.nan
    assert not judge("x", kernel, truth).finite


def made(losses: list[float], *states: float) -> Course:
    """A course of one parameter, after each of the steps."""
    named = {step: {"weight": np.array([state])} for step, state in enumerate(states, 1)}
    return Course(np.array(losses), named)


def test_the_loss_s_error_is_that_of_the_worst_step() -> None:
    finding = judge("x", made([2.0, 4.4, 3.0], 1, 1, 1), made([2.0, 4.0, 3.0], 1, 1, 1))
    assert finding.loss_error == pytest.approx(0.1)


def test_the_worst_parameter_may_be_small_but_no_rounding_error() -> None:
    def of(small: float, noise: float) -> Course:
        return Course(
            np.ones(1),
            {1: {"large": np.ones(2), "small": np.array([small, 0.0]), "noise": np.array([noise])}},
        )

    finding = judge("x", of(3e-3, 5e-13), of(2e-3, 1e-13))
    assert finding.worst == "small" and finding.worst_error == pytest.approx(0.5)


def test_the_same_end_is_that_of_the_last_step() -> None:
    """Whatever was before it."""
    course = made([1, 1], 1.0, 2.0)
    assert same_end([course, made([1, 1], 9.0, 2.0)])
    assert not same_end([course, made([1, 1], 1.0, 2.5)])
    assert not same_end([course, course, made([1, 1], 1.0, 2.5)])


def test_sentences_are_drawn_by_the_seed_without_repetition() -> None:
    corpus = travel_corpus()
    drawn = {seed: draw_sentences(corpus, TINY, 40, seed)[1] for seed in (0, 1)}
    again = draw_sentences(corpus, TINY, 40, 0)[1]
    assert all(np.array_equal(a, b) for a, b in zip(drawn[0], again, strict=True))
    assert not np.array_equal(drawn[0].tokens, drawn[1].tokens)
    _, everything = draw_sentences(corpus, TINY, len(corpus.train), 1)
    vocabulary = build_vocabulary(corpus, TINY.vocab_size)
    in_order = encode(corpus.train, vocabulary, TINY.seq_len).batch
    assert sorted(map(bytes, everything.tokens)) == sorted(map(bytes, np.asarray(in_order.tokens)))
    assert not np.array_equal(everything.tokens, in_order.tokens)


def test_same_end_is_by_the_bit() -> None:
    _, single, kernel = courses()
    assert same_end([kernel, kernel]) and not same_end([kernel, single])


def test_marks_are_few_and_end_at_the_last_step() -> None:
    assert marked_steps(1) == [1]
    assert marked_steps(7) == [1, 2, 3, 4, 5, 6, 7]
    many = marked_steps(1000)
    assert (many[0], many[-1]) == (1, 1000) and len(many) <= 50


def test_the_table_names_every_device_and_why_one_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    """xrt:7: no machine that runs the tests has eight cards."""
    devices = ["--devices", "jax-cpu", "csim", "xrt:7"]
    assert main([*COMPARE, *devices, "--json", "out.json"]) == 0
    said = capsys.readouterr().out
    report = json.loads(Path("out.json").read_text())
    names = [device["device"] for device in report["devices"]]
    assert names[0].startswith("jax-cpu (") and names[1:] == ["csim", "xrt:7"]
    assert report["devices"][2]["absent"] and report["devices"][2]["parameter_error"] is None
    assert f"xrt:7 absent: {report['devices'][2]['absent']}" in said
    assert all(device["absent"] is None for device in report["devices"][:2])
    assert [*report["devices"][1]["drift"]] == ["1", "2", "3"]
    assert report["data"]["synthetic"] is True and "SYNTHETIC" in said


def test_a_gpu_has_its_row_where_jax_sees_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU that is told to be there, the processor in its place, and of one that isn't."""
    devices = jax.devices
    command = [*COMPARE, "--json", "out.json", "--devices", "jax-gpu"]
    asked: list[str | None] = []

    def a_gpu(platform: str | None = None) -> list[Any]:
        asked.append(platform)
        return devices("cpu")

    def no_gpu(platform: str | None = None) -> list[Any]:
        if platform == "gpu":
            raise RuntimeError("Unknown backend: 'gpu' requested")
        return devices(platform)

    monkeypatch.setattr(jax, "devices", a_gpu)
    assert main(command) == 0
    assert "gpu" in asked
    (gpu,) = json.loads(Path("out.json").read_text())["devices"]
    assert gpu["device"].startswith("jax-gpu (") and gpu["absent"] is None
    assert [*gpu["drift"]] == ["1", "2", "3"] and "absent" not in capsys.readouterr().out
    monkeypatch.setattr(jax, "devices", no_gpu)
    assert main([*command, "csim"]) == 0
    gpu, _ = json.loads(Path("out.json").read_text())["devices"]
    assert (gpu["device"], gpu["drift"]) == ("jax-gpu", {})
    assert "jax-gpu absent: JAX has no gpu here (Unknown backend" in capsys.readouterr().out
    assert "pip install 'ttjax-fpga[gpu]'" in gpu["absent"]


def test_a_device_that_fails_is_not_absent_and_the_others_are_still_compared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler that builds nothing, and a card that is no U50."""
    monkeypatch.setitem(sys.modules, "pyxrt", make_pyxrt(Card(TINY, shell="xilinx_u280")))
    monkeypatch.setenv("CXX", "false")
    Path("card.xclbin").touch()
    devices = ["--devices", "csim", "xrt:0", "jax-cpu", "--xclbin", "card.xclbin"]
    assert main([*COMPARE, *devices, "--json", "out.json"]) == 1
    said = capsys.readouterr().out
    csim, xrt, cpu = json.loads(Path("out.json").read_text())["devices"]
    assert "that can build the kernel" in csim["failed"] and "wrong shell on xrt:0" in xrt["failed"]
    for row in (csim, xrt):
        assert row["absent"] is None and f"{row['device']} FAILED: {row['failed']}" in said
    assert cpu["failed"] is None and [*cpu["drift"]] == ["1", "2", "3"]


def test_all_absent_is_a_failure_not_a_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMPARE, "--devices", "xrt:7"]) == 1
    assert "xrt:7 absent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", "fpga"], "--devices: unknown device 'fpga': expected one of jax-cpu"),
        (["--devices", "xrt:"], "--devices: unknown device 'xrt:'"),
        (["--devices", "csim", "csim"], "--devices: expected each once"),
        (["--steps", "0"], "--steps: expected a whole number from 1 up, found 0"),
        (["--seed", "-1"], "seed: expected a whole number from 0 to 2^32 - 1, found -1"),
        (["--rate", "inf"], "--rate: expected a number that float32 holds, found inf"),
        (["--rate", "3e38", "--devices", "csim"], "the float64 evaluation diverges: expected finite numbers"),
        (["--devices", "csim", "--xclbin", "x"], "--xclbin is a card's program: expected an xrt: among"),
        (
            ["--timeout", "nan"],
            "timeout: expected a number of seconds above 0 and up to 2,147,484, found nan",
        ),
    ],
)
def test_wrong_options_are_refused_in_a_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "card"], "unknown device 'card': expected csim, xrt:INDEX"),
        (["--device", "xrt:0", "--fault", "wrong_label"], "--fault and --kernel are for csim"),
        (["--xclbin", "card.xclbin"], "--xclbin is a card's program"),
    ],
)
def test_cosim_refuses_devices_that_do_not_fit(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cosim", "--preset", "tiny", "--data", "travel", "--steps", "1", *options]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["csim", "--xclbin", "file"], "--xclbin is a card's program: expected "),
        (["xrt:0", "--xclbin", "absent"], "no xclbin at absent"),
        (["xrt:0", "--xclbin", "."], "no xclbin at ."),
    ],
)
@pytest.mark.parametrize("command", ["cosim", "train", "compare"])
def test_an_xclbin_that_cannot_be_used_is_refused_before_the_data_is_read(
    command: str,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def reached(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError("the data was read")

    monkeypatch.setattr(f"fpga_bridge.cli.{command}.load_corpus", reached)
    Path("file").touch()
    option = "--devices" if command == "compare" else "--device"
    assert main([command, "--preset", "tiny", option, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {message}") and said.count("\n") == 1


@pytest.mark.parametrize("name", ["csim", "xrt:0", "xrt:4294967295", "xrt:0000:17:00.1", "xrt:af:00.0"])
def test_names_of_devices(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["xrt:99999999999", "xrt:4294967296", "xrt:-1", "xrt:0000:17:00", "XRT:0"])
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"unknown device '{name}': expected csim, xrt:INDEX"):
        check_name(name)


def test_csim_by_name_is_csim() -> None:
    opened = open_device("csim", TINY)
    params = random_params(TINY)
    opened.device.load(params)
    assert opened.label == "csim" and differing(opened.device.read(), params) == []


def test_a_picture_is_drawn_or_the_missing_library_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fpga_bridge.cli.compare import draw_drift

    findings: list[Any] = [
        Finding("csim", parameter_error=1e-7, drift={1: 1e-8, 2: 1e-7}),
        Finding("jax-cpu", parameter_error=1e-7, drift={1: 0.0, 2: 1e-7}),
        Finding("xrt:1", parameter_error=1e-7, drift={1: 1e-8, 2: 1e-7}),
        Finding("xrt:0", absent="no card"),
    ]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="no matplotlib for the picture"):
        draw_drift(findings, "title", tmp_path / "drift.svg")
    monkeypatch.undo()
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    draw_drift(findings, "title", tmp_path / "drift.svg")
    drawn = (tmp_path / "drift.svg").read_text()
    assert "xrt:1, equal to csim" in drawn and "jax-cpu" in drawn and "xrt:0" not in drawn
    draw_drift(findings[::-1][2:3], "zero first", tmp_path / "drift.svg")
    draw_drift(findings[3:], "none", tmp_path / "drift.svg")
