"""One training example as the step sees it, on every device: padded token, intent and slot ids.

A leading axis on each field makes it n examples.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Array, Int32
from numpy import ndarray

Ids = Int32[Array, "..."] | Int32[ndarray, "..."]


class Batch(NamedTuple):
    """Token ids with [CLS] first, then words, then padding to ``seq_len`` (in JAX: or to less).

    tokens: int32 (..., seq_len). length: int32 (...,), [CLS] and words, without padding: from 2 to seq_len.
    intent: int32 (...,). slots: int32 (..., seq_len); only positions 1 to length - 1 are read.
    Nothing checks the numbers within a compiled step; ``ttjax.data.encode`` makes them right.
    """

    tokens: Ids
    length: Ids
    intent: Ids
    slots: Ids
