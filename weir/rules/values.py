"""Elements of conditions as they are written, and whether they make sense for their item."""

from typing import NamedTuple


class Element(NamedTuple):
    """One element: what it says, and whether it is turned around."""

    text: str
    negated: bool
    start: int
    """Where `text` begins in what was written."""


def element(written: str) -> Element:
    """Take `!!VALUE` or `!!(VALUE)` apart; anything else is itself. Raises ValueError for what is neither."""
    raise NotImplementedError


def is_dynamic(text: str) -> bool:
    """Tell whether a value names items (`$$name`, `$$(name)`), so that it compares with the request's own."""
    raise NotImplementedError


def is_group(text: str) -> bool:
    """Tell whether a value is a group (`%%NAME`)."""
    return text.startswith("%%")


def check(item: str, operator: str, text: str) -> str | None:
    """Check an element's text (as of `element`); None, or a warning: it works, but hardly as it was meant.

    Raises ValueError(what is wrong[, offset of that in the text]). Dynamic values and groups are always right.
    """
    raise NotImplementedError
