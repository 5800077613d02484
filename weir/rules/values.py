"""Elements of conditions as they are written, and whether they make sense for their item."""

import re
from typing import NamedTuple

from weir.rules import addresses, calendar, items, lists, patterns
from weir.rules.items import Kind

_VARIABLE = re.compile(r"\$\$\s*(?:\w+|\(\w+\))", re.ASCII)
_GROUP = re.compile(r"%%\w[-\w.]*", re.ASCII)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_TWO_DIGITS = re.compile(r"\d\d", re.ASCII)


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
    if kind in calendar.KINDS:
        return _calendar(kind, text)
    if kind is Kind.ADDRESS or kind is Kind.DNS_ADDRESS:
        _address(text)
    elif kind is Kind.DNS_LIST:
        lists.check(text)
    elif kind is Kind.NUMBER or operator in items.NUMERIC:
        if not _NUMBER.fullmatch(text) and (text or operator in items.NUMERIC):
            raise ValueError(f"expected a number after {operator}, got {text or 'nothing'}")
    elif operator in items.PATTERN:
        patterns.compile(text)
    return None


def offset_of(error: ValueError) -> int:
    """Where in the text that is which `check` or `element` says."""
    return getattr(error, "offset", 0) or (error.args[1] if len(error.args) > 1 else 0)


def _address(text: str) -> None:
    try:
        addresses.network(text)
    except ValueError:
        hint = ": separate them by commas" if len(text.split()) > 1 else ""
        raise ValueError(f"expected an address or a network, IPv4 or IPv6, got {text or 'nothing'}{hint}") from None


def _calendar(kind: Kind, text: str) -> str | None:
    calendar.compile(kind, text)
    if not text.strip("- "):
        raise ValueError(f"expected a value or a range, got {text or 'nothing'}")
    if kind is Kind.TIME and "-" not in text:
        return f"{text} is one second a day: write {text}- for all that follows"
    if text == "0":
        return f"0 is every one of the {kind.value}: write {'Sun' if kind is Kind.DAYS else 'Jan'}"
    if kind is Kind.MONTHS and _TWO_DIGITS.search(text):
        return f"{text}: months of two digits are not understood: write Nov or Dec"
    return None
