"""A rule's line, taken apart: `ITEM OPERATOR VALUE; ITEM OPERATOR VALUE; …`.

Facts: which operator it is settles the leftmost match; a `;` cannot be written in a value; what ends in `ITEM=` is
refused, but not what ends in `ITEM!=` (postfwd 1.35 and 2.03).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from weir.rules import actions
from weir.rules.origins import Text
from weir.rules.reader import Line

_OPERATOR = re.compile(r"[=~<>]=|[<>]|[=!][=~<>]|=")
_ITEM = re.compile(r"\w[-\w.]*", re.ASCII)
_VARIABLE = re.compile(r"\$\$\(?(\w+)\)?", re.ASCII)
_ALIASES = {">=": "=>", "<=": "=<", "~=": "=~"}
_ACTION = re.compile(r"(?:OK|DUNNO|REJECT|DEFER|HOLD|WARN|[45]\d\d)\b|(\w+)\s*\(", re.IGNORECASE | re.ASCII)
_SHOWN = 40


class PieceError(ValueError):
    """What is wrong, and at which offset among all that was read."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class Piece(NamedTuple):
    item: str
    operator: str
    """One of `= == != =~ !~ => =< > < !> !<`."""
    value: Text
    """Without blanks around it; empty in `ITEM=;`."""
    start: int
    """Offset of its first character."""
    value_start: int
    """Offset of its value, or of where that should be."""


class Blank(NamedTuple):
    """Nothing between two semicolons."""

    start: int


def pieces(line: Line) -> Iterator[Piece | Blank | PieceError]:
    """What a line says, piece by piece."""
    parts = list(_split(line.text))
    last = max((index for index, (text, _) in enumerate(parts) if text), default=-1)
    if last < 0:
        return
    for index, (text, after) in enumerate(parts[: last + 1]):
        if text:
            yield _piece(text, index == last)
        else:
            yield Blank(after)


def _split(text: Text) -> Iterator[tuple[Text, int]]:
    """The parts between semicolons, and the offset of what ends each."""
    start = 0
    for part in text.characters.split(";"):
        end = start + len(part)
        if text:
            yield text[start:end].strip(), text.offsets[min(end, len(text.offsets) - 1)]
        start = end + 1


def _piece(text: Text, is_last: bool) -> Piece | PieceError:
    start = text.offsets[0]
    found = _OPERATOR.search(text.characters)
    if found is None:
        return PieceError(f"expected ITEM=VALUE, got {_shown(text.characters)}{_hint(text.characters)}", start)
    item = text.characters[: found.start()].strip()
    if not _ITEM.fullmatch(item):
        what = _shown(item) if item else "nothing"
        return PieceError(f"expected an item before {found[0]}, got {what}{_hint(item)}", start)
    value = text[found.end() :].strip()
    if not value and is_last and found[0] == "=":
        return PieceError(f"expected a value after {item}=", text.offsets[found.start()])
    value_start = value.offsets[0] if value else text.offsets[found.start()]
    return Piece(item, _ALIASES.get(found[0], found[0]), value, start, value_start)


def _hint(text: str) -> str:
    """For an item with `$$`, and for an action without its `action=`."""
    if variable := _VARIABLE.fullmatch(text):
        return f"; did you mean {variable[1]}?"
    found = _ACTION.match(text)
    if found is None or (found[1] is not None and found[1] not in actions.FUNCTIONS):
        return ""
    return ": an action is written action=…"


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
