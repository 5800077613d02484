"""Why a delivery failed: the kind of a bounce or a deferral, by the data in bounces.toml.

Invariants: anything has a kind, `other` if nothing is known; a text is judged up to MAX_TEXT characters, in a time that
grows with its length only; the recipient's and the sender's addresses in it decide nothing.
"""

import re
import tomllib
from enum import StrEnum
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

import msgspec

MAX_TEXT = 1000
"""Characters: remote servers say what they mean in their first lines."""

_PREFIX = re.compile(r"^host \S+ (?:said|refused to talk to me): ")
_SUFFIX = re.compile(r"\(in reply to ([a-z -]+) command\)?$")
_ADDRESSES = re.compile(r"<[^<>]*>|[^\s<>()\[\]]+@[a-z0-9-]+(?:\.[a-z0-9-]+)*")
_URLS = re.compile(r"https?://([^\s/?]+(?:/[a-z-]+)*)\S*")
_IDENTITIES = re.compile(r"(?<!\S)(?=(?:[^\s/\[]*\d){3})[^\s/\[]{12,}(?!\S)")
_CODES = re.compile(r"(?<!\S)[245]\d\d[- ](?:\s*#?[245]\.\d{1,3}\.\d{1,3}\s)?|(?<!\S)#?[245]\.\d{1,3}\.\d{1,3}(?!\S)")
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


class Bounce(msgspec.Struct, frozen=True, gc=False):
    kind: Kind
    list: str = ""
    """Who runs the list, or its domain, if the kind is LISTED and the text tells."""


class _Rule(msgspec.Struct, forbid_unknown_fields=True):
    kind: Kind
    source: list[str]
    patterns: list[str]
    permanent: bool = False
    command: str = ""
    """Of SMTP; the rule holds for replies to it alone."""


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


class _Compiled(NamedTuple):
    rules: list[tuple[_Rule, re.Pattern[str]]]
    lists: list[tuple[_List, re.Pattern[str]]]
    codes: dict[str, Kind]


def classify(dsn: str, text: str) -> Bounce:
    """The kind of a failed delivery; `dsn` is its enhanced status code, `text` what stands in the parentheses."""
    text = text[:MAX_TEXT].lower()
    said = _PREFIX.sub("", text)
    stage = _SUFFIX.search(said)
    said = said[: stage.start()] if stage else said
    for pattern, left in ((_ADDRESSES, " "), (_URLS, r" http://\1 "), (_IDENTITIES, " "), (_BLANKS, " ")):
        said = pattern.sub(left, said)
    bounce = _judge(dsn, said, stage[1] if stage else "")
    if bounce.kind is Kind.LISTED and not bounce.list:
        return Bounce(Kind.LISTED, _name(text))  # by the host that refuses
    return bounce


@lru_cache(maxsize=4096)
def _judge(dsn: str, said: str, command: str) -> Bounce:
    """Most servers say the same again and again, but for what was taken out."""
    data = _data()
    words = _BLANKS.sub(" ", _CODES.sub(" ", _URLS.sub(" ", said))).strip()
    is_named = any(one.alone and marks.search(said) for one, marks in data.lists)
    for rule, pattern in data.rules:
        is_found = (
            pattern.search(words) and (dsn.startswith("5") or not rule.permanent) and rule.command in ("", command)
        )
        if rule.kind is Kind.LISTED and (is_named or is_found):
            domain = _DOMAIN.search(said)
            return Bounce(Kind.LISTED, _name(said) or (domain[1] if domain else ""))
        if is_found:
            return Bounce(rule.kind)
    return Bounce(data.codes.get(dsn) or data.codes.get(dsn.partition(".")[2], Kind.OTHER))


def _name(text: str) -> str:
    return next((one.name for one, marks in _data().lists if marks.search(text)), "")


@cache
def _data() -> _Compiled:
    text = resources.files(__package__).joinpath("bounces.toml").read_text(encoding="utf-8")
    data = msgspec.convert(tomllib.loads(text), _Data)
    return _Compiled(
        [(rule, re.compile("|".join(rule.patterns))) for rule in data.rules],
        [(one, re.compile(rf"(?<![a-z0-9])(?:{'|'.join(map(re.escape, one.marks))})")) for one in data.lists],
        data.codes,
    )
