"""The error a user's own input causes: one line that says what was expected, found, and what to do.

Command lines turn it into that line on standard error and exit status 2, without a traceback.
"""

from __future__ import annotations

from numbers import Integral


class UserError(Exception):
    """Wrong input. The message is one line and complete: expected, found, remedy."""


def check_count(name: str, value: object, least: int = 1, error: type[UserError] = UserError) -> None:
    """Refuses what is no number of steps, epochs, ranks and their like; ``name``: what the user calls it.

    Raises:
        UserError: no whole number, or one below ``least``; of the class ``error``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise error(f"{name}: expected a whole number from {least} up, found {value!r}")
