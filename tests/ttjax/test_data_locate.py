"""Which corpus a command gets, the line that says so, and the commands `ttjax data show` and `fetch`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from ttjax.data import fetch, locate
from ttjax.data.cli import DataFetch, DataShow
from ttjax.data.corpus import Corpus, Sentence, corpus_files, write_corpus
from ttjax.data.locate import atis_cache, load_corpus
from ttjax.errors import UserError
from ttjax.output import Output, json_number, write_json
from ttjax.picture import check_results_folder

SPLIT = (Sentence(("fly", "to", "rome"), ("O", "O", "B-to"), "flight"),)
STAND_IN = Corpus("atis", synthetic=False, train=SPLIT, dev=SPLIT, test=SPLIT)
OTHER = Corpus("other", synthetic=False, train=SPLIT * 2, dev=SPLIT, test=SPLIT)


class World:
    """A user's environment with a cache of its own, in which STAND_IN passes for ATIS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache" / "ttjax" / "atis"
        self.network = False
        self.fetches = 0
        self.lines: list[str] = []

    def fetch(self, folder: Path) -> None:
        self.fetches += 1
        if not self.network:
            raise UserError("no network")
        write_corpus(STAND_IN, folder)

    def load(self, data: str | None, *, fetch: bool = True) -> Corpus:
        return load_corpus(data, fetch=fetch, notify=self.lines.append)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TTJAX_DATA", raising=False)
    for name, known in fetch.sums(corpus_files(STAND_IN)).items():
        monkeypatch.setitem(fetch.ATIS_SUMS, name, known)
    monkeypatch.setattr(locate, "fetch_atis", world.fetch)
    return world


@pytest.mark.parametrize("data", [None, "atis"])
def test_cached_atis(world: World, data: str | None):
    write_corpus(STAND_IN, world.cache)
    assert world.load(data) == STAND_IN
    assert world.lines == [f"data: ATIS ({world.cache}), 1 train / 1 dev / 1 test sentences"]
    assert world.fetches == 0


@pytest.mark.parametrize("data", [None, "atis"])
def test_atis_is_fetched_into_the_cache(world: World, data: str | None):
    world.network = True
    assert world.load(data) == STAND_IN
    assert world.load(data) == STAND_IN
    assert world.fetches == 1
    assert world.lines[0] == f"data: ATIS ({world.cache}), 1 train / 1 dev / 1 test sentences"


@pytest.mark.parametrize("data", [None, "atis"])
def test_atis_that_another_process_puts_into_the_cache_meanwhile_is_read(
    world: World, data: str | None, monkeypatch: pytest.MonkeyPatch
):
    """It comes after the look at the folder, before the renaming, which then fails."""
    world.network, rename = True, os.rename

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        write_corpus(STAND_IN, world.cache)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert world.load(data) == STAND_IN
    assert world.lines == [f"data: ATIS ({world.cache}), 1 train / 1 dev / 1 test sentences"]


def test_without_network_travel_and_the_line_says_why(world: World):
    assert world.load(None).synthetic
    assert world.lines == [
        "data: travel, SYNTHETIC (generated; ATIS was not found and could not be fetched: no network),"
        " 2000 train / 250 dev / 400 test sentences"
    ]


def test_atis_asked_for_is_never_replaced_by_travel(world: World):
    with pytest.raises(
        UserError, match=r"--data atis: .*could not be fetched: no network: .*ttjax data fetch"
    ):
        world.load("atis")
    assert world.lines == []


def test_fetching_can_be_kept_off(world: World):
    world.network = True
    assert world.load(None, fetch=False).synthetic
    with pytest.raises(UserError, match="ATIS was not found, and fetching it was not asked for"):
        world.load("atis", fetch=False)
    assert world.fetches == 0


def test_travel_asked_for(world: World):
    write_corpus(STAND_IN, world.cache)
    assert world.load("travel").synthetic
    assert world.lines == ["data: travel, SYNTHETIC (generated), 2000 train / 250 dev / 400 test sentences"]


@pytest.mark.parametrize("data", [None, "atis"])
@pytest.mark.parametrize("damage", ["edit", "remove"])
def test_damaged_cache(world: World, data: str | None, damage: str):
    world.network = True
    write_corpus(STAND_IN, world.cache)
    if damage == "edit":
        (world.cache / "dev" / "seq.in").write_text("fly to oslo\n")
    else:
        (world.cache / "dev" / "seq.in").unlink()
    with pytest.raises(
        UserError, match=r"the cached ATIS is damaged: .*dev/seq.in.*: run `ttjax data fetch`"
    ):
        world.load(data)
    assert world.fetches == 0


def test_a_path(world: World):
    write_corpus(OTHER, world.folder / "mine")
    corpus = world.load(str(world.folder / "mine"))
    assert (corpus.name, corpus.train) == ("mine", OTHER.train)
    assert world.lines == [f"data: mine ({world.folder / 'mine'}), 2 train / 1 dev / 1 test sentences"]


def test_atis_is_known_by_its_content(world: World):
    write_corpus(STAND_IN, world.folder / "mine")
    assert world.load(str(world.folder / "mine")).name == "atis"


@pytest.mark.parametrize("name", ["atis", "ATIS"])
def test_other_files_in_a_folder_of_its_name_are_not_called_atis(world: World, name: str):
    folder = world.folder / name
    write_corpus(OTHER, folder)
    assert world.load(str(folder)).identity["name"] == f"{name}, changed"
    assert world.lines == [f"data: {name}, changed ({folder}), 2 train / 1 dev / 1 test sentences"]


