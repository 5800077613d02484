"""Typed rules: what the reader makes of rule files, and all else works on.

Invariant: texts are as they were written, macros expanded and files read in; nothing here was ever sent by a client.
"""

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

_SLICE = 10_000


class Position(NamedTuple):
    """Where something stands; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class RuleError(NamedTuple):
    """One thing that is wrong with a rule file."""

    position: Position
    text: str

    def __str__(self) -> str:
        return f"{self.position}: {self.text}"


class RulesError(ValueError):
    """A rule file cannot be used: all that is wrong with it, in the order of the text."""

    def __init__(self, errors: list[RuleError]) -> None:
        self.errors = errors
        super().__init__("\n".join(map(str, errors)))


class LiveFile(NamedTuple):
    """A list that is read again whenever its file is newer: `lfile:` or, if `is_table`, `ltable:`."""

    path: Path
    is_table: bool


class Value(msgspec.Struct, frozen=True):
    """One element of a condition's list."""

    text: str
    position: Position
    """In the rule file or in the file that the list names."""
    negated: bool = False
    """Written `!!(…)`."""
    live: LiveFile | None = None
    """If set, the elements are this file's lines, and `text` says only how it was written."""


class Condition(msgspec.Struct, frozen=True):
    """`ITEM OPERATOR VALUE`. The operator is one of `= == != =~ !~ => =< > < !> !<` (aliases are resolved)."""

    item: str
    operator: str
    values: tuple[Value, ...]
    """One of them must hold; empty if a file held nothing, and then it never does."""
    position: Position


class Action(msgspec.Struct, frozen=True):
    """One `action=` as it was written, with `$$` names and all."""

    text: str
    position: Position


class Rule(msgspec.Struct, frozen=True, dict=True):
    """Conditions on one item are alternatives; those on different items must all hold."""

    number: int
    """Its place in the rule set, from 0."""
    id: str
    """As written, or `R-NUMBER`."""
    named: bool
    """Whether its id was written."""
    position: Position
    conditions: tuple[Condition, ...]
    actions: tuple[Action, ...]
    rblcount: int | None = 1
    """Listings by `rbl` that are needed; None: `all`, which never fails."""
    rhsblcount: int | None = 1
    score: float | None = None
    """`score=N`: the rule itself never matches; its action is the answer to requests that reach a score of N."""

    @cached_property
    def canonical(self) -> str:
        """The rule in one spelling: the same for rules that differ in layout or file only."""
        lines = [f"id={self.id}"]
        lines += [f"rblcount={self.rblcount or 'all'}"] * (self.rblcount != 1)
        lines += [f"rhsblcount={self.rhsblcount or 'all'}"] * (self.rhsblcount != 1)
        lines += [f"score={self.score}"] * (self.score is not None)
        lines += _sorted(
            f"{condition.item}{condition.operator}{'!!' * value.negated}{value.text}"
            for condition in self.conditions
            for value in condition.values
        )
        lines += [f"action={action.text}" for action in self.actions]
        return "; ".join(lines)

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of the canonical text: the rule's name in the fleet."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:16]


def _sorted(texts: Iterable[str]) -> Iterator[str]:
    """In slices, for lists of hundreds of thousands: one call would hold the interpreter, and so all other threads, for
    a tenth of a second."""
    rest = iter(texts)
    slices = []
    while part := sorted(islice(rest, _SLICE)):
        slices.append(part)
    return heapq.merge(*slices)


class RuleWarning(NamedTuple):
    """Something that works, but hardly as it was meant."""

    position: Position
    text: str

    def __str__(self) -> str:
        return f"{self.position}: {self.text}"


class Ruleset(msgspec.Struct, frozen=True, dict=True):
    rules: tuple[Rule, ...]
    files: tuple[Path, ...] = ()
    """All that was read: rule files, and the lists that they name."""
    warnings: tuple[RuleWarning, ...] = ()
    """What the reader noticed, such as blank pieces and `cache=`."""

    @cached_property
    def by_id(self) -> dict[str, int]:
        """Number of the rule that a jump to an id goes to: of several the last."""
        return {rule.id: rule.number for rule in self.rules}

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell one rule set from another."""
        return hashlib.sha256("\n".join(rule.canonical for rule in self.rules).encode()).hexdigest()[:16]
