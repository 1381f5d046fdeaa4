"""The error a user's own input causes: one line that says what was expected, found, and what to do.

Command lines turn it into that line on standard error and exit status 2, without a traceback.
"""


class UserError(Exception):
    """Wrong input. The message is one line and complete: expected, found, remedy."""
