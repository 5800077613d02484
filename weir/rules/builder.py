"""One rule after the other from the lines of rule files, with checks of all that a rule says."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from weir.rules import actions, items
from weir.rules.origins import Text
from weir.rules.pieces import Blank, Piece, PieceError, pieces
from weir.rules.reader import Line, Reader
from weir.rules.rule import Action, Condition, LiveFile, Position, Rule, Value
from weir.rules.tables import Entry, Lists, reference
from weir.rules.values import check, element, offset_of

_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_SCORE = re.compile(r"[-+]?\d+(?:\.\d+)?", re.ASCII)
_TWICE = re.compile(r"action\s*=", re.ASCII)
_ACTION = re.compile(r"\saction\s*=", re.ASCII)


class Builder:
    """Makes rules of lines. Errors and warnings go to the reader's."""

    def __init__(self, reader: Reader) -> None:
        self.rules: list[Rule] = []
        self._reader = reader
        self._lists = Lists(live=False, fault=reader.fault)
        self._live = Lists(live=True, fault=reader.warn, loop=reader.fault)
        self._seen: set[tuple[str, str, LiveFile]] = set()
        """Items and operators with live lists whose present content was looked at."""

    @property
    def files(self) -> Iterator[Path]:
        """The lists that were read, live ones too."""
        yield from self._lists.files
        yield from self._live.files

    def add(self, line: Line) -> None:
        """Take in a line: a rule more, or what is wrong with it."""
        parts: dict[str, Any] = {}
        rule_actions: list[Action] = []
        conditions: list[Condition] = []
        for piece in pieces(line):
            match piece:
                case PieceError():
                    self._error(piece.offset, str(piece))
                case Blank():
                    self._warn(piece.start, "nothing between two semicolons")
                case Piece(item="action"):
                    rule_actions += self._action(piece)
                case Piece() if piece.item in items.SETTINGS:
                    if piece.item in parts:
                        self._warn(piece.start, f"{piece.item} is given more than once: the last one counts")
                    parts[piece.item] = self._setting(piece)
                case _:
                    conditions.append(self._condition(piece))
        if "score" in parts:  # such a rule never matches: it only says what is done at that score
            conditions.append(Condition("score", "=", (), self._reader.position(line.start)))
        if rule_actions:
            number = len(self.rules)
            self.rules.append(
                Rule(
                    number=number,
                    id=parts.get("id") or f"R-{number}",
                    named=bool(parts.get("id")),
                    position=self._reader.position(line.start),
                    conditions=tuple(conditions),
                    actions=tuple(rule_actions),
                    **{name: parts[name] for name in ("rblcount", "rhsblcount", "score") if name in parts},
                )
            )
        elif line.text:
            self._warn(line.start, f"a rule without action does nothing{_hint(conditions)}")

    def _action(self, piece: Piece) -> Iterator[Action]:
        text = piece.value.characters
        if not text:
            self._error(piece.start, "expected an action after action=")
            return
        if _TWICE.match(text):
            self._warn(piece.value_start, "this action begins with action=, which goes to Postfix as it is")
        try:
            actions.parse(text)
        except actions.ActionError as error:
            self._reader.fault(self._place(piece.value, error.offset, piece.value_start), str(error))
        yield Action(text, self._reader.position(piece.value_start))

    def _setting(self, piece: Piece) -> Any:
        """The value of what stands in a rule like a condition and is none."""
        text = piece.value.characters
        match piece.item:
            case "id":
                if not text:
                    self._warn(piece.start, "an empty id: it is as if there were none")
                return text
            case "cache":
                self._warn(piece.start, "cache= has no effect: there is no cache of requests")
            case "score":
                if _SCORE.fullmatch(text):
                    return float(text)
                self._error(piece.value_start, f"score: expected a number, got {text or 'nothing'}")
            case _:
                if text == "all":
                    return None
                if _COUNT.fullmatch(text):
                    return max(int(text), 1)
                self._error(piece.value_start, f"{piece.item}: expected a number or all, got {text or 'nothing'}")
        return None

    def _condition(self, piece: Piece) -> Condition:
        values = [value for part in self._elements(piece) for value in self._values(piece, part)]
        return Condition(piece.item, piece.operator, tuple(values), self._reader.position(piece.start))

    def _elements(self, piece: Piece) -> Iterator[Text]:
        """A value, or those of a list that are separated by commas."""
        text = piece.value
        if piece.item not in items.LISTS or "," not in text.characters:
            yield text
            return
        start = 0
        empty = True
        for part in text.characters.split(","):
            end = start + len(part)
            if part.strip():
                empty = False
                yield text[start:end].strip()
            else:
                self._warn(text.offsets[min(end, len(text.offsets) - 1)], "nothing between two commas")
            start = end + 1
        if empty:
            yield text[:0]

    def _values(self, piece: Piece, part: Text) -> Iterator[Value]:
        """What an element stands for: itself, or all that is in a list."""
        start = part.offsets[0] if part else piece.value_start
        try:
            text, negated, inner = element(part.characters)
        except ValueError as error:
            self._reader.fault(self._place(part, offset_of(error), start), f"{piece.item}: {error.args[0]}")
            return
        position = self._place(part, inner, start)
        named = reference(text)
        if named is None:
            self._check(piece, text, lambda offset: self._place(part, inner + offset, start))
            yield Value(text, position, negated)
        elif named.live:
            yield self._live_value(piece, Entry(text, negated, position), named.file)
        else:
            for entry in self._lists.entries(named.file, negated, position):
                if entry.live is not None:
                    yield self._live_value(piece, entry, entry.live)
                else:
                    self._check(piece, entry.text, entry.place)
                    yield Value(entry.text, entry.position, entry.negated)

    def _check(self, piece: Piece, text: str, place: Callable[[int], Position]) -> None:
        """`place` tells where a character of the text stands."""
        try:
            warning = check(piece.item, piece.operator, text)
        except ValueError as error:
            self._reader.fault(place(offset_of(error)), f"{piece.item}: {error.args[0]}")
        else:
            if warning is not None:
                self._reader.warn(place(0), f"{piece.item}: {warning}")

    def _live_value(self, piece: Piece, entry: Entry, live: LiveFile) -> Value:
        """A live list, with warnings of what is wrong with its present content."""
        if (piece.item, piece.operator, live) not in self._seen:
            self._seen.add((piece.item, piece.operator, live))
            for inner in self._live.entries(live, entry.negated, entry.position):
                try:
                    check(piece.item, piece.operator, inner.text)
                except ValueError as error:
                    self._reader.warn(inner.place(offset_of(error)), f"{piece.item}: left out: {error.args[0]}")
            if self._live.files[live.path] is None:
                self._reader.warn(entry.position, f"{live.path} is not there: the list is empty until it is")
        return Value(entry.text, entry.position, entry.negated, live)

    def _place(self, text: Text, index: int, otherwise: int) -> Position:
        """Where a character of a text stands, or its last one if it is shorter; `otherwise` if it is empty."""
        offset = text.offsets[min(index, len(text.offsets) - 1)] if text else otherwise
        return self._reader.position(offset)

    def _error(self, offset: int, text: str) -> None:
        self._reader.fault(self._reader.position(offset), text)

    def _warn(self, offset: int, text: str) -> None:
        self._reader.warn(self._reader.position(offset), text)


def _hint(conditions: list[Condition]) -> str:
    """Where the action of a rule without one may be."""
    for condition in conditions:
        if items.nearest(condition.item) == "action":
            return f": is {condition.item} meant as action?"
    if any(_ACTION.search(value.text) for condition in conditions for value in condition.values):
        return ": is a ; missing before action=?"
    return ""
