"""The modes and ranks of a tensor train as its user gives them: picked when left out, checked when not.

Modes are the factors of a width, one for each core; see ``ttjax.tt`` for what they mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import inf, prod

from ttjax.errors import UserError, check_count

Modes = tuple[int, ...]


@cache
def even_modes(width: int, n_modes: int = 3) -> Modes:
    """The factors above 1 of ``width`` with the smallest sum, largest first: 768 is (12, 8, 8).

    ``n_modes`` of them, fewer (at least two) where the width has fewer prime factors. A width such as
    2 · 1733 factors unevenly, and then compresses little.

    Raises:
        UserError: a prime width or one below 4, unless one mode is asked for.
    """
    if n_modes == 1:
        return (width,)
    for n in range(n_modes, 1, -1):
        if found := list(_factorings(width, n, width)):
            return min(found, key=sum)
    raise UserError(
        f"modes of {width}: expected a width with at least two factors above 1, found a prime or less than 4:"
        f" choose another width, or give the modes, of one factor ({width},)"
    )


def _factorings(width: int, n: int, largest: int) -> Iterator[Modes]:
    """Every way to write ``width`` as n factors in falling order, from ``largest`` down to 2."""
    if n == 1:
        if 2 <= width <= largest:
            yield (width,)
        return
    for factor in range(min(largest, width // 2), 1, -1):
        if width % factor == 0:
            for rest in _factorings(width // factor, n - 1, factor):
                yield (factor, *rest)


def checked_modes(name: str, modes: Modes, whole_name: str, whole: int) -> Modes:
    """The modes themselves, if they multiply to ``whole``.

    Raises:
        UserError: they don't, or there is none.
    """
    if not modes or min(modes) < 1 or prod(modes) != whole:
        raise UserError(f"{name}: expected factors that multiply to {whole_name} {whole}, found {modes}")
    return modes


def all_ranks(rank: int | None, ranks: Modes | None, sizes: Sequence[int]) -> Modes:
    """The ranks of a train whose core k has ``sizes[k]`` entries between its ranks.

    Those given, or ``rank`` at every bond that can use as much: TT-SVD under that bound finds the same.

    Raises:
        UserError: both or neither are given, or they make no train.
    """
    if (rank is None) == (ranks is None):
        raise UserError(
            f"expected either rank or ranks, found rank={rank} and ranks={ranks}: give one of them"
        )
    if ranks is None:
        check_bounds(rank, None)
        bonds = range(1, len(sizes))
        return (1, *(min(rank or 1, prod(sizes[:k]), prod(sizes[k:])) for k in bonds), 1)
    if len(ranks) != len(sizes) + 1 or min(ranks) < 1 or (ranks[0], ranks[-1]) != (1, 1):
        raise UserError(
            f"ranks: expected {len(sizes) + 1} numbers from 1 up, the first and the last 1, found {ranks}"
        )
    return ranks


def check_bounds(rank: int | None, rel_error: float | None) -> None:
    """Checks the bounds of a TT-SVD.

    Raises:
        UserError: neither is given, a rank below 1, or an error below 0, infinite or not a number.
    """
    if rank is None and rel_error is None:
        raise UserError("from_dense: expected rank or rel_error, found neither: give at least one")
    if rank is not None:
        check_count("rank", rank)
    if rel_error is not None and not 0 <= rel_error < inf:
        raise UserError(f"from_dense: expected a finite rel_error from 0 up, found {rel_error}")
