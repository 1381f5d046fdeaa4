"""Checkpoints: everything comes back, any damage is found, and a failed writing leaves the earlier file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from ttjax.checkpoint import (
    Best,
    Checkpoint,
    TrainingData,
    check_same,
    load_params,
    read_checkpoint,
    save_checkpoint,
)
from ttjax.config import preset
from ttjax.data.vocabulary import Vocabulary
from ttjax.errors import UserError
from ttjax.optimizers import OPTIMIZERS
from ttjax.params import check_params, flatten, parameter_shapes, unflatten
from ttjax.recipe import Recipe
from ttjax.train import TrainState


def made(optimizer: str = "adam", **changes: Any) -> Checkpoint:
    """A checkpoint of a run that could have been: other parameters in the end than at its best."""
    config = preset("tiny").replace(n_blocks=1, frozen=("embed_norm",), **changes)
    recipe = Recipe(optimizer=optimizer, schedule="cosine", epochs=3, seed=5, warm_up=0.25)
    rng, shapes = np.random.default_rng(5), parameter_shapes(config)
    last, average, best = (
        unflatten({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
        for _ in range(3)
    )
    opt_state = jax.tree.map(lambda leaf: np.asarray(leaf) + 3, recipe.optax(config, 7).init(last))
    return Checkpoint(
        TrainState(last, average, opt_state, jax.random.key(5), epoch=2, step=14),
        Best(best, 1, {"intent_accuracy": 0.1 + 0.2, "sentences": 3}),
        preset="tiny",
        config=config,
        recipe=recipe,
        data=TrainingData(None, "small", "0f" * 32, 7),
        # Words that could be mistaken for the file's own syntax.
        vocabulary=Vocabulary(
            ("<pad>", '"sha256":"' + "0" * 64 + '"', "é", "\\"), ("<unk>", "fly"), ("<unk>", "O"), ()
        ),
        rows=[{"epoch": 1, "loss": 1 / 3}, {"epoch": 2, "loss": 1e-30}],
        versions={"jax": "0", "device": "none"},
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    path, checkpoint = tmp_path_factory.mktemp("saved") / "run.safetensors", made()
    save_checkpoint(path, checkpoint)
    return path, checkpoint


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(str(a.dtype), a.shape, a.tobytes()) for a in arrays]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_everything_comes_back(optimizer: str, tmp_path: Path) -> None:
    checkpoint, path = made(optimizer), tmp_path / "run.safetensors"
    save_checkpoint(path, checkpoint)
    back = read_checkpoint(path)
    for name in ("params", "average", "opt_state"):
        there, here = getattr(checkpoint.state, name), getattr(back.state, name)
        assert jax.tree.structure(here) == jax.tree.structure(there)
        assert bits(here) == bits(there)
    assert bits(back.best.params) == bits(checkpoint.best.params) != bits(back.state.params)
    assert back.best[1:] == checkpoint.best[1:]
    assert (back.state.epoch, back.state.step) == (2, 14)
    drawn = [jax.random.uniform(state.key) for state in (back.state, checkpoint.state)]
    assert drawn[0] == drawn[1]
    for field in dataclasses.fields(Checkpoint)[2:]:
        assert getattr(back, field.name) == getattr(checkpoint, field.name)
    assert list(tmp_path.iterdir()) == [path]


def test_a_trained_model_is_there_for_other_readers(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    last, best = load_params(path), load_params(path, best=True)
    check_params(last.params, last.config)
    assert bits(last.params) == bits(checkpoint.state.average) != bits(checkpoint.state.params)
    assert bits(best.params) == bits(checkpoint.best.params)
    assert (last.config, last.vocabulary) == (checkpoint.config, checkpoint.vocabulary)
    plain = safetensors.numpy.load_file(path)
    for name, leaf in flatten(checkpoint.state.params).items():
        np.testing.assert_array_equal(plain[name], leaf)


def refused(path: Path) -> str:
    """The error of reading ``path``, which leaves the file as it is."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    return str(error.value)


