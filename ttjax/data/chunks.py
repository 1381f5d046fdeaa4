"""Slots as chunks of words, read off a sentence's IOB tags by the rules of the CoNLL-2000 script conlleval.

What training varies (values, joints) and what the scores count are these same chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Tags = Sequence[str]

OUTSIDE = "O"  # the tag of a word of no slot


class Chunk(NamedTuple):
    """Words start to end - 1 of a sentence carry one slot of type ``kind``."""

    kind: str
    start: int
    end: int


def chunks(tags: Tags) -> list[Chunk]:
    """Chunks of one sentence's tags, each ``O``, ``B-kind`` or ``I-kind``, in order.

    As conlleval does, an ``I-`` that doesn't continue a chunk of its kind (after ``O``, after another
    kind, or at the beginning) starts one.
    """
    found: list[Chunk] = []
    kind, start = "", 0
    for position, tag in enumerate([*tags, OUTSIDE]):
        mark, _, next_kind = tag.partition("-") if tag != OUTSIDE else (OUTSIDE, "", "")
        if kind and (mark != "I" or next_kind != kind):
            found.append(Chunk(kind, start, position))
            kind = ""
        if not kind and mark != OUTSIDE:
            kind, start = next_kind, position
    return found
