"""What a command ends with, and the line that it says of an error."""

from __future__ import annotations

from retrieval.errors import ShortlistError

OUR_FAULT = 1  # a fault of ours, or of the machine; wrong input and a gate that refuses have their errors' own codes
INTERRUPTED = 130  # Ctrl-C


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that an error ended."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return error.exit_code if isinstance(error, ShortlistError) else OUR_FAULT


def one_line(error: BaseException) -> str:
    """The message of an error on one line.

    >>> one_line(ValueError("two\\nlines"))
    'two lines'
    """
    return " ".join(str(error).split())
