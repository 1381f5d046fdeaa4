"""Where a command's words and its JSON go: text to a console, results to a file or standard output.

With JSON on standard output ("-") nothing else is written there: the text goes to standard error.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress, ProgressColumn

from ttjax.errors import UserError


def user_cache() -> Path:
    """Folder for what can be had again: ttjax under $XDG_CACHE_HOME, or under ~/.cache without that."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The variable's specification says to ignore a relative path.
    return (base if base.is_absolute() else Path.home() / ".cache") / "ttjax"


class _Console(Console):
    """Leaves what becomes of a reader that has gone to ``ttjax.cli.exit_status``: rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise


class Output:
    """The two outputs of one command, made before its work so that a wrong path costs nothing.

    ``json``: the command's ``--json`` option, a path, "-" for standard output, or None for no JSON.

    Raises:
        UserError: the JSON file couldn't be written at that path.
    """

    def __init__(self, json: str | None) -> None:
        if json is not None and json != "-":
            check_file(Path(json))
        self._json = json
        self.console: Console = _Console(stderr=json == "-")

    def say(self, line: str) -> None:
        """Print one line of text as it is: no markup, no colours, no folding."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, *columns: ProgressColumn, **options: Any) -> Progress:
        """Bars on a terminal, gone when they end; elsewhere nothing. Arguments and defaults are rich's."""
        shown = self.console.is_terminal
        return Progress(*columns, console=self.console, transient=True, disable=not shown, **options)

    def write_json(self, obj: object) -> None:
        """Write ``obj`` where ``--json`` says; without that option, nowhere."""
        if self._json is not None:
            write_json(self._json, obj)


def write_json(path: str | Path, obj: object) -> None:
    """Write ``obj`` as JSON to a file, whole or not at all, or to standard output for "-".

    Raises:
        UserError: the file's folder doesn't exist, the path is not a regular file, or writing fails.
        ValueError: a number is NaN or infinite; nothing is written.
    """
    text = json.dumps(obj, indent=2, allow_nan=False) + "\n"
    if str(path) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_whole(path, text.encode(), "JSON file")


def write_whole(path: str | Path, content: bytes, what: str) -> None:
    """Write a file so that a reader finds the earlier one or this one, never a part; ``what``: for errors.

    That holds through a kill or a loss of power too. A kill can leave a hidden temporary file beside it.

    Raises:
        UserError: the file's folder doesn't exist, the path is not a regular file, or writing fails.
    """
    target = _target(Path(path))
    try:
        replace_file(target, content)
    except OSError as error:
        raise UserError(f"{path}: can't write the {what} ({error.strerror}): choose another path") from error


def replace_file(target: Path, content: bytes, *, make_folder: bool = False) -> None:
    """What ``write_whole`` does once the path is checked, for callers that have their own word for an error.

    A link there is replaced, not followed. ``make_folder``: first the target's folder, where it is missing.

    Raises:
        OSError: writing fails.
    """
    if make_folder:
        target.parent.mkdir(parents=True, exist_ok=True)
    part = _beside(target)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        # The renaming itself is safe from a loss of power only when the folder is written too.
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        part.unlink(missing_ok=True)


def check_file(path: Path) -> Path:
    """The path behind links, after checking that ``write_whole`` can write a file there.

    Raises:
        UserError: the folder doesn't exist or can't be written to, or the path is not a regular file.
    """
    target = _target(path)
    check_writable(target, str(path))
    return target


def check_apart(
    results: Iterable[tuple[str, str | Path | None]], inputs: Iterable[tuple[str, str | Path | None]] = ()
) -> None:
    """Refuses results that would be written over an input, or over one another.

    Of each file what the user calls it, and its path or None; a result's "-" is standard output.

    Raises:
        UserError: a result's path leads to the file of an input, or of a result before it.
    """
    names = {resolved(Path(path)): name for name, path in inputs if path is not None}
    for name, path in results:
        if path is None or str(path) == "-":
            continue
        taken = names.setdefault(resolved(Path(path)), name)
        if taken != name:
            raise UserError(f"{name}: expected another file than {taken}, found {path} for both")


def check_writable(target: Path, what: str) -> None:
    """Puts an empty file beside ``target`` for a moment: permissions alone don't say whether that can be.

    Raises:
        UserError: it can't; begins with ``what``.
    """
    part = _beside(target)
    try:
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise UserError(
            f"{what}: expected a folder to write to, can't in {target.parent} ({error.strerror}): choose"
            " another"
        ) from error


def resolved(path: Path) -> Path:
    """The absolute path behind all links.

    Raises:
        UserError: the links go in a circle.
    """
    try:
        return path.resolve()
    except RuntimeError as error:
        raise UserError(
            f"{path}: expected a path, found symbolic links that lead in a circle: remove one of them"
        ) from error


def _beside(target: Path) -> Path:
    """A new name for a temporary file. Not from tempfile, whose files only their owner can read."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}")


def _target(path: Path) -> Path:
    target = resolved(path)
    if not target.parent.is_dir():
        raise UserError(f"{path}: expected an existing folder {target.parent}, found none: make it first")
    if target.exists() and not target.is_file():
        raise UserError(f"{path}: expected a regular file to write or replace, found something else")
    return target


def json_number(value: float | np.floating) -> float | str:
    """The number for JSON, which has no NaN or infinity: those are given by name."""
    return float(value) if math.isfinite(value) else str(value)
