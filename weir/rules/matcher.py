"""Which rules match a request, all rules at once.

    candidates = matcher.begin(items)
    number = matcher.find(candidates, 0, context)      # -1: no further rule
    matcher.update(candidates, "AUTH", "1")            # after set()
    number = matcher.find(candidates, number + 1, context)

For each item that rules look at, a value gives a vector: an int whose bit n is set if rule n's conditions on that item
hold, or if it has none. The vectors of all items ANDed are the candidates. (Packet classification by bit vectors:
T. V. Lakshman and D. Stiliadis, SIGCOMM 1998.) Most values come again, so their vectors are kept for a while.

Invariants
- A vector depends on its item's value alone. Conditions that look at more are tested one by one, for candidates only.
- What is kept is bounded, whatever clients send; so is the time that patterns may take for one request.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from typing import Protocol

from weir.rules import items, lists
from weir.rules.addresses import Network, Networks
from weir.rules.conditions import Alternatives, Comparison, Context, Static, Test, compile_alternatives, number
from weir.rules.items import Kind
from weir.rules.rule import Condition, Rule, RuleError, RulesError, Ruleset

KEPT = 4096
"""Vectors in each of the two generations of an item."""
LONGEST_KEPT = 256
"""Characters of a value whose vector is kept."""
LATE_MOST = 5
"""Patterns that may run past their deadlines in one request; then the rest of them find nothing."""

_NEVER_AGAIN = frozenset(("queue_id", "instance", "client_port"))
"""Items whose values hardly ever come again."""
_CHANGING = frozenset(
    ("request_score", "score", "ratecount", "matches", "request_hits", "rblcount", "rhsblcount", "dnsbltext")
)
"""Items that change while rules are gone through, and are looked at by few."""


class Candidates:
    """The rules whose conditions on the items alone hold, as of the items' present values."""

    __slots__ = ("bits", "vectors")

    def __init__(self, bits: int, vectors: list[int]) -> None:
        self.bits = bits
        self.vectors = vectors


class _TooLateError(Exception):
    """Patterns have had their time for this request."""


class _Index(Protocol):
    def find(self, value: str) -> int:
        """The vector of a value."""
        ...


class Matcher:
    """A rule set's conditions, except those that ask DNS."""

    def __init__(self, ruleset: Ruleset) -> None:
        """Raises RulesError if a condition cannot be compiled, which the reader has seen to."""
        self._ruleset = ruleset
        self._all = (1 << len(ruleset.rules)) - 1
        self._late_count = 0
        self._late_texts: dict[str, None] = {}
        self._dynamic: dict[int, list[tuple[str, Alternatives]]] = {}
        by_item: dict[str, dict[int, Alternatives]] = {}
        errors: list[RuleError] = []
        for rule in ruleset.rules:
            for item, conditions in _by_item(rule).items():
                try:
                    alternatives = compile_alternatives(conditions, self._late)
                except ValueError as error:
                    errors.append(RuleError(conditions[0].position, f"{item}: {error}"))
                    continue
                if alternatives.dynamic or item in _CHANGING:
                    self._dynamic.setdefault(rule.number, []).append((item, alternatives))
                else:
                    by_item.setdefault(item, {})[rule.number] = alternatives
        if errors:
            raise RulesError(errors)
        self._indexes = [(item, _index(item, found, self._all)) for item, found in by_item.items()]
        self._places = {item: place for place, (item, _) in enumerate(self._indexes)}

    def begin(self, items: Mapping[str, str]) -> Candidates:
        """Start with a request's items."""
        self._late_count = 0
        vectors = [index.find(items.get(item, "")) for item, index in self._indexes]
        return Candidates(self._together(vectors), vectors)

    def update(self, candidates: Candidates, item: str, value: str) -> None:
        """An item has another value now."""
        place = self._places.get(item)
        if place is None:
            return
        vector = self._indexes[place][1].find(value)
        if vector != candidates.vectors[place]:
            candidates.vectors[place] = vector
            candidates.bits = self._together(candidates.vectors)

    def find(self, candidates: Candidates, start: int, context: Context) -> int:
        """Number of the first rule from `start` on that matches, but for what it asks DNS; -1: none does."""
        bits = candidates.bits >> start
        while bits:
            skipped = (bits & -bits).bit_length() - 1
            start += skipped
            dynamic = self._dynamic.get(start)
            if dynamic is None or self._hold(dynamic, context):
                return start
            bits >>= skipped + 1
            start += 1
        return -1

    def take_trouble(self) -> str:
        """Patterns that ran past their deadline since this was last asked, by rule id; empty: none did."""
        if not self._late_texts:
            return ""
        texts, self._late_texts = self._late_texts, {}
        return "; ".join(f"{self._users(text)}: pattern {text} took too long" for text in texts)

    def _together(self, vectors: list[int]) -> int:
        bits = self._all
        for vector in vectors:
            bits &= vector
        return bits

    @staticmethod
    def _hold(dynamic: list[tuple[str, Alternatives]], context: Context) -> bool:
        try:
            return all(alternatives.hold(context.items.get(item, ""), context) for item, alternatives in dynamic)
        except _TooLateError:
            return False

    def _late(self, text: str) -> None:
        self._late_texts[text] = None
        self._late_count += 1
        if self._late_count >= LATE_MOST:
            raise _TooLateError

    def _users(self, text: str) -> str:
        """The ids of the rules that have a pattern; one of a live list is in none."""
        ids = [
            rule.id
            for rule in self._ruleset.rules
            if any(value.text == text for condition in rule.conditions for value in condition.values)
        ]
        return ", ".join(ids) or "a live list"


