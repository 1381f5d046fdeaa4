"""Annotated sentences, and the folder of nine files that holds them: reading, writing, digest.

Layout of a folder: {train,dev,test}/{seq.in,seq.out,label}, line n of the three files is sentence n.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ttjax.errors import UserError
from ttjax.output import resolved

SPLITS = ("train", "dev", "test")
FILES = ("seq.in", "seq.out", "label")  # words, slot labels, intent
CORPUS_FILES = tuple(f"{split}/{file}" for split in SPLITS for file in FILES)
_IOB = re.compile(r"O|[BI]-.+")


@dataclass(frozen=True)
class Sentence:
    """Words, one slot label for each, and one intent for the whole.

    Raises:
        ValueError: no words, another number of slots than of words, or text that a line of a file
            can't hold (white space in a word or a slot, a line end or outer white space in the intent).
    """

    words: tuple[str, ...]
    slots: tuple[str, ...]
    intent: str

    def __post_init__(self) -> None:
        if not self.words or len(self.words) != len(self.slots):
            raise ValueError(
                f"expected as many slots as words, found {len(self.slots)} and {len(self.words)}"
            )
        for texts in (self.words, self.slots):
            if tuple(" ".join(texts).split()) != texts:
                raise ValueError(f"expected texts without white space, found {texts}")
        if not self.intent or self.intent != self.intent.strip() or "\n" in self.intent:
            raise ValueError(f"expected one line without outer white space, found {self.intent!r}")


Split = tuple[Sentence, ...]


@dataclass(frozen=True)
class Corpus:
    """Three splits under one name. ``synthetic`` is true when a generator made the sentences."""

    name: str
    synthetic: bool
    train: Split
    dev: Split
    test: Split

    def split(self, name: str) -> Split:
        """The split called ``name``.

        Raises:
            UserError: it is not one of train, dev and test.
        """
        if name not in SPLITS:
            raise UserError(f"unknown split {name!r}: expected one of {', '.join(SPLITS)}")
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]

    @property
    def identity(self) -> dict[str, str | bool]:
        """What a result says of the data that it is of, as JSON values."""
        return {"name": self.name, "synthetic": self.synthetic, "digest": self.digest}

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 over the content of all splits; the name has no part in it."""
        total = hashlib.sha256()
        for name, content in corpus_files(self).items():
            # The length keeps two different cuts of the same bytes apart.
            total.update(f"{name} {len(content)}\n".encode())
            total.update(content)
        return total.hexdigest()


def title_of(identity: Mapping[str, object]) -> str:
    """What the outputs of a run call the corpus of that ``Corpus.identity``."""
    return f"{identity['name']}{' (SYNTHETIC data)' if identity['synthetic'] else ''}"


def corpus_files(corpus: Corpus) -> dict[str, bytes]:
    """Content of the nine files by relative name: lines of words joined by one space, UTF-8."""
    files = {}
    for split in SPLITS:
        sentences = corpus.split(split)
        files[f"{split}/seq.in"] = _lines(" ".join(s.words) for s in sentences)
        files[f"{split}/seq.out"] = _lines(" ".join(s.slots) for s in sentences)
        files[f"{split}/label"] = _lines(s.intent for s in sentences)
    return files


def read_corpus(folder: Path, name: str) -> Corpus:
    """Read and check a folder of nine files.

    Raises:
        UserError: the folder or a file is missing or unreadable, is not UTF-8, the three files of
            a split differ in their number of lines, a line's words and slots differ in number, a
            sentence has no words, a slot label isn't O, B-x or I-x, an intent is empty, or a split has no
            sentences.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder with {{train,dev,test}}/{{seq.in,seq.out,label}}, found"
            f" {'a file' if folder.exists() else 'nothing'}: check the path, or run `ttjax data fetch`"
        )
    train, dev, test = (_read_split(folder / split) for split in SPLITS)
    return Corpus(name, synthetic=False, train=train, dev=dev, test=test)


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write the nine files that ``read_corpus`` reads; see ``write_files``."""
    write_files(corpus_files(corpus), folder)


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Put the nine files into ``folder``, all of them or none; an earlier corpus there is replaced.

    Raises:
        UserError: the folder holds something else than a corpus, or can't be written.
    """
    folder = resolved(folder)  # a link stays, and what it leads to is replaced
    _refuse_foreign(folder)
    token = secrets.token_hex(4)
    fresh = folder.with_name(f".{folder.name}.new.{token}")
    old = folder.with_name(f".{folder.name}.old.{token}")
    try:
        for name, content in files.items():
            target = fresh / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        # A folder that isn't empty can't be renamed over: step the old one aside, and back on failure.
        if folder.exists():
            os.rename(folder, old)
        try:
            os.rename(fresh, folder)
        except BaseException:  # an interruption too: the corpus is not to be left under another name
            if old.exists() and not folder.exists():
                os.rename(old, folder)
            raise
    except OSError as error:
        raise UserError(f"{folder}: can't write the corpus there: {error}: choose another folder") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    """Replacing a folder deletes what is in it, so it may hold nothing but the files of a corpus."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder or nothing, found a file: choose another folder")
    for path in folder.rglob("*"):  # stops at the first stranger, however much lies behind it
        name = path.relative_to(folder).as_posix()
        if name not in CORPUS_FILES and name not in SPLITS:
            raise UserError(
                f"{folder}: expected an empty folder or an earlier corpus to replace, found {name}:"
                " choose another folder"
            )


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: can't read it ({error.strerror}): a corpus has this file in each of train, dev and test"
        ) from error
    try:
        text = content.decode().removeprefix("\ufeff")  # the mark that some editors begin UTF-8 with
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: expected UTF-8, found byte 0x{content[error.start]:02x}: convert it to UTF-8"
        ) from error
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _read_split(folder: Path) -> Split:
    word_lines, slot_lines, labels = (_read_lines(folder / file) for file in FILES)
    if not word_lines:
        raise UserError(f"{folder / 'seq.in'}:1: expected sentences, found an empty file: add at least one")
    for file, lines in (("seq.out", slot_lines), ("label", labels)):
        if len(lines) != len(word_lines):
            first_odd = min(len(lines), len(word_lines)) + 1
            raise UserError(
                f"{folder / file}:{first_odd}: expected {len(word_lines)} lines as in seq.in, found"
                f" {len(lines)}: give each sentence one line in each file"
            )
    return tuple(
        _sentence(folder, number, *lines)
        for number, lines in enumerate(zip(word_lines, slot_lines, labels, strict=True), start=1)
    )


def _sentence(folder: Path, number: int, word_line: str, slot_line: str, label: str) -> Sentence:
    words, slots, intent = tuple(word_line.split()), tuple(slot_line.split()), label.strip()
    if not words:
        raise UserError(
            f"{folder / 'seq.in'}:{number}: expected a sentence, found zero words: remove line {number}"
            " from seq.in, seq.out and label"
        )
    if len(slots) != len(words):
        raise UserError(
            f"{folder / 'seq.out'}:{number}: expected {len(words)} slot labels, one for each word of"
            f" seq.in, found {len(slots)}: give each word one label"
        )
    for slot in slots:
        if not _IOB.fullmatch(slot):
            raise UserError(
                f"{folder / 'seq.out'}:{number}: expected slot labels O, B-x and I-x, found {slot!r}: convert"
                " them to IOB"
            )
    if not intent:
        raise UserError(
            f"{folder / 'label'}:{number}: expected an intent, found an empty line: give the sentence one"
        )
    return Sentence(words, slots, intent)
