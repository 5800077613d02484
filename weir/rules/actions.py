"""The text of an action, parsed when the rules are loaded.

    rate(sasl_username/100/3600/jump(SLOW))    a function whose argument is a function
    REJECT too many, $$sasl_username           a reply to Postfix, verbatim but for `$$` names

A word directly followed by `(` is a function, and so is a function's name with blanks before the `(`; everything else
is a reply, `REJECT (see policy)` too.

Invariant: what is a function, and what its arguments are, is settled here. A value that takes the place of a `$$` name
later is text for ever: it is not looked at for names, functions, commas or slashes.
"""

import difflib
import re
from collections.abc import Callable, Mapping

import msgspec

from weir.rules import patterns

LIMITS = ("rate", "size", "rcpt", "rate5321", "size5321", "rcpt5321")
GROUP_SECONDS = 3600.0
"""How long a value stays in a group if `groupadd` does not say (postfwd 2.03)."""

_VARIABLE = re.compile(r"\$\$\s*(?:(\w+)|\((\w+)\))", re.ASCII)
_FUNCTION = re.compile(r"(\s*)(\w[-\w]*)(\s*)\(", re.ASCII)
_ITEM = re.compile(r"\w[-\w.]*", re.ASCII)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_ASSIGNMENT = re.compile(r"\s*([^=]+?)\s*([-.*/+=]=|=[-.*/+=]|=)\s*(.*?)\s*", re.DOTALL)
_ASKED = re.compile(r"(\[[^\]\s]+\]|[^:\s]+):(\d{1,5})(?::(.*))?", re.ASCII | re.DOTALL)
_POSTFIX = re.compile(
    r"OK|DUNNO|REJECT|DEFER(_IF_REJECT|_IF_PERMIT)?|HOLD|DISCARD|WARN|INFO|PREPEND|FILTER|REDIRECT|BCC|[45]\d\d",
    re.IGNORECASE | re.ASCII,
)
"""Actions of access(5)."""
_SECONDS = "seconds"
_DEEPEST = 32
_SHOWN = 60


class ActionError(ValueError):
    """What is wrong, and at which character of the action's text (from 0)."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class Text(msgspec.Struct, frozen=True):
    """Text with `$$name` or `$$(name)` in it, or plain."""

    written: str
    names: tuple[str, ...] = ()

    def render(self, items: Mapping[str, str]) -> str:
        """With the items' values, in one pass. A name that is no item stays as it is written."""
        if not self.names:
            return self.written
        return _VARIABLE.sub(lambda found: items.get(found[1] or found[2], found[0]), self.written)


def text(written: str) -> Text:
    return Text(written, tuple(found[1] or found[2] for found in _VARIABLE.finditer(written)))


Number = float | Text
"""A number; or a text, which is one if the items that it names are."""


class Reply(msgspec.Struct, frozen=True):
    text: Text


class Jump(msgspec.Struct, frozen=True):
    rule: Text
    """Id of the rule to go on with."""


class Assignment(msgspec.Struct, frozen=True):
    item: str
    operator: str
    """Empty, or one of `. + - * /`: what the item's value becomes is made of the old one and `value`."""
    value: Text


class Set(msgspec.Struct, frozen=True):
    assignments: tuple[Assignment, ...]


class Score(msgspec.Struct, frozen=True):
    operator: str
    """One of `+ - * / =`."""
    points: Number | None
    """None: the score stays; it is only compared with its limits."""


class Note(msgspec.Struct, frozen=True):
    text: Text


class Wait(msgspec.Struct, frozen=True):
    seconds: Number


class Ask(msgspec.Struct, frozen=True):
    address: str
    port: int
    ignored: str
    """An answer in which this pattern is found says nothing; empty: every answer counts."""


class Mail(msgspec.Struct, frozen=True):
    """Both `mail` and `sendmail`; one of server and path is empty."""

    server: Text
    path: Text
    helo: Text
    sender: Text
    recipient: Text
    subject: Text
    body: Text


class GroupAdd(msgspec.Struct, frozen=True):
    group: str
    item: str
    seconds: float


class GroupDelete(msgspec.Struct, frozen=True):
    group: str
    item: str


class Count(msgspec.Struct, frozen=True):
    """One of the six limits."""

    function: str
    item: str
    maximum: Number
    seconds: Number
    over: "Action | None"
    """What is done beyond the maximum. None: nothing, so nothing is counted either."""

    @property
    def idle(self) -> bool:
        """Whether it never does anything."""
        return self.over is None or self.maximum == 0 or self.seconds == 0


