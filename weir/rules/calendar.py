"""Conditions on date, time, days and months: `FROM-TO`, where one end may be open, or a single value.

As in postfwd: nothing wraps, so that 22:00:00-06:00:00 and Wed-Mon never hold; the digit 0 is an open end, so `days=0`
is any day; a month of two digits is not understood and counts as the first one.
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from weir.rules.items import Kind

_DATE = re.compile(r"(\d\d)\.(\d\d)\.(\d{4})", re.ASCII)
_TIME = re.compile(r"(\d\d):(\d\d):(\d\d)", re.ASCII)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LATEST = (24, 59, 59)
"""24:00:00 is an end that some write."""


class _Calendar(NamedTuple):
    expected: str
    read: Callable[[str], int | None]
    """One end as a number; None: it is open. Raises ValueError."""
    present: Callable[[time.struct_time], int]
    """What the number is at a time."""


def compile(kind: Kind, text: str) -> Callable[[float], bool]:  # noqa: A001
    """A test of Unix seconds, in local time. Raises ValueError if the text is no value or range of that kind."""
    expected, read, present = _CALENDARS[kind]
    ends = [end.strip() for end in text.split("-")]
    if len(ends) > 2:
        raise ValueError(f"{expected}, got {text}")
    try:
        first, last = (read(end) if end else None for end in (ends[0], ends[-1]))
    except ValueError:
        raise ValueError(f"{expected}, got {text}") from None

    def holds(now: float) -> bool:
        value = present(time.localtime(now))
        return (first is None or first <= value) and (last is None or value <= last)

    return holds


def _date(text: str) -> int:
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError
    day, month, year = map(int, found.groups())
    if not (1 <= day <= 31 and 1 <= month <= 12):
        raise ValueError
    return year * 10_000 + month * 100 + day


def _time(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError
    parts = tuple(map(int, found.groups()))
    if any(part > most for part, most in zip(parts, _LATEST, strict=True)):
        raise ValueError
    hour, minute, second = parts
    return hour * 10_000 + minute * 100 + second


def _day(text: str) -> int | None:
    if text in tuple("0123456"):
        return int(text) or None
    return _DAYS.index(text.lower())


def _month(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 2:
        return int(text) or None if len(text) == 1 else 0
    return _MONTHS.index(text.lower())


_CALENDARS = {
    Kind.DATE: _Calendar(
        "a date is DD.MM.YYYY or DD.MM.YYYY-DD.MM.YYYY",
        _date,
        lambda at: at.tm_year * 10_000 + at.tm_mon * 100 + at.tm_mday,
    ),
    Kind.TIME: _Calendar(
        "a time is HH:MM:SS-HH:MM:SS", _time, lambda at: at.tm_hour * 10_000 + at.tm_min * 100 + at.tm_sec
    ),
    Kind.DAYS: _Calendar("days are Sun to Sat or 0 to 6", _day, lambda at: (at.tm_wday + 1) % 7),
    Kind.MONTHS: _Calendar("months are Jan to Dec or one digit, 0 for January", _month, lambda at: at.tm_mon - 1),
}

KINDS = frozenset(_CALENDARS)
