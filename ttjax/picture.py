"""Figures of all commands and studies: made without a screen, written to a file.

matplotlib is an extra: without it the error says how to get it.
"""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

from ttjax.errors import UserError
from ttjax.output import check_writable, replace_file, resolved

GET_MATPLOTLIB = "pip install 'ttjax-fpga[plot]'"


def subplots(
    rows: int = 1, cols: int = 1, *, figsize: tuple[int | float, int | float], **options: Any
) -> tuple[Any, Any]:
    """A figure of ``figsize`` inches, and its axes as ``matplotlib.figure.Figure.subplots`` gives them.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib import figure
    except ImportError:
        raise UserError(f"no matplotlib for the picture: {GET_MATPLOTLIB}") from None
    made = figure.Figure(figsize=figsize, layout="constrained")
    return made, made.subplots(rows, cols, **options)


def save(figure: Any, path: Path, option: str = "--out") -> None:
    """Writes a figure, whole or not at all, in the format of the path's ending; ``option``: that chose it.

    Raises:
        UserError: it can't be written there, or matplotlib draws no such format; an earlier file stays.
    """
    drawn = BytesIO()
    try:
        figure.savefig(drawn, dpi=120, format=path.suffix[1:])
        replace_file(resolved(path), drawn.getvalue())
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}; choose another {option}") from None
    except ValueError as error:
        raise UserError(f"can't write {path}: {error}; choose another {option}") from None


def check_results_folder(folder: Path, option: str = "--out") -> None:
    """Refuses, before the work that a picture shows, what would only be missed after it.

    Raises:
        UserError: the folder doesn't exist or can't be written to, or there is no matplotlib.
    """
    if not folder.is_dir():
        raise UserError(f"{option}: expected an existing folder, found none at {folder}: make it first")
    check_writable(folder / "results", option)
    if find_spec("matplotlib") is None:
        raise UserError(f"{option}: expected matplotlib for the picture, found none: {GET_MATPLOTLIB}")


def check_picture(path: Path, option: str) -> None:
    """The same for one picture, whose ending names its format.

    Raises:
        UserError: as ``check_results_folder``, matplotlib draws no such format, or no file can be there.
    """
    check_results_folder(path.parent, option)
    from matplotlib.backend_bases import FigureCanvasBase

    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in formats:
        raise UserError(f"{option}: expected a file ending in one of {', '.join(formats)}, found {path}")
    if path.exists() and not path.is_file():
        raise UserError(f"{option}: expected a file to write or replace, found something else at {path}")
