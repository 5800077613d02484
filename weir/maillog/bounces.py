"""Why a delivery failed: the kind of a bounce or a deferral, by the data in bounces.toml.

Invariants: anything has a kind, `other` if nothing is known; a text is judged up to MAX_TEXT characters, in a time that
grows with its length only; the recipient's and the sender's addresses in it decide nothing.
"""

import re
import tomllib
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec

MAX_TEXT = 1000
"""Characters: remote servers say what they mean in their first lines."""

_QUOTED = re.compile(r"^(?:host \S+ (?:said|refused to talk to me): )|\(in reply to [a-z -]+ command\)?$")
_CODES = re.compile(r"(?<!\S)[245]\d\d[- ](?:\s*#?[245]\.\d{1,3}\.\d{1,3}\s)?|(?<!\S)#?[245]\.\d{1,3}\.\d{1,3}(?!\S)")
_ADDRESSES = re.compile(r"https?://\S*|<[^<>]*>|[^\s<>()\[\]]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_BLANKS = re.compile(r"\s+")
_DOMAIN = re.compile(
    r"(?:blocked using|blocked by|listed (?:at|in|by|on)) (?:https?://)?((?:[a-z0-9-]{1,30}\.){1,5}[a-z]{2,12})\b"
)


class Kind(StrEnum):
    UNKNOWN_RECIPIENT = "unknown_recipient"
    LISTED = "listed"
    SPAM = "spam"
    RATE = "rate"
    MAILBOX_FULL = "mailbox_full"
    OTHER = "other"


class Bounce(NamedTuple):
    kind: Kind
    list: str = ""
    """Who runs the list, or its domain, if the kind is LISTED and the text tells."""


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    source: list[str]
    patterns: list[str]
    permanent: bool = False


class _List(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    source: str
    marks: list[str]
    alone: bool = False


class _Data(msgspec.Struct, forbid_unknown_fields=True):
    sources: dict[str, str]
    rules: list[_Rule]
    codes: dict[str, Kind]
    lists: list[_List]


def classify(dsn: str, text: str) -> Bounce:
    """The kind of a failed delivery; `dsn` is its enhanced status code, `text` what stands in the parentheses."""
    whole = text[:MAX_TEXT].lower()
    data, patterns = _data()
    words = _words(whole)
    named = next((one for one in data.lists if any(mark in whole for mark in one.marks)), None)
    for rule, pattern in patterns:
        if rule.kind is Kind.LISTED and named is not None and named.alone:
            return Bounce(Kind.LISTED, named.name)
        if pattern.search(words) and (dsn.startswith("5") or not rule.permanent):
            return Bounce(rule.kind, _list_of(whole, named) if rule.kind is Kind.LISTED else "")
    return Bounce(data.codes.get(dsn.partition(".")[2], Kind.OTHER))


def _words(text: str) -> str:
    """What is said, on one line."""
    for ignored in (_QUOTED, _ADDRESSES, _CODES):
        text = ignored.sub(" ", text)
    return _BLANKS.sub(" ", text)


def _list_of(text: str, named: _List | None) -> str:
    domain = _DOMAIN.search(text)
    if named is not None:
        return named.name
    return domain[1] if domain else ""


@cache
def _data() -> tuple[_Data, list[tuple[_Rule, re.Pattern[str]]]]:
    text = resources.files(__package__).joinpath("bounces.toml").read_text(encoding="utf-8")
    data = msgspec.convert(tomllib.loads(text), _Data)
    return data, [(rule, re.compile("|".join(rule.patterns))) for rule in data.rules]
