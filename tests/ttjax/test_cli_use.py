"""A trained model put to use: `ttjax evaluate` and `ttjax predict` on the checkpoint of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ttjax.checkpoint import load_params
from ttjax.cli import main
from ttjax.cli_use import said_of
from ttjax.data import Corpus, Sentence, write_corpus
from ttjax.evaluate import evaluate

TRAIN = tuple(
    Sentence(("fly", "to", city), ("O", "O", "B-city"), "go")
    if i % 2
    else Sentence((city, "is", "far"), ("B-city", "O", "O"), "tell")
    for i, city in enumerate(("rome", "oslo", "lima", "Riga") * 12)
)
DEV, TEST = TRAIN[:3], TRAIN[3:8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in ``corpus`` and a model of it in ``model.st``."""
    made = tmp_path_factory.mktemp("use")
    write_corpus(Corpus("small", False, TRAIN, DEV, TEST), made / "corpus")
    # Dense, which compiles in half the time.
    options = ["--preset", "tiny", "--blocks", "1", "--format", "dense", "--epochs", "30", "--average", "0"]
    plain = ["--exchange", "0", "--recombine", "0", "--reopen", "0", "--word-dropout", "0"]
    files = ["--data", str(made / "corpus"), "--checkpoint", str(made / "model.st")]
    assert main(["train", *options, *plain, *files]) == 0
    return made


def written(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    """The command's JSON, which must be all there is on standard output."""
    capsys.readouterr()
    assert main([*arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("split", "sentences"), [("train", TRAIN), ("dev", DEV), ("test", TEST)])
def test_evaluate_scores_the_split_of_the_data_trained_on(
    folder: Path, split: str, sentences: tuple[Sentence, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    found = written(["evaluate", str(folder / "model.st"), "--split", split], capsys)
    trained = load_params(folder / "model.st")
    assert found["scores"] == evaluate(trained.params, sentences, trained.vocabulary, trained.config)
    assert found["split"] == split and found["data"]["synthetic"] is False


def test_the_table_has_each_score_under_its_heading(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("intent_accuracy", "slot_f1", "slot_precision", "slot_recall", "token_accuracy")
    scores = dict(zip((*names, "sentence_accuracy"), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), strict=True))
    monkeypatch.setattr("ttjax.cli_use.evaluate", lambda *_, **__: scores | {"sentences": 5})
    assert main(["evaluate", str(folder / "model.st")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["intent", "slot", "F1", "precision", "recall", "token", "sentence"] in lines
    assert ["10.00", "20.00", "30.00", "40.00", "50.00", "60.00"] in lines


def test_other_data_than_trained_on_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = str(folder / "model.st"), ["--data", "travel", "--split", "dev"]
    assert main(["evaluate", own]) == 0
    assert "another corpus" not in capsys.readouterr().out
    assert main(["evaluate", own, *other]) == 0
    assert "data: the model was trained on another corpus than this, corpus" in capsys.readouterr().out


def test_predict_says_what_training_taught(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = written(["predict", str(folder / "model.st"), "fly to lima", "oslo is far"], capsys)
    assert [each["intent"] for each in found] == ["go", "tell"]
    assert [each["slots"] for each in found] == [["O", "O", "B-city"], ["B-city", "O", "O"]]
    assert [each["unknown"] for each in found] == [[], []]


def test_slots_that_look_like_markup_are_shown_as_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"words": ["at", "noon"], "intent": "go", "unknown": [], "unread": 0}
    said = found | {"slots": ["B-time[start]", "B-time[/start]"]}
    monkeypatch.setattr("ttjax.cli_use.said_of", lambda *_: [said])
    capsys.readouterr()
    assert main(["predict", str(folder / "model.st"), "at noon"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["at", "B-time[start]"] in lines and ["noon", "B-time[/start]"] in lines


def test_letters_that_training_lacks_are_read_as_small_ones(folder: Path) -> None:
    trained = load_params(folder / "model.st")
    capital, own = said_of(trained, [["FLY", "to", "Rome"], ["fly", "to", "Riga"]])
    assert capital["words"] == ["fly", "to", "rome"] and capital["unknown"] == []
    assert own["words"] == ["fly", "to", "Riga"] and own["unknown"] == []


def test_what_the_model_cannot_read_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tiny model takes 9 words after [CLS]."""
    long = " ".join(["[bold]moon", "to"] * 6)
    assert main(["predict", str(folder / "model.st"), long]) == 0
    said = capsys.readouterr().out
    assert "[bold]moon" in said
    assert "not read: the last 3 words, the model takes 9" in said
    [found] = written(["predict", str(folder / "model.st"), long], capsys)
    assert found["unread"] == 3 and found["slots"][9:] == ["O"] * 3
    assert set(found["unknown"]) == {"[bold]moon"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "{model}"], "sentences: expected one or more"),
        (["predict", "{model}", "fly", " "], "sentences: expected one or more, each with a word"),
        (["predict", "nowhere.st", "fly"], "nowhere.st: expected a checkpoint"),
        (["evaluate", "nowhere.st"], "nowhere.st: expected a checkpoint"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(model=folder / "model.st") for argument in arguments]
    capsys.readouterr()
    assert main(filled) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"error: {said}") and captured.err.count("\n") == 1


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "fly to rome"]], ids=lambda words: words[0])
def test_the_figures_do_not_take_the_model_s_place(
    command: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, link = tmp_path / "model.st", tmp_path / "link.st"
    model.write_bytes((folder / "model.st").read_bytes())
    link.symlink_to(model)
    for named in (model, link):
        capsys.readouterr()
        assert main([command[0], str(model), *command[1:], "--json", str(named)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert (
            captured.err == f"error: --json: expected another file than the model, found {named} for both\n"
        )
    assert model.read_bytes() == (folder / "model.st").read_bytes() and link.is_symlink()