def test_a_path_that_is_not_there_falls_back_to_nothing(world: World):
    with pytest.raises(UserError, match="missing: expected a folder"):
        world.load(str(world.folder / "missing"))


def test_variable_comes_before_the_cache(world: World, monkeypatch: pytest.MonkeyPatch):
    write_corpus(STAND_IN, world.cache)
    write_corpus(OTHER, world.folder / "mine")
    monkeypatch.setenv("TTJAX_DATA", str(world.folder / "mine"))
    assert world.load(None).name == "mine"
    with pytest.raises(UserError, match=r"\$TTJAX_DATA: .*mine: train/seq.in is not ATIS's"):
        world.load("atis")
    monkeypatch.setenv("TTJAX_DATA", str(world.folder / "missing"))
    with pytest.raises(UserError, match=r"\$TTJAX_DATA: .*missing: expected a folder"):
        world.load(None)


def test_option_comes_before_the_variable(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TTJAX_DATA", str(world.folder / "missing"))
    assert world.load("travel").synthetic


def test_variable_with_atis(world: World, monkeypatch: pytest.MonkeyPatch):
    write_corpus(STAND_IN, world.folder / "mine")
    monkeypatch.setenv("TTJAX_DATA", str(world.folder / "mine"))
    assert world.load("atis") == STAND_IN


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert atis_cache() == tmp_path / ".cache" / "ttjax" / "atis"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert atis_cache() == tmp_path / ".cache" / "ttjax" / "atis"


def test_show_writes_only_json_to_standard_output(world: World, capsys: pytest.CaptureFixture[str]):
    assert DataShow(data="travel", json="-").run() == 0
    out, err = capsys.readouterr()
    numbers = json.loads(out)
    assert (numbers["synthetic"], numbers["splits"]["train"]["sentences"]) == (True, 2000)
    assert err.startswith("data: travel, SYNTHETIC (generated), 2000 train")


def test_show_names_the_corpus_first(world: World, capsys: pytest.CaptureFixture[str]):
    write_corpus(STAND_IN, world.cache)
    path = world.folder / "stats.json"
    assert DataShow(json=str(path)).run() == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"data: ATIS ({world.cache}), 1 train / 1 dev / 1 test sentences"
    assert err == ""
    assert json.loads(path.read_text())["vocabulary"] == 6


def test_show_keeps_a_name_that_looks_like_markup(world: World, capsys: pytest.CaptureFixture[str]):
    write_corpus(OTHER, world.folder / "[bold]x")
    assert DataShow(data=str(world.folder / "[bold]x"), preset="tiny").run() == 0
    heading = capsys.readouterr().out.splitlines()[2]
    assert [part.strip() for part in heading.split("┃")[1:-1]] == ["corpus", "[bold]x"]


def test_fetch_command(world: World, capsys: pytest.CaptureFixture[str]):
    write_corpus(STAND_IN, world.folder / "copy")
    command = DataFetch(source_kind="folder", source=str(world.folder / "copy"), json="-")
    assert command.run() == 0
    out, err = capsys.readouterr()
    outcome = json.loads(out)
    assert outcome["folder"] == str(world.cache)
    assert outcome["sha256"] == fetch.sums(corpus_files(STAND_IN))
    assert err == f"ATIS is in {world.cache}: 9 files, all sums as expected\n"
    assert world.load("atis") == STAND_IN


def test_fetch_command_to_a_folder(world: World, monkeypatch: pytest.MonkeyPatch):
    write_corpus(STAND_IN, world.folder / "copy")
    monkeypatch.chdir(world.folder)
    assert DataFetch(source_kind="folder", source="copy", to=Path("here")).run() == 0
    assert world.load(str(world.folder / "here")) == STAND_IN


def test_json_path_is_checked_before_the_work(world: World):
    path = str(world.folder / "missing" / "x.json")
    command = DataFetch(source_kind="folder", source=str(world.folder / "copy"), json=path)
    with pytest.raises(UserError, match=r"x.json: expected an existing folder .*missing, found none"):
        command.run()


def test_numbers_that_json_lacks_are_given_by_name():
    given = [np.float32(0.5), -2.0, np.float64("nan"), float("inf"), np.float32("-inf")]
    text = json.dumps([json_number(number) for number in given], allow_nan=False)
    assert json.loads(text) == [0.5, -2.0, "nan", "inf", "-inf"]


def test_json_is_whole_or_absent(tmp_path: Path):
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": [1, 2.5]}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
    with pytest.raises(UserError, match="expected a regular file"):
        Output(json=str(tmp_path))
    with pytest.raises(UserError, match="expected a regular file"):
        write_json("/dev/null", {})


def test_a_folder_that_takes_no_files_is_refused_before_the_work(tmp_path: Path):
    """/proc takes none from anyone; elsewhere root may write where permissions forbid it."""
    for refused in (lambda: Output(json="/proc/x.json"), lambda: check_results_folder(Path("/proc"))):
        with pytest.raises(UserError, match=r"expected a folder to write to, can't in /proc \("):
            refused()
    there = tmp_path / "x.json"
    there.write_text("before")
    Output(json=str(there))
    check_results_folder(tmp_path)
    assert there.read_text() == "before" and list(tmp_path.iterdir()) == [there]


def test_output_says_lines_as_they_are(capsys: pytest.CaptureFixture[str]):
    Output(json=None).say("[bold]" + "x" * 300)
    assert capsys.readouterr().out == "[bold]" + "x" * 300 + "\n"