@settings(max_examples=150)
@given(st.data())
def test_a_changed_byte_anywhere_is_found(saved: tuple[Path, Checkpoint], data: st.DataObject) -> None:
    content = saved[0].read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, header - 1) | st.integers(header, len(content) - 1), "byte")
    flipped = data.draw(st.sampled_from([1 << bit for bit in range(8)]) | st.integers(1, 255), "bits")
    damaged = saved[0].with_name("damaged")
    damaged.write_bytes(content[:at] + bytes([content[at] ^ flipped]) + content[at + 1 :])
    message = refused(damaged)
    assert at < header or "the file is damaged" in message


@settings(max_examples=40)
@given(st.data())
def test_a_cut_or_grown_file_is_found(saved: tuple[Path, Checkpoint], data: st.DataObject) -> None:
    content = saved[0].read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    kept = data.draw(st.integers(0, 9) | st.integers(0, header) | st.integers(header, len(content) - 1))
    damaged = saved[0].with_name("cut")
    damaged.write_bytes(content[:kept])
    expected = f"expected {len(content)} bytes" if kept >= header else "expected a safetensors file"
    assert expected in refused(damaged)
    damaged.write_bytes(content + content[:kept] + b"\0")
    assert f"expected {len(content)} bytes" in refused(damaged)


@settings(max_examples=40)
@given(st.binary(max_size=60), st.integers(0, 80))
def test_anything_else_is_refused(saved: tuple[Path, Checkpoint], content: bytes, length: int) -> None:
    path = saved[0].with_name("anything")
    path.write_bytes(length.to_bytes(8, "little") + content)
    refused(path)


@pytest.mark.parametrize(
    "header",
    ["[]", "[" * 5000, '{"a":1}', '{"a":{"data_offsets":[0,"x"]}}', '{"__metadata__":{"ttjax":[]}}'],
)
def test_headers_that_are_none(header: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    refused(path)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    assert "can't read it (No such file" in refused(tmp_path / "none")
    assert "can't read it (Is a directory" in refused(tmp_path)
    foreign = tmp_path / "foreign"
    safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, foreign, {"format": "pt"})
    assert "found a safetensors file without its metadata" in refused(foreign)