def _by_item(rule: Rule) -> dict[str, list[Condition]]:
    found: dict[str, list[Condition]] = {}
    for condition in rule.conditions:
        if not lists.is_dns(condition):
            found.setdefault(condition.item, []).append(condition)
    return found


def _index(item: str, found: Mapping[int, Alternatives], all_rules: int) -> _Index:
    indifferent = all_rules
    for rule in found:
        indifferent &= ~(1 << rule)
    if items.kind(item) is Kind.ADDRESS:
        return _AddressIndex(found, indifferent)
    if all(not (one.equal or one.tests) for one in found.values()):
        return _NumberIndex(found, indifferent)
    return _TextIndex(found, indifferent, 0 if item in _NEVER_AGAIN else KEPT)


class _Kept(ABC):
    """Vectors by value, in two generations: when the young one is full it becomes the old one, which is dropped."""

    def __init__(self, found: Mapping[int, Alternatives], indifferent: int, most: int) -> None:
        self._indifferent = indifferent
        self._tests = _merged(found)
        self._most = most
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._same: dict[int, int] = {}
        """Vectors by themselves: most values have one of a few, of which one object is enough."""

    def find(self, value: str) -> int:
        vector = self._young.get(value)
        return self._missing(value) if vector is None else vector

    @abstractmethod
    def _at_once(self, lowered: str) -> int:
        """The rules that are found without their tests, for a value in lower case."""

    def _missing(self, value: str) -> int:
        vector = self._old.get(value)
        if vector is None:
            lowered = value.lower()
            vector = self._indifferent | self._at_once(lowered)
            try:
                for needed, holds, rules in self._tests:
                    if needed in lowered and holds(value):
                        vector |= rules
            except _TooLateError:
                return vector  # not kept: in another request there may be time for the rest
        if self._most and len(value) <= LONGEST_KEPT:
            if len(self._young) >= self._most:
                self._old = self._young
                self._young = {}
                self._same = {}
            self._young[value] = self._same.setdefault(vector, vector)
        return vector


def _merged(found: Mapping[int, Alternatives]) -> list[tuple[str, Static, int]]:
    """Tests, each with what it needs and the rules that have it."""
    rules: dict[tuple[str, str, bool], int] = {}
    tests: dict[tuple[str, str, bool], Test] = {}
    for rule, alternatives in found.items():
        for test in alternatives.tests:
            rules[test.key] = rules.get(test.key, 0) | 1 << rule
            tests[test.key] = test
    return [(test.needed, test.holds, rules[key]) for key, test in tests.items()]


class _TextIndex(_Kept):
    """Equality by one look-up, everything else one by one."""

    def __init__(self, found: Mapping[int, Alternatives], indifferent: int, most: int) -> None:
        super().__init__(found, indifferent, most)
        self._equal: dict[str, int] = {}
        for rule, alternatives in found.items():
            for text in alternatives.equal:
                self._equal[text] = self._equal.get(text, 0) | 1 << rule
        numbers = {rule: Alternatives(comparisons=one.comparisons) for rule, one in found.items() if one.comparisons}
        self._numbers = _NumberIndex(numbers, 0) if numbers else None

    def _at_once(self, lowered: str) -> int:
        found = self._equal.get(lowered, 0)
        return found if self._numbers is None else found | self._numbers.find(lowered)


class _AddressIndex(_Kept):
    """Networks by one look-up for each length of prefix."""

    def __init__(self, found: Mapping[int, Alternatives], indifferent: int) -> None:
        super().__init__(found, indifferent, KEPT)
        marked: dict[Network, int] = {}
        for rule, alternatives in found.items():
            for network in alternatives.networks:
                marked[network] = marked.get(network, 0) | 1 << rule
        self._networks = Networks(marked.items())

    def _at_once(self, lowered: str) -> int:
        return self._networks.find(lowered)


class _NumberIndex:
    """Comparisons with numbers: a value's vector depends only on where it lies between the numbers compared with."""

    def __init__(self, found: Mapping[int, Alternatives], indifferent: int) -> None:
        self._indifferent = indifferent
        merged: dict[Comparison, int] = {}
        for rule, alternatives in found.items():
            for comparison in alternatives.comparisons:
                merged[comparison] = merged.get(comparison, 0) | 1 << rule
        self._comparisons = list(merged.items())
        self._numbers = sorted({comparison.number for comparison in merged})
        self._vectors: list[int | None] = [None] * (2 * len(self._numbers) + 1)
        """For each number compared with the values below it and itself, and at last those above all."""

    def find(self, value: str) -> int:
        counted = number(value)
        place = bisect_left(self._numbers, counted)
        exact = place < len(self._numbers) and self._numbers[place] == counted
        vector = self._vectors[2 * place + exact]
        if vector is None:
            vector = self._indifferent
            for comparison, rules in self._comparisons:
                if comparison.holds(counted):
                    vector |= rules
            self._vectors[2 * place + exact] = vector
        return vector
