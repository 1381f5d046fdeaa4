"""Find the corpus that a command works on, and say in one line which it is.

Without any wish of the user: ATIS if it is here or can be fetched, else the synthetic travel corpus.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ttjax.data.corpus import Corpus, corpus_files, read_corpus
from ttjax.data.fetch import ATIS_SUMS, fetch_atis, read_folder, sums, verify
from ttjax.data.travel import travel_corpus
from ttjax.errors import UserError
from ttjax.output import resolved, user_cache

DATA_VARIABLE = "TTJAX_DATA"


def atis_cache() -> Path:
    """Where fetched ATIS lives: ttjax/atis in the user's cache."""
    return user_cache() / "atis"


def load_corpus(data: str | None, *, fetch: bool = True, notify: Callable[[str], None]) -> Corpus:
    """The corpus that ``data`` asks for; ``notify`` gets one line that names it.

    ``data``: "travel" (generated), "atis" (from $TTJAX_DATA, the cache or the network, nothing
    else), a folder (write ./atis for a folder of that name), or None: $TTJAX_DATA if set, else
    cached or fetched ATIS, else travel. ``fetch=False`` keeps off the network.

    Raises:
        UserError: the folder is no corpus, the cached ATIS is damaged, or "atis" can't be had.
    """
    reason = ""
    if data == "travel":
        corpus, where = travel_corpus(), "generated"
    elif data is not None and data != "atis":
        corpus, where = _read_path(Path(data)), str(Path(data))
    elif os.environ.get(DATA_VARIABLE):
        corpus, where = _read_variable(must_be_atis=data == "atis")
    else:
        corpus, reason = _cached_or_fetched(fetch)
        where = str(atis_cache())
    if corpus is None:
        if data == "atis":
            raise UserError(f"--data atis: {reason}: give --data FOLDER, or run `ttjax data fetch`")
        corpus, where = travel_corpus(), f"generated; {reason}"
    notify(_line(corpus, where))
    return corpus


def _read_path(folder: Path) -> Corpus:
    """A folder's corpus, called "atis" when its files are ATIS's, else as the folder.

    Other files in a folder of that name are called "atis, changed".
    """
    corpus = read_corpus(folder, resolved(folder).name)
    if sums(corpus_files(corpus)) == ATIS_SUMS:
        return replace(corpus, name="atis")
    return replace(corpus, name=f"{corpus.name}, changed") if corpus.name.lower() == "atis" else corpus


def _read_variable(*, must_be_atis: bool) -> tuple[Corpus, str]:
    folder = Path(os.environ[DATA_VARIABLE])
    try:
        corpus = _read_path(folder)
        if must_be_atis:
            verify(corpus_files(corpus), str(folder))
    except UserError as error:
        raise UserError(f"${DATA_VARIABLE}: {error}") from error
    return corpus, str(folder)


def _cached_or_fetched(fetch: bool) -> tuple[Corpus | None, str]:
    """ATIS from the cache, filled first if need be; or None and the reason."""
    folder = atis_cache()
    if not folder.exists():
        if not fetch:
            return None, "ATIS was not found, and fetching it was not asked for"
        try:
            fetch_atis(folder)
        except UserError as error:
            # Another process may have put it there meanwhile, which is why this one couldn't.
            if not folder.exists():
                return None, f"ATIS was not found and could not be fetched: {error}"
    try:
        verify(read_folder(folder), str(folder))
    except UserError as error:
        raise UserError(f"the cached ATIS is damaged: {error}: run `ttjax data fetch`") from error
    return read_corpus(folder, "atis"), ""


def _line(corpus: Corpus, where: str) -> str:
    sizes = f"{len(corpus.train)} train / {len(corpus.dev)} dev / {len(corpus.test)} test sentences"
    if corpus.synthetic:
        return f"data: travel, SYNTHETIC ({where}), {sizes}"
    return f"data: {'ATIS' if corpus.name == 'atis' else corpus.name} ({where}), {sizes}"