def signed_again(path: Path, old: str, new: str) -> None:
    """Changes what a header says, to as many bytes, and makes the file's digest right for it."""
    content = path.read_bytes()
    assert len(old) == len(new) and content.count(old.encode()) == 1
    content = content.replace(old.encode(), new.encode())
    with safetensors.safe_open(path, "np") as file:
        digest = file.metadata()["sha256"]
    empty = content.replace(digest.encode(), b"0" * 64)
    path.write_bytes(content.replace(digest.encode(), hashlib.sha256(empty).hexdigest().encode()))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"format_version\\": 1', '"format_version\\": 7', "expected checkpoint format 1, found 7"),
        ('\\"warm_up\\"', '\\"warm_ab\\"', "recipe: expected fields of optimizer"),
        (
            '\\"seq_len\\": 10',
            '\\"seq_len\\": 11',
            "expected a tensor embed.position, float32 (11, 24), found",
        ),
        ('\\"norm_eps\\"', '\\"norm_abc\\"', "config: expected fields of format"),
        ('"optimizer/0.1.count"', '"optimizer/0.2.count"', "expected a tensor optimizer/0.1.count, int32"),
        ('"intent_pre.core0"', '"intent_pre.core9"', "expected a tensor intent_pre.core0, float32"),
    ],
)
def test_a_checkpoint_of_another_version(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    save_checkpoint(path, made("sgd"))
    signed_again(path, old, new)
    assert message in refused(path)


@pytest.mark.parametrize(
    ("left_out", "message"), [("recombine", ""), ("reopen", ""), ("exchange", "found no exchange")]
)
def test_a_field_that_was_not_written_is_not_todays_default(
    left_out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run from before sentences were recombined, or their openings exchanged, goes on so."""
    path, checkpoint, whole = tmp_path / "run", made("sgd"), dataclasses.asdict

    def older(record: Any) -> dict[str, Any]:
        return {name: value for name, value in whole(record).items() if name != left_out}

    with monkeypatch.context() as patch:
        patch.setattr(dataclasses, "asdict", older)
        save_checkpoint(path, checkpoint)
    if message:
        assert message in refused(path)
    else:
        assert getattr(checkpoint.recipe, left_out) > 0
        assert read_checkpoint(path).recipe == dataclasses.replace(checkpoint.recipe, **{left_out: 0.0})


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_writing_leaves_the_earlier_file(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, checkpoint = tmp_path / "run", made("sgd")
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(UserError, match="can't write the checkpoint \\(No space left on device\\)"):
        save_checkpoint(path, dataclasses.replace(checkpoint, preset="other"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_first_field_that_differs_is_named() -> None:
    recipe = Recipe()
    check_same("f", "recipe", recipe, Recipe())
    with pytest.raises(UserError, match=r"f: recipe: expected schedule linear as in the .*, found cosine: "):
        check_same("f", "recipe", recipe, Recipe(schedule="cosine", seed=3))
    data = TrainingData("there", "small", "aa", 7)
    check_same("f", "data", data, dataclasses.replace(data, given="here", name="moved"))
    # Nor may the option that names it have been given: the data may have changed where it was.
    with pytest.raises(UserError, match=r"found 1f\S+: point --data or \$TTJAX_DATA at the data it was"):
        check_same("f", "data", data, dataclasses.replace(data, digest="1f" * 32))
    with pytest.raises(UserError, match=r"f: data: expected train_sentences 7 as in the .*, found 8"):
        check_same("f", "data", data, dataclasses.replace(data, train_sentences=8))


@pytest.mark.parametrize("name", ["config", "recipe", "data"])
def test_every_field_must_be_the_same_but_where_the_data_was(name: str) -> None:
    record = getattr(made(), name)
    for field in dataclasses.fields(record):
        other = SimpleNamespace(**{**vars(record), field.name: "another"})
        if name == "data" and field.name in ("given", "name"):
            check_same("f", name, record, other)
        else:
            with pytest.raises(UserError, match=f"f: {name}: expected {field.name} .*, found another"):
                check_same("f", name, record, other)


def test_the_file_is_the_same_for_the_same_run(saved: tuple[Path, Checkpoint]) -> None:
    """Up to the order of the two metadata keys, which is safetensors' own."""
    again = saved[0].with_name("again")
    save_checkpoint(again, saved[1])
    headers = []
    for path in (saved[0], again):
        content = path.read_bytes()
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:size])
        header["__metadata__"].pop("sha256")
        headers.append((header, content[size:]))
    assert headers[0] == headers[1]


@pytest.mark.slow
def test_a_writer_killed_while_it_writes_leaves_a_whole_file(
    saved: tuple[Path, Checkpoint], tmp_path: Path
) -> None:
    program = (
        "import dataclasses, sys; from ttjax.checkpoint import read_checkpoint, save_checkpoint\n"
        "path = sys.argv[1]; it = read_checkpoint(path)\n"
        "it = dataclasses.replace(it, versions={'padding': 'x' * 8_000_000})\n"
        "while True: save_checkpoint(path, it)"
    )
    path, rng = tmp_path / "run", random.Random(0)
    path.write_bytes(saved[0].read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for _ in range(6):
        before = set(os.listdir(tmp_path))
        process = subprocess.Popen([sys.executable, "-c", program, str(path)], env=environment)
        while set(os.listdir(tmp_path)) == before:  # until it has a temporary file
            assert process.poll() is None
        time.sleep(rng.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert read_checkpoint(path).versions in (saved[1].versions, {"padding": "x" * 8_000_000})
    assert len(os.listdir(tmp_path)) > 1, "no kill met a writing: the test shows nothing"
