"""Reading and writing a corpus: what is written is read again, and every wrong folder has its message."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttjax.data.corpus import (
    CORPUS_FILES,
    SPLITS,
    Corpus,
    Sentence,
    Split,
    corpus_files,
    read_corpus,
    write_corpus,
)
from ttjax.data.fetch import sums
from ttjax.errors import UserError

# Any text a line can hold: str.split() must leave it whole. U+FEFF at a file's beginning is no text.
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1, max_size=6
).filter(lambda text: text.split() == [text])
SLOTS = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BI"), WORDS)


PAIRS = st.lists(st.tuples(WORDS, SLOTS), min_size=1, max_size=5)
INTENT = st.lists(WORDS, min_size=1, max_size=2).map(" ".join)
SPLIT = st.lists(st.tuples(PAIRS, INTENT), min_size=1, max_size=4)


def split_of(drawn: list[tuple[list[tuple[str, str]], str]]) -> Split:
    # In the test's body: the run-time type checks draw random numbers, which a strategy may not.
    return tuple(
        Sentence(tuple(word for word, _ in pairs), tuple(slot for _, slot in pairs), intent)
        for pairs, intent in drawn
    )


def corpus_of(*words: str) -> Corpus:
    """Each split holds one sentence of these words."""
    split = (Sentence(words, ("O",) * len(words), "flight"),)
    return Corpus("small", synthetic=False, train=split, dev=split, test=split)


@given(train=SPLIT, dev=SPLIT, test=SPLIT)
def test_written_corpus_is_read_again(tmp_path_factory: pytest.TempPathFactory, train, dev, test):
    corpus = Corpus("any", False, split_of(train), split_of(dev), split_of(test))
    folder = tmp_path_factory.mktemp("corpus") / "any"
    write_corpus(corpus, folder)
    again = read_corpus(folder, "any")
    assert again == corpus
    assert again.digest == corpus.digest


def test_digest_depends_on_content_only():
    assert corpus_of("a", "b").digest != corpus_of("a", "c").digest
    one = corpus_of("a")
    other = Corpus("other name", synthetic=True, train=one.train, dev=one.dev, test=one.test)
    assert one.digest == other.digest


def test_digest_tells_splits_apart():
    (a,), (b,) = corpus_of("a").train, corpus_of("b").train
    first = Corpus("c", synthetic=False, train=(a, b), dev=(a,), test=(a,))
    second = Corpus("c", synthetic=False, train=(a,), dev=(b, a), test=(a,))
    assert first.digest != second.digest
    # Where every line of every file is the same, too.
    a = Sentence(("O",), ("O",), "O")
    first, second = (Corpus("c", False, (a,) * n, (a,) * (3 - n), (a,)) for n in (1, 2))
    assert first.digest != second.digest


def test_writing_replaces_the_corpus_that_is_there(tmp_path: Path):
    folder = tmp_path / "deep" / "corpus"
    write_corpus(corpus_of("old", "words"), folder)
    write_corpus(corpus_of("new"), folder)
    assert read_corpus(folder, "small") == corpus_of("new")
    assert [path.name for path in folder.parent.iterdir()] == ["corpus"]


def test_writing_through_a_link_replaces_what_it_leads_to(tmp_path: Path):
    write_corpus(corpus_of("old"), tmp_path / "disk" / "corpus")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "corpus")
    write_corpus(corpus_of("new"), tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(list(tmp_path.iterdir())) == 2
    assert read_corpus(tmp_path / "disk" / "corpus", "small") == corpus_of("new")


def test_writing_refuses_a_folder_with_other_things_in_it(tmp_path: Path):
    write_corpus(corpus_of("old"), tmp_path / "mine")
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(UserError, match=r"expected an empty folder or an earlier corpus .* found notes.txt"):
        write_corpus(corpus_of("new"), tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    assert (tmp_path / "mine" / "train" / "seq.in").read_text() == "old\n"


def test_writing_refuses_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("keep me")
    with pytest.raises(UserError, match="expected a folder or nothing, found a file"):
        write_corpus(corpus_of("new"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "keep me"


def test_a_failed_write_leaves_the_old_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "corpus"
    write_corpus(corpus_of("old"), folder)

    def full_disk(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(UserError, match=r"can't write the corpus there: .*No space left"):
        write_corpus(corpus_of("new"), folder)
    assert read_corpus(folder, "small") == corpus_of("old")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (OSError(5, "Input/output error"), pytest.raises(UserError, match="Input/output error")),
        (KeyboardInterrupt(), pytest.raises(KeyboardInterrupt)),
    ],
    ids=["failure", "interruption"],
)
def test_a_failed_rename_puts_the_old_corpus_back(
    cause: BaseException,
    told: AbstractContextManager[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    folder = tmp_path / "corpus"
    write_corpus(corpus_of("old"), folder)
    rename = os.rename

    def refuse_the_new_one(source: Path, target: Path) -> None:
        if ".new." in source.name:
            raise cause
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_the_new_one)
    with told:
        write_corpus(corpus_of("new"), folder)
    assert read_corpus(folder, "small") == corpus_of("old")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize(
    ("words", "slots", "intent"),
    [
        ((), (), "flight"),
        (("a", "b"), ("O",), "flight"),
        (("a b",), ("O",), "flight"),
        (("",), ("O",), "flight"),
        (("a",), ("O\n",), "flight"),
        (("a",), ("O",), ""),
        (("a",), ("O",), " flight"),
        (("a",), ("O",), "flight\nfare"),
    ],
)
def test_sentence_refuses_what_no_file_can_hold(words, slots, intent):
    with pytest.raises(ValueError, match="expected"):
        Sentence(words, slots, intent)


def edit(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


# The corpus that is damaged: two sentences "a b" in each split.
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("dev/label"), "dev/label: can't read it (No such file or directory)"),
        (remove("test/seq.in"), "test/seq.in: can't read it (No such file or directory)"),
        (edit("train/label", b"flight\n"), "train/label:2: expected 2 lines as in seq.in, found 1"),
        (edit("dev/seq.out", b"O O\nO O\nO O\n"), "dev/seq.out:3: expected 2 lines as in seq.in, found 3"),
        (edit("test/seq.out", b"O O\nO\n"), "test/seq.out:2: expected 2 slot labels, one for each word of"),
        (edit("train/seq.out", b"O O O\nO O\n"), "train/seq.out:1: expected 2 slot labels, one for each"),
        (
            edit("dev/seq.out", b"O O\nO city\n"),
            "dev/seq.out:2: expected slot labels O, B-x and I-x, found 'city'",
        ),
        (
            edit("dev/seq.out", b"O O\nO E-x\n"),
            "dev/seq.out:2: expected slot labels O, B-x and I-x, found 'E-x'",
        ),
        (
            edit("dev/seq.out", b"O O\nO B-\n"),
            "dev/seq.out:2: expected slot labels O, B-x and I-x, found 'B-'",
        ),
        (edit("train/seq.in", b"a b\n\n"), "train/seq.in:2: expected a sentence, found zero words"),
        (edit("dev/seq.in", b" \t\na b\n"), "dev/seq.in:1: expected a sentence, found zero words"),
        (edit("dev/label", b"flight\n \n"), "dev/label:2: expected an intent, found an empty line"),
        (edit("test/seq.in", b""), "test/seq.in:1: expected sentences, found an empty file"),
        (edit("train/seq.in", b"a b\na \xff\n"), "train/seq.in:2: expected UTF-8, found byte 0xff"),
    ],
)
def test_damaged_corpus(tmp_path: Path, damage: Callable[[Path], None], message: str):
    split = (Sentence(("a", "b"), ("O", "O"), "flight"),) * 2
    write_corpus(Corpus("two", synthetic=False, train=split, dev=split, test=split), tmp_path / "two")
    damage(tmp_path / "two")
    with pytest.raises(UserError) as caught:
        read_corpus(tmp_path / "two", "two")
    assert str(caught.value).startswith(f"{tmp_path / 'two'}/{message}")
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    write_corpus(corpus_of("a"), tmp_path / "marked")
    for file in (tmp_path / "marked").glob("*/*"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_corpus(tmp_path / "marked", "small") == corpus_of("a")


def test_no_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"none: expected a folder .*found nothing: .*ttjax data fetch"):
        read_corpus(tmp_path / "none", "none")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file: expected a folder .*found a file"):
        read_corpus(tmp_path / "file", "file")


def test_unknown_split():
    with pytest.raises(UserError, match="unknown split 'valid': expected one of train, dev, test"):
        corpus_of("a").split("valid")


def test_atis_is_written_byte_for_byte(atis_folder: Path):
    corpus = read_corpus(atis_folder, "atis")
    files = {name: (atis_folder / name).read_bytes() for name in CORPUS_FILES}
    assert sums(corpus_files(corpus)) == sums(files)


def test_atis_sizes(atis_folder: Path):
    corpus = read_corpus(atis_folder, "atis")
    lengths = {name: [len(s.words) for s in corpus.split(name)] for name in SPLITS}
    assert {name: len(of) for name, of in lengths.items()} == {"train": 4478, "dev": 500, "test": 893}
    assert {name: max(of) for name, of in lengths.items()} == {"train": 46, "dev": 35, "test": 30}
    assert sum(lengths["train"]) == 50_497
