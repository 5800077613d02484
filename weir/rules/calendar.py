"""Conditions on date, time, days and months. (Signatures; being written.)"""

from collections.abc import Callable

ITEMS = ("date", "time", "days", "months")


def compile(item: str, text: str) -> Callable[[float], bool]:  # noqa: A001
    """A test of Unix seconds, in local time. Raises ValueError if the text is no value or range of that item."""
    raise NotImplementedError
