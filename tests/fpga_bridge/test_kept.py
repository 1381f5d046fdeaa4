"""The file of a failing step's arrays: what is written, and the step that it gives back."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpga_bridge.agreement.kept import INPUT, StepInput, keep_arrays, read_input
from fpga_bridge.cli import main
from fpga_bridge.device import Trace
from tests.fpga_bridge.samples import RATE, TINY, one_of, random_params, sentences
from ttjax import UserError, flatten

STEP = StepInput(random_params(TINY), one_of(sentences(TINY, 1)), RATE)
DATA = {"name": "small", "synthetic": False, "digest": "0123"}


def keep_step(path: Path, arrays: Trace | None = None) -> None:
    """Keeps a step of TINY on a small corpus, by default STEP."""
    keep_arrays({INPUT: STEP.arrays() if arrays is None else arrays}, TINY, DATA, path)


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
        sides = {"device": {"loss": np.ones(2, np.float32)}, "jax": {}}
        keep_arrays(sides, TINY, DATA, tmp_path / "kept.npz")
        with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
            assert {*arrays} == {"device/loss", "input/config", "input/data"}


def test_each_side_s_arrays_are_kept_as_they_are(tmp_path: Path) -> None:
    """The truth's in float64."""
    number = 1 / 3
    sides = {"device": np.float32(number), "jax": np.float32(2 * number), "truth": np.float64(number)}
    losses = {side: {"loss": np.asarray(a)} for side, a in sides.items()}
    keep_arrays(losses, TINY, DATA, tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
        kept = {side: arrays[f"{side}/loss"] for side in sides}
    assert {s: (a.dtype, a.item()) for s, a in kept.items()} == {s: (a.dtype, a) for s, a in sides.items()}


def test_a_step_is_read_as_it_was_kept(tmp_path: Path) -> None:
    keep_step(tmp_path / "kept.npz")
    # Of another corpus's labels: the file's are those that count.
    config, data, step = read_input(tmp_path / "kept.npz", TINY.replace(n_intents=7, n_slots=5))
    assert config == TINY and data == DATA
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
        {**STEP.arrays(), "tokens": STEP.arrays()["tokens"][1:]},
    ],
    ids=["nothing", "no rate", "no length", "no classifier", "no tree", "another sentence's length"],
)
def test_a_file_without_a_step_is_refused(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    keep_step(tmp_path / "kept.npz", arrays)
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step that `fpga-bridge cosim`"):
        read_input(tmp_path / "kept.npz", TINY)


@pytest.mark.parametrize("content", [b"", b"a text", b"PK\x03\x04", np.lib.format.magic(1, 0)])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_file_is_refused(keep: float, tmp_path: Path) -> None:
    keep_step(tmp_path / "whole.npz")
    content = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "kept.npz").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


def test_a_bit_that_flipped_in_the_file_is_noticed(tmp_path: Path) -> None:
    keep_step(tmp_path / "kept.npz")
    content = bytearray((tmp_path / "kept.npz").read_bytes())
    content[len(content) // 3] ^= 16
    (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"kept.npz: expected the arrays of a step"):
        read_input(tmp_path / "kept.npz", TINY)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.npz: can't read it \(No such file"):
        read_input(tmp_path / "none.npz", TINY)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tt_ranks": (1, 7, 7, 7, 7, 1)}, "tt_ranks (1, 5, 4, 3, 2, 1)"),
        ({"format": "dense"}, "format tt"),
        ({"seq_len": TINY.seq_len + 1}, f"seq_len {TINY.seq_len}"),
        ({"norm_eps": 1e-3}, "norm_eps 1e-05"),
        ({"recompute": (0,)}, "recompute ()"),
        ({"rederive": True}, "rederive False"),
        ({"immediate": False}, "immediate True"),
        ({"frozen": ("embed", "block0.q")}, "frozen ()"),
    ],
)
def test_a_step_under_other_options_is_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Those too that leave every array its shape: it would be another step."""
    keep_step(tmp_path / "kept.npz")
    [value] = changed.values()
    expected = f"kept.npz: expected {message} as in the run that kept the step, found {value}: give"
    with pytest.raises(UserError, match=re.escape(expected)):
        read_input(tmp_path / "kept.npz", TINY.replace(**changed))


@pytest.mark.parametrize("missing", ["config", "data", "a field"])
def test_a_step_that_another_version_kept_is_refused(missing: str, tmp_path: Path) -> None:
    config = json.dumps({"format": "tt"} if missing == "a field" else asdict(TINY))
    texts = {"config": np.asarray(config), "data": np.asarray(json.dumps(DATA))}
    given = STEP.arrays() | {name: text for name, text in texts.items() if name != missing}
    np.savez(tmp_path / "kept.npz", **{f"{INPUT}/{name}": array for name, array in given.items()})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"kept.npz: expected .* found a step that another version has kept"):
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
    assert again["rate"] == np.float32(whole["rate"]) and again["data"] == whole["data"]
    sound = ["cosim", "--preset", "tiny", "--replay", "cosim-divergence.npz"]
    assert main(sound) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "step: the one kept in cosim-divergence.npz, rate 0.001, on travel (synthetic) (SYNTHETIC data)\n"
    )
    assert said.endswith("\nAGREE\n")
    assert main([*sound, "--frozen", "embed", "block0.q"]) == 2
    assert "expected frozen () as in the run that kept the step, found" in capsys.readouterr().err
