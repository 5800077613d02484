"""Perl's regular expressions. (Signatures; being written.)"""

from collections.abc import Callable

SECONDS = 0.02
"""A search takes no longer."""


class PatternError(ValueError):
    """What is wrong, and at which character of the pattern's text (from 0)."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class Pattern:
    """A pattern that is searched for anywhere in a text, without case."""

    search: Callable[[str], object]
    """Something true if the text has it. Past the deadline: nothing, and `late` is told."""


def compile(text: str, late: Callable[[str], None] | None = None) -> Pattern:  # noqa: A001
    """A pattern as Perl writes it; one `/` before and one behind are left out. `late` is told its text.

    Raises PatternError.
    """
    raise NotImplementedError


def backtracks_badly(text: str) -> str | None:
    """Say what makes a pattern slow on some texts, such as repeats in repeats; None: nothing does, as far as seen."""
    raise NotImplementedError
