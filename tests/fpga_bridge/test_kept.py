"""The file of a failing step's arrays: what is written, and the step that it gives back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.kept import INPUT, StepInput, keep_arrays, read_input
from fpga_bridge.cli import main
from tests.fpga_bridge.samples import RATE, TINY, one_of, random_params, sentences
from ttjax import ModelConfig, UserError, flatten, preset

STEP = StepInput(random_params(TINY), one_of(sentences(TINY, 1)), RATE)


def test_only_the_arrays_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By NumPy 2.0 too, which takes every keyword for an array's name."""
    savez = np.savez_compressed

    def of_numpy_2_0(file: Any, **arrays: Any) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(array))

    for save in (savez, of_numpy_2_0):
        monkeypatch.setattr(np, "savez_compressed", save)
        keep_arrays({"device": {"loss": np.ones(2, np.float32)}, "jax": {}}, tmp_path / "kept.npz")
        with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
            assert [*arrays] == ["device/loss"]


def test_each_side_s_arrays_are_kept_as_they_are(tmp_path: Path) -> None:
    """The truth's in float64."""
    number = 1 / 3
    sides = {"device": np.float32(number), "jax": np.float32(2 * number), "truth": np.float64(number)}
    keep_arrays({side: {"loss": np.asarray(a)} for side, a in sides.items()}, tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
        kept = {name: (array.dtype, array.item()) for name, array in arrays.items()}
    assert kept == {f"{side}/loss": (a.dtype, a.item()) for side, a in sides.items()}


def test_a_step_is_read_as_it_was_kept(tmp_path: Path) -> None:
    keep_arrays({"device": {}, INPUT: STEP.arrays()}, tmp_path / "kept.npz")
    # Of another corpus's labels: the file's are those that count.
    config, step = read_input(tmp_path / "kept.npz", TINY.replace(n_intents=7, n_slots=5))
    assert config == TINY
    assert step.rate == np.float32(RATE)
    kept, given = flatten(step.params), flatten(STEP.params)
    assert kept.keys() == given.keys()
    assert all(np.array_equal(kept[name], given[name]) for name in given)
    for a, b in zip(step.sentence, STEP.sentence, strict=True):
        assert np.array_equal(a, b)


def without(name: str) -> dict[str, np.ndarray]:
    return {key: array for key, array in STEP.arrays().items() if key != name}


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        without("rate"),
        without("length"),
        without("slot_out.bias"),
        {**STEP.arrays(), "intent_out": np.ones(2)},
    ],
    ids=["nothing", "no rate", "no length", "no classifier", "no tree"],
)
def test_a_file_without_a_step_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    keep_arrays({"device": {"loss": np.ones(1)}, INPUT: arrays}, tmp_path / "kept.npz")
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step that `fpga-bridge cosim`"):
        read_input(tmp_path / "kept.npz", TINY)


@pytest.mark.parametrize("content", [b"", b"a text", b"PK\x03\x04", np.lib.format.magic(1, 0)])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    keep_arrays({INPUT: STEP.arrays()}, tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "kept.npz").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


def test_a_bit_that_flipped_in_the_file_is_noticed(tmp_path: Path) -> None:
    keep_arrays({INPUT: STEP.arrays()}, tmp_path / "kept.npz")
    content = bytearray((tmp_path / "kept.npz").read_bytes())
    content[len(content) // 3] ^= 16
    (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.npz: can't read it \(No such file"):
        read_input(tmp_path / "none.npz", TINY)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (TINY.with_rank(7), "core.* expected shape"),
        (preset("enc2"), "is missing"),
        (TINY.replace(format="dense"), "is missing"),
        (TINY.replace(seq_len=TINY.seq_len + 1), "embed.position expected shape"),
    ],
    ids=["rank", "preset", "dense", "length"],
)
def test_another_models_step_is_refused(other: ModelConfig, message: str, tmp_path: Path) -> None:
    keep_arrays({INPUT: STEP.arrays()}, tmp_path / "kept.npz")
    with pytest.raises(UserError, match=f"kept.npz: .*{message}.*: give the options of the model"):
        read_input(tmp_path / "kept.npz", other)


def test_a_sentence_of_another_length_than_the_models_is_refused(tmp_path: Path) -> None:
    arrays = STEP.arrays()
    keep_arrays({INPUT: {**arrays, "tokens": arrays["tokens"][1:]}}, tmp_path / "kept.npz")
    with pytest.raises(
        UserError,
        match=rf"expected a sentence padded to {TINY.seq_len} tokens, found \({TINY.seq_len - 1},\)",
    ):
        read_input(tmp_path / "kept.npz", TINY)


def test_cosim_runs_the_step_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    faulty = ["cosim", "--preset", "tiny", "--fault", "wrong_label", "--json", "-"]
    reports: list[dict[str, Any]] = []
    for arguments in (["--steps", "2", "--data", "travel"], ["--replay", "cosim-divergence.npz"]):
        assert main([*faulty, *arguments]) == 1
        reports.append(json.loads(capsys.readouterr().out))
    whole, again = reports
    assert again["first_divergence"] == whole["first_divergence"]
    assert (again["steps"], again["replay"]) == (1, "cosim-divergence.npz")
    assert again["rate"] == np.float32(whole["rate"]) and "data" not in again
    sound = ["cosim", "--preset", "tiny", "--replay", "cosim-divergence.npz"]
    assert main(sound) == 0
    said = capsys.readouterr().out
    assert "step: the one kept in cosim-divergence.npz, rate 0.001" in said and "AGREE" in said
