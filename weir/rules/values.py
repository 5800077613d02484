"""Elements of conditions as they are written, and whether they make sense for their item."""

import contextlib
import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from weir.rules import items, lists, patterns
from weir.rules.items import Kind

_VARIABLE = re.compile(r"\$\$\s*(?:\w+|\(\w+\))", re.ASCII)
_GROUP = re.compile(r"%%\w[-\w.]*", re.ASCII)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_DATE = re.compile(r"(\d\d)\.(\d\d)\.(\d{4})", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d|24:00:00", re.ASCII)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class Element(NamedTuple):
    """One element: what it says, and whether it is turned around."""

    text: str
    negated: bool
    start: int
    """Where `text` begins in what was written."""


def element(written: str) -> Element:
    """Take `!!VALUE` or `!!(VALUE)` apart; anything else is itself.

    Raises ValueError(what is wrong, offset of that) for what is neither.
    """
    if not written.startswith("!!"):
        return Element(written, False, 0)
    text = written[2:].strip()
    opens = text.startswith("(")
    closes = text.endswith(")") and not text.endswith("\\)")
    if opens and closes:
        text = text[1:-1].strip()
    elif opens != closes and text.count("(") != text.count(")"):
        raise ValueError(f"expected !!VALUE or !!(VALUE), got {written}", 0)
    if not text:
        raise ValueError("expected a value after !!", 0)
    if text.startswith("!!"):
        raise ValueError("expected a value after !!, got another !!", 2)
    return Element(text, True, written.index(text, 2))


def is_dynamic(text: str) -> bool:
    """Tell whether a value names items (`$$name`, `$$(name)`), so that it compares with the request's own."""
    return _VARIABLE.search(text) is not None


def is_group(text: str) -> bool:
    """Tell whether a value is a group (`%%NAME`)."""
    return text.startswith("%%")


def check(item: str, operator: str, text: str) -> str | None:
    """Check an element's text (as of `element`); None, or a warning: it works, but hardly as it was meant.

    Raises ValueError(what is wrong[, offset of that in the text]). Dynamic values are always right.
    """
    if is_group(text):
        if not _GROUP.fullmatch(text):
            raise ValueError(f"expected a group as %%NAME, got {text}")
        return None
    if is_dynamic(text):
        return None
    kind = items.kind(item)
    if kind in _CHECKS:
        return _CHECKS[kind](text)
    if kind is Kind.NUMBER or operator in items.NUMERIC:
        if text and not _NUMBER.fullmatch(text):
            raise ValueError(f"expected a number after {operator}, got {text}")
    elif operator in items.PATTERN:
        with contextlib.suppress(NotImplementedError):
            patterns.compile(text)
    return None


def offset_of(error: ValueError) -> int:
    """Where in the text that is which `check` or `element` says."""
    return getattr(error, "offset", 0) or (error.args[1] if len(error.args) > 1 else 0)


def _address(text: str) -> str | None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        hint = ": separate them by commas" if len(text.split()) > 1 else ""
        raise ValueError(f"expected an address or a network, IPv4 or IPv6, got {text or 'nothing'}{hint}") from None
    return None


def _dns_list(text: str) -> str | None:
    lists.check(text)
    return None


def _date(text: str) -> str | None:
    def is_date(end: str) -> bool:
        found = _DATE.fullmatch(end)
        return found is not None and 1 <= int(found[1]) <= 31 and 1 <= int(found[2]) <= 12

    _range(text, "a date is DD.MM.YYYY or DD.MM.YYYY-DD.MM.YYYY", is_date)
    return None


def _time(text: str) -> str | None:
    _range(text, "a time is HH:MM:SS-HH:MM:SS", lambda end: _TIME.fullmatch(end) is not None)
    return None if "-" in text else f"{text} is one second a day: write {text}- for all that follows"


def _days(text: str) -> str | None:
    _range(text, "days are Sun to Sat or 0 to 6", lambda end: end.lower() in _DAYS or end in tuple("0123456"))
    return "0 is every day: write Sun" if text == "0" else None


def _months(text: str) -> str | None:
    if text == "0":
        return "0 is every month: write Jan"
    ends = _range(
        text,
        "months are Jan to Dec or one digit, 0 for January",
        lambda end: end.lower() in _MONTHS or re.fullmatch("[0-9]|1[0-2]", end) is not None,
    )
    if any(len(end) == 2 for end in ends):
        return f"{text}: months of two digits are not understood, and never hold: write Nov or Dec"
    return None


def _range(text: str, expected: str, is_end: Callable[[str], bool]) -> list[str]:
    """The ends of `FROM-TO`, of which one may be missing, or of one value."""
    ends = [end.strip() for end in text.split("-")]
    if len(ends) > 2 or not any(ends) or not all(is_end(end) for end in ends if end):
        raise ValueError(f"{expected}, got {text or 'nothing'}")
    return ends


_CHECKS: dict[Kind, Callable[[str], str | None]] = {
    Kind.ADDRESS: _address,
    Kind.DNS_ADDRESS: _address,
    Kind.DNS_LIST: _dns_list,
    Kind.DATE: _date,
    Kind.TIME: _time,
    Kind.DAYS: _days,
    Kind.MONTHS: _months,
}
