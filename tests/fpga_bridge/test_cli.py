"""The command line: what cosim prints, writes and returns, and each wrong input as one line and status 2.

Run in a folder of the test's own, so that anything written by mistake is seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from fpga_bridge.cli import main
from fpga_bridge.kernel.card_files import main as card_files
from fpga_bridge.kernel.faults import FAULTS
from fpga_bridge.kernel.header import HEADER_NAME, header, kernel_hash
from fpga_bridge.memory.layout import make_layout
from fpga_bridge.program.manifest import make_manifest
from tests.fpga_bridge.samples import TINY
from ttjax.data import Sentence, write_corpus
from ttjax.data.corpus import Corpus

COSIM = ["cosim", "--preset", "tiny", "--data", "corpus", "--steps", "2"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a small corpus in it."""
    words = ["rome", "oslo", "lima", "riga", "bonn", "kyiv"]
    sentences = tuple(
        Sentence(("to", word, *words[: i % 3]), ("O", "B-city", *["O"] * (i % 3)), f"intent{i % 2}")
        for i, word in enumerate(words)
    )
    write_corpus(Corpus("small", False, sentences, sentences[:2], sentences[2:4]), tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def failure(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that must fail with status 2 and write nothing."""
    before = snapshot(folder)
    assert main([*arguments, "--json", "out.json"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith("\n") and said.count("\n") == 1, said
    assert snapshot(folder) == before
    return said


def json_on_standard_output(arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*arguments, "--json", "-"]) == status
    return json.loads(capsys.readouterr().out)


def test_cosim_on_travel_agrees_with_its_report_alone_on_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(folder)
    arguments = ["cosim", "--preset", "tiny", "--data", "travel", "--steps", "3"]
    report = json_on_standard_output(arguments, 0, capsys)
    assert report["agree"] is True and report["steps"] == 3 and report["first_divergence"] is None
    assert report["ms_per_step"] > 0
    assert report["data"]["name"].startswith("travel") and report["data"]["synthetic"] is True
    config = TINY.replace(n_intents=report["config"]["n_intents"], n_slots=report["config"]["n_slots"])
    points = make_manifest(config).points
    assert [(p["step"], p["name"]) for p in report["points"]] == [
        (step, p.name) for step in range(3) for p in points
    ]
    for point, place in zip(report["points"], [*points] * 3, strict=True):
        assert point["agree"] is True and point["stage"] == place.stage
        assert point["shape"] == list(place.shape)
        for figure in ("device_error", "jax_error", "relative", "excess", "max_abs"):
            assert point[figure] >= 0.0
        assert point["excess"] <= 1.0 and len(point["ulp"]) == 3
    assert snapshot(folder) == before


def test_cosim_says_which_data_it_ran_on_and_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COSIM, "--json", "report.json"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("data: corpus (corpus), 6 train")
    assert out[-1] == "AGREE"
    text = "\n".join(out)
    for stage in ("embed", "block1.attention", "slot_norm", "loss"):
        assert stage in text
    assert json.loads(Path("report.json").read_text())["agree"] is True


@pytest.mark.parametrize("mode", ["free", "isolated"])
def test_cosim_agrees_in_the_other_modes(mode: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = json_on_standard_output([*COSIM, "--mode", mode], 0, capsys)
    assert report["mode"] == mode and report["agree"] is True


def test_a_planted_fault_gives_status_1_its_stage_and_the_arrays_of_both_sides(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*COSIM, "--fault", "wrong_label", "--keep", "kept/arrays.npz"]
    assert main([*arguments, "--json", "-"]) == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    first = report["first_divergence"]
    assert (first["name"], first["stage"]) == ("intent_loss", "loss")
    assert report["agree"] is False and report["fault"] == "wrong_label"
    assert "DISAGREE" in captured.err and "stage loss (forward), intent_loss" in captured.err
    assert "made by CROSS_ENTROPY of forward loss" in captured.err
    assert "kept/arrays.npz" in captured.err
    with np.load("kept/arrays.npz", allow_pickle=False) as arrays:
        of_step = {p["name"] for p in report["points"]}
        inputs = {name for name in arrays if name.startswith("input/")}
        assert {*arrays} - inputs == {
            f"{side}/{name}" for side in ("device", "jax", "truth") for name in of_step
        }
        assert {"input/tokens", "input/rate", "input/block0.q.core0"} < inputs
        assert float(arrays["device/intent_loss"]) == first["actual"]
        assert float(arrays["jax/intent_loss"]) == first["expected"]
        for point in (p for p in report["points"] if p["step"] == first["step"]):
            if point["agree"] is False:
                assert not np.array_equal(arrays[f"device/{point['name']}"], arrays[f"jax/{point['name']}"])
    assert not Path("cosim-divergence.npz").exists()


def reached(*args: object, **kwargs: object) -> NoReturn:
    raise AssertionError("the work was begun")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/proc/x.npz", "/proc/x.npz: expected a folder to write to, can't in /proc"),
        ("/proc/below/x.npz", "/proc/below/x.npz: expected a folder to write to, can't in /proc"),
        ("/dev/null", "/dev/null: expected a regular file to write or replace"),
        ("corpus", "corpus: expected a regular file to write or replace"),
        ("corpus/train/label/x.npz", "expected a folder to write to, can't in"),
    ],
)
def test_where_the_arrays_cannot_be_kept_is_refused_first(
    path: str, message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fpga_bridge.cli.cosim.load_corpus", reached)
    assert message in failure([*COSIM, "--keep", path], folder, capsys)


def test_the_arrays_own_place_is_checked_where_a_fault_is_planted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps that agree, as they should without one, write nothing and need no folder that can be written."""
    monkeypatch.setattr("fpga_bridge.cli.cosim.load_corpus", reached)
    monkeypatch.chdir("/proc")
    assert main([*COSIM, "--fault", "wrong_label"]) == 2
    assert "cosim-divergence.npz: expected a folder to write to" in capsys.readouterr().err
    with pytest.raises(AssertionError, match="the work was begun"):
        main(COSIM)


def test_arrays_that_cannot_be_kept_cost_neither_the_report_nor_the_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cosim-divergence.npz").mkdir()
    assert main([*COSIM, "--multiple", "1e-9", "--json", "report.json"]) == 1
    assert json.loads(Path("report.json").read_text())["agree"] is False
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("arrays not kept: cosim-divergence.npz: expected a regular file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "enc3"], "unknown preset 'enc3'"),
        (["--rank", "0"], "--rank: expected a whole number from 1 up, found 0"),
        (["--embedding-rank", "0"], "--embedding-rank: expected a whole number from 1 up, found 0"),
        (["--in-modes", "5", "3", "2"], "factors must multiply to d_model 24, found 5·3·2 = 30"),
        (["--vocab-modes", "5", "8", "7"], "factors must multiply to vocab_size 240"),
        (["--format", "dense"], "expected format 'tt', found 'dense'"),
        (["--steps", "0"], "--steps: expected a whole number from 1 up, found 0"),
        (["--steps", "-3"], "--steps: expected a whole number from 1 up, found -3"),
        (["--seed", "-1"], "seed: expected a whole number from 0 to 2^32 - 1, found -1"),
        (["--rate", "nan"], "--rate: expected a number that float32 holds, found nan"),
        (["--rate", "1e39"], "--rate: expected a number that float32 holds, found 1e+39"),
        (
            ["--timeout", "inf"],
            "timeout: expected a number of seconds above 0 and up to 2,147,484, found inf",
        ),
        (["--timeout", "1e8"], "up to 2,147,484, found 1e+08"),
        (["--steps", "7"], "--steps: expected at most the 6 training sentences, found 7"),
        (["--mode", "loose"], "unknown mode 'loose': expected one of locked, free, isolated"),
        (["--fault", "typo"], "unknown fault 'typo': expected one of flipped_bit"),
        (["--fault", "wrong_label", "--kernel", "k.so"], "expected --fault or --kernel, found both"),
        (["--kernel", "absent.so"], "no kernel at absent.so"),
        (["--kernel", "corpus/train/label"], "is not a simulation kernel"),
        (["--data", "absent"], "absent: expected a folder"),
        (["--json", "absent/out.json"], "expected an existing folder"),
    ],
)
def test_wrong_options_of_cosim_are_refused_in_a_line(
    options: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "--json" in options:
        assert main([*COSIM, *options]) == 2
        assert message in capsys.readouterr().err
    else:
        assert message in failure([*COSIM, *options], folder, capsys)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train/seq.in", None, "train/seq.in: can't read it"),
        ("dev/label", None, "dev/label: can't read it"),
        ("train/label", "intent0\n", "train/label:2: expected 6 lines as in seq.in, found 1"),
        ("train/seq.out", "O\n" * 6, "train/seq.out:1: expected 2 slot labels"),
        (
            "train/seq.in",
            "to rome\n\nto a\nto b\nto c\nto d\n",
            "train/seq.in:2: expected a sentence, found zero",
        ),
        ("test/seq.in", b"\xff\n\n", "expected UTF-8"),
    ],
)
def test_wrong_data_is_refused_in_a_line(
    file: str, content: str | bytes | None, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "corpus" / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert message in failure(COSIM, folder, capsys)


def test_a_kernel_of_another_config_is_refused_and_its_own_is_taken(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--preset", "tiny", "--to", "built", "--json", "built.json"]) == 0
    built = json.loads(Path("built.json").read_text())
    assert built == {
        "kernel": "built/kernel.so",
        "header": f"built/{HEADER_NAME}",
        "hash": kernel_hash(make_manifest(TINY)).tobytes().hex(),
    }
    assert Path("built", HEADER_NAME).read_text() == header(make_manifest(TINY))
    said = failure([*COSIM, "--kernel", "built/kernel.so"], folder, capsys)
    assert "stale kernel: built/kernel.so was built for another configuration" in said
    assert "5 intents and 11 slots, expected 3 and 3: build it again with the corpus's --data" in said
    said = failure([*COSIM, "--kernel", "built/kernel.so", "--rank", "3"], folder, capsys)
    assert "build it again" in said and "intents" not in said
    assert main(["build", "--preset", "tiny", "--data", "corpus", "--to", "built"]) == 0
    assert main([*COSIM, "--kernel", "built/kernel.so"]) == 0


def test_the_card_s_files_are_made_for_a_corpus_s_labels(capsys: pytest.CaptureFixture[str]) -> None:
    assert card_files(["--preset", "tiny", "--data", "corpus", "--to", "card"]) == 0
    assert "data: corpus (corpus), 6 train" in capsys.readouterr().out
    config = TINY.replace(n_intents=3, n_slots=3)
    assert Path("card", HEADER_NAME).read_text() == header(make_manifest(config))


def test_no_compiler_is_refused_in_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for command in (COSIM, ["build", "--preset", "tiny", "--to", "built"]):
        said = failure(command, folder, capsys)
        assert "no C++ compiler: expected no-such-compiler on the PATH" in said


def test_a_folder_that_cannot_be_written_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    said = failure(["build", "--preset", "tiny", "--to", "file/below"], folder, capsys)
    assert "can't write to file/below" in said and "choose another --to" in said


def test_the_layout_is_shown_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    layout = make_layout(TINY)
    content = json_on_standard_output(["layout", "--preset", "tiny"], 0, capsys)
    assert content["layout"] == layout.hash.tobytes().hex()
    assert content["image_words"] == layout.image_words
    assert [bank["name"] for bank in content["banks"]] == [bank.name for bank in layout.banks]
    assert len(content["placements"]) == len(layout.placements)
    assert main(["layout", "--preset", "tiny"]) == 0
    out = capsys.readouterr().out
    assert all(bank.name in out for bank in layout.banks) and "gradients" not in out
    assert main(["layout", "--preset", "tiny", "--immediate", "False"]) == 0
    assert "parameters on chip (gradients the same again)" in capsys.readouterr().out


def test_the_kernels_sources_have_no_lint(capsys: pytest.CaptureFixture[str]) -> None:
    assert json_on_standard_output(["lint"], 0, capsys) == []


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json_on_standard_output(["faults", "--list"], 0, capsys)
    assert [entry["fault"] for entry in listed] == [*FAULTS]
    assert main(["faults", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in FAULTS)


@pytest.mark.slow
def test_the_command_faults_finds_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    found = json_on_standard_output(["faults", "--preset", "tiny"], 0, capsys)
    assert [entry["fault"] for entry in found["findings"]] == [*FAULTS]
    assert all(entry["right"] for entry in found["findings"])


@pytest.mark.parametrize("command", ["build", "layout", "lint", "faults"])
def test_every_command_refuses_an_unknown_preset_in_a_line(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--to", "built"] if command == "build" else []
    assert "unknown preset 'enc3'" in failure([command, "--preset", "enc3", *options], folder, capsys)


def test_the_installed_program_gives_its_status_and_no_traceback(folder: Path) -> None:
    program = Path(sys.executable).with_name("fpga-bridge")
    if not program.exists():
        pytest.skip("the project is not installed beside this Python")
    before = snapshot(folder)
    done = subprocess.run(
        [program, *COSIM, "--json", "-"],
        env={**os.environ, "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[-1].startswith("error: no C++ compiler") and "Traceback" not in done.stderr
    assert snapshot(folder) == before