Action = Reply | Jump | Set | Score | Note | Wait | Ask | Mail | GroupAdd | GroupDelete | Count


def parse(written: str) -> Action:
    """The action that a text is. Raises ActionError."""
    return _parse(written, 0, 0)


def names(action: Action) -> set[str]:
    """All items that an action reads."""
    found: set[str] = set()
    for part in _parts(action):
        if isinstance(part, Text):
            found.update(part.names)
        elif isinstance(part, Count | GroupAdd | GroupDelete | Assignment):
            found.add(part.item)
    return found


def every(action: Action) -> list[Action]:
    """An action and those in its arguments, from the outside in."""
    found = [action]
    while isinstance(action, Count) and action.over is not None:
        action = action.over
        found.append(action)
    return found


def _parts(value: object) -> list[object]:
    """A structure and all in it."""
    found = [value]
    if isinstance(value, tuple):
        found += [part for element in value for part in _parts(element)]
    elif isinstance(value, msgspec.Struct):
        found += [part for name in value.__struct_fields__ for part in _parts(getattr(value, name))]
    return found


def _parse(written: str, offset: int, depth: int) -> Action:
    found = _FUNCTION.match(written)
    if found is None or (found[3] and found[2] not in FUNCTIONS):
        return Reply(text(written))
    name = found[2]
    start = offset + found.start(2)
    if name not in FUNCTIONS:
        raise ActionError(f"there is no function {name}(){_nearest(name)}", start)
    if depth == _DEEPEST:
        raise ActionError(f"more than {_DEEPEST} functions in one another", start)
    body = written[found.end() :].rstrip()
    if not body.endswith(")"):
        raise ActionError(f"{name}: expected ) at the end, got {_shown(body)}", start)
    argument = body[:-1]
    inner = argument.strip()
    return FUNCTIONS[name](name, inner, offset + found.end() + len(argument) - len(argument.lstrip()), depth)


def _nearest(name: str) -> str:
    if _POSTFIX.fullmatch(name):
        return f": Postfix's {name} has a blank before its text"
    near = difflib.get_close_matches(name.lower(), FUNCTIONS, 1)
    return f"; did you mean {near[0]}()?" if near else ""


def _shown(written: str) -> str:
    return repr(written if len(written) <= _SHOWN else written[:_SHOWN] + "…")


def _pieces(argument: str, separator: str, most: int) -> list[tuple[str, int]]:
    """The parts of an argument, each with its offset; the last one may contain the separator."""
    pieces = []
    offset = 0
    for piece in argument.split(separator, most - 1):
        pieces.append((piece, offset))
        offset += len(piece) + len(separator)
    return pieces


def _item(name: str, written: str, offset: int) -> str:
    """An item's name. It may be written as a variable: older rules do, and mean the item."""
    found = _VARIABLE.fullmatch(written)
    item = (found[1] or found[2]) if found else written
    if not _ITEM.fullmatch(item):
        raise ActionError(f"{name}: expected an item, got {_shown(written)}", offset)
    return item


def number(written: str) -> float | None:
    """The number that a text is: digits, a sign before and decimals behind at most."""
    return float(written) if _NUMBER.fullmatch(written) else None


def _number(name: str, meaning: str, written: str, offset: int) -> Number:
    made = text(written)
    if made.names:
        return made
    value = number(written)
    if value is None or (value < 0 and meaning == _SECONDS):
        raise ActionError(f"{name}: expected {meaning} as a number, got {_shown(written)}", offset)
    return value


def _jump(_name: str, argument: str, _offset: int, _depth: int) -> Jump:
    return Jump(text(argument))


def _set(name: str, argument: str, offset: int, _depth: int) -> Set:
    assignments = []
    pieces = argument.removesuffix(",")
    for piece, start in _pieces(pieces, ",", pieces.count(",") + 1):
        found = _ASSIGNMENT.fullmatch(piece)
        if found is None or not _ITEM.fullmatch(found[1]):
            raise ActionError(f"{name}: expected ITEM=VALUE, got {_shown(piece)}", offset + start)
        operator = found[2].replace("=", "", 1).strip("=")
        assignments.append(Assignment(found[1], operator, text(found[3])))
    return Set(tuple(assignments))


