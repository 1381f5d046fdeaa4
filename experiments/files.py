"""The JSON files of studies: which may be written over, and those of rows that later runs add to.

A result tells the options that it is of: a run with other ones, such as a short one to see that it works,
must not replace it unasked.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttjax.checkpoint import ABSENT
from ttjax.data import Corpus
from ttjax.errors import UserError
from ttjax.output import Output, write_json
from ttjax.recipe import Recipe

Row = dict[str, Any]

# Options that no figure depends on: where files are, and how many trainings go at a time.
ELSEWHERE = frozenset(("out", "json", "runs", "jobs"))


def options_of(study: Any, corpus: Corpus | None = None) -> dict[str, Any]:
    """The options of a study, a dataclass, that its figures depend on, as JSON has them.

    ``corpus``: the one that ``data`` has led to, told by its name and digest: without ``data`` it is another
    one on another machine.
    """
    found = dataclasses.asdict(study)
    found |= found.pop("options", {})
    found = {name: value for name, value in found.items() if name not in ELSEWHERE}
    if corpus is not None:
        found["data"] = f"{corpus.name} {corpus.digest[:12]}"
    return json.loads(json.dumps(found))


def check_replaceable(path: Path, options: dict[str, Any]) -> None:
    """To be called before the work whose result, with these options as "options", is to be put at ``path``.

    Raises:
        UserError: there is a file that isn't of these options; says which differ.
    """
    if not path.exists():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["options"]
        differ = [name for name in {**options, **found} if found.get(name) != options.get(name)]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: expected a result that tells its options, to replace it, found another file: choose"
            " another --out, or remove the file"
        ) from error
    if differ:
        wanted, there = (
            ", ".join(f"--{name} {_shown(of.get(name))}" for name in differ) for of in (options, found)
        )
        raise UserError(
            f"{path}: expected a result of the same options, to replace it: {wanted}; found one of {there}:"
            " choose another --out, or remove the file"
        )


def _shown(value: Any) -> str:
    return shlex.join(map(str, value if isinstance(value, list) else [value]))


class RowFile:
    """A JSON file of rows that later runs of a study add to; ``keys`` and the recipe tell its rows apart.

    Raises:
        UserError: the file that is there isn't one of rows, or they were trained on other data than
            ``corpus`` or on another number of its sentences.
    """

    def __init__(self, path: Path, keys: tuple[str, ...], corpus: Corpus, limit: int | None) -> None:
        self._path, self._keys, self._corpus, self._limit = path, keys, corpus, limit
        self.rows()

    def rows(self) -> list[Row]:
        """All rows that the file has now, in the order of their keys."""
        if not self._path.exists():
            return []
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))
            if not isinstance(rows, list):
                raise TypeError
            found = {(row["data"]["digest"], row["data"]["train_sentences"]) for row in rows}
            rows.sort(key=self._key)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self._path}: expected rows of a study, can't read them: remove the file"
            ) from error
        sentences = len(self._corpus.train[: self._limit])
        if found - {(self._corpus.digest, sentences)}:
            raise UserError(
                f"{self._path}: expected rows of {sentences} training sentences of {self._corpus.name}, found"
                " rows of other data: choose another --out"
            )
        return rows

    def add(self, rows: Sequence[Row], out: Output) -> list[Row]:
        """Write ``rows`` in place of those of the same keys, beside all others; returns all of them.

        A row of more seeds than the new one has is kept, and said to be. The others are read again: in the
        hours of a study another may have added to the file.
        """
        new = {self._key(row): row for row in rows}
        kept = []
        for row in self.rows():
            key = self._key(row)
            if key in new and len(row["seeds"]) > len(new[key]["seeds"]):
                name = " ".join(map(str, key)).rstrip()
                there, here = (_shown(of["seeds"]) for of in (row, new[key]))
                out.say(f"kept: {name} of seeds {there}, this run has only {here}: choose another --out")
                del new[key]
            if key not in new:
                kept.append(row)
        both = sorted([*kept, *new.values()], key=self._key)
        write_json(self._path, both)
        out.say(f"written: {self._path}")
        return both

    def _key(self, row: Row) -> tuple[Any, ...]:
        return (*(row[key] for key in self._keys), recipe_changes(row))


def recipe_changes(row: Row) -> str:
    """What the recipe of a row has other than the default for its format, as ``--recipe`` takes it; often "".

    A field that was not there yet when the row was written has the value that it meant.
    """
    default = dataclasses.asdict(Recipe().written_out(row["format"]))
    found = {**ABSENT["recipe"], **row["recipe"], "seed": default["seed"]}
    return " ".join(f"{name}={found[name]}" for name, value in default.items() if found[name] != value)