def _score(name: str, argument: str, offset: int, _depth: int) -> Score:
    if not argument:
        return Score("+", None)
    operator, points = (argument[0], argument[1:]) if argument[0] in "+-*/=" else ("+", argument)
    if points.startswith("-"):
        raise ActionError(f"{name}: expected a number after {operator}, got {_shown(points)}", offset)
    return Score(operator, _number(name, "points", points.replace(",", "."), offset))


def _note(_name: str, argument: str, _offset: int, _depth: int) -> Note:
    return Note(text(argument))


def _wait(name: str, argument: str, offset: int, _depth: int) -> Wait:
    return Wait(_number(name, _SECONDS, argument, offset))


def _ask(name: str, argument: str, offset: int, _depth: int) -> Ask:
    found = _ASKED.fullmatch(argument)
    if found is None or not 0 < int(found[2]) < 65536:
        raise ActionError(f"{name}: expected ADDRESS:PORT or ADDRESS:PORT:PATTERN, got {_shown(argument)}", offset)
    ignored = found[3] or ""
    try:
        if ignored:
            patterns.compile(ignored)
    except patterns.PatternError as error:
        raise ActionError(f"{name}: {error}", offset + found.start(3) + error.offset) from error
    return Ask(found[1].strip("[]"), int(found[2]), ignored)


def _mail(name: str, argument: str, offset: int, _depth: int) -> Mail:
    parts = argument.split("/", 5)
    if len(parts) < 6:
        raise ActionError(f"{name}: expected SERVER/HELO/FROM/TO/SUBJECT/BODY, got {_shown(argument)}", offset)
    server, helo, *message = map(text, parts)
    return Mail(server, text(""), helo, *message)


def _sendmail(name: str, argument: str, offset: int, _depth: int) -> Mail:
    parts = argument.split("::", 4)
    if len(parts) < 5:
        raise ActionError(f"{name}: expected PATH::FROM::TO::SUBJECT::BODY, got {_shown(argument)}", offset)
    path, *message = map(text, parts)
    return Mail(text(""), path, text(""), *message)


def _group(name: str, argument: str, offset: int, most: int) -> list[tuple[str, int]]:
    pieces = [(piece.strip(), offset + start) for piece, start in _pieces(argument, "/", argument.count("/") + 1)]
    if not 2 <= len(pieces) <= most or not _ITEM.fullmatch(pieces[0][0].removeprefix("%%")):
        raise ActionError(f"{name}: expected %%GROUP/ITEM{'/SECONDS' * (most - 2)}, got {_shown(argument)}", offset)
    return pieces


def _groupadd(name: str, argument: str, offset: int, _depth: int) -> GroupAdd:
    group, item, *rest = _group(name, argument, offset, 3)
    seconds = _number(name, _SECONDS, *rest[0]) if rest else 0.0
    if isinstance(seconds, Text):
        raise ActionError(f"{name}: expected seconds as a number, got {_shown(rest[0][0])}", rest[0][1])
    return GroupAdd(group[0].removeprefix("%%"), _item(name, *item), seconds or GROUP_SECONDS)


def _groupdel(name: str, argument: str, offset: int, _depth: int) -> GroupDelete:
    group, item = _group(name, argument, offset, 2)
    return GroupDelete(group[0].removeprefix("%%"), _item(name, *item))


def _count(name: str, argument: str, offset: int, depth: int) -> Count:
    pieces = [(piece, offset + start) for piece, start in _pieces(argument, "/", 4)]
    item = _item(name, *pieces[0])
    numbers = [
        _number(name, meaning, *piece) if piece[0] else 0.0
        for meaning, piece in zip(("a maximum", _SECONDS), pieces[1:3], strict=False)
    ]
    maximum, seconds = (*numbers, 0.0, 0.0)[:2]
    over = _parse(*pieces[3], depth + 1) if len(pieces) == 4 and pieces[3][0] else None
    return Count(name, item, maximum, seconds, over)


FUNCTIONS: dict[str, Callable[[str, str, int, int], Action]] = {
    "jump": _jump,
    "set": _set,
    "score": _score,
    "note": _note,
    "wait": _wait,
    "ask": _ask,
    "mail": _mail,
    "sendmail": _sendmail,
    "groupadd": _groupadd,
    "groupdel": _groupdel,
    **dict.fromkeys(LIMITS, _count),
}
"""How each function's argument is read: its name, the argument, the argument's offset, how deep it stands."""
