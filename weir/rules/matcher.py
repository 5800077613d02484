"""Which rules match a request, all rules at once.

    candidates = matcher.begin(items)
    for number in matcher.walk(candidates.bits, 0):    # in the order of the rules
        number in matcher.dynamic and not matcher.holds(number, context)   # this one does not match
    matcher.update(candidates, "AUTH", "1")            # after set(): walk on from the next rule

For each item that rules look at, a value gives a vector: an int whose bit n is set if rule n's conditions on that item
hold, or if it has none. The vectors of all items ANDed are the candidates. (Packet classification by bit vectors:
T. V. Lakshman and D. Stiliadis, SIGCOMM 1998.) Most values come again, so their vectors are kept for a while.

Invariants
- A vector depends on its item's value alone. Conditions that look at more are tested one by one, for candidates only.
- What is kept is bounded, whatever clients send; so is the time that patterns may take for one request.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

from weir.rules import items, lists
from weir.rules.addresses import Network, Networks
from weir.rules.conditions import (
    Alternatives,
    Comparison,
    Context,
    LiveLists,
    Static,
    Test,
    compile_alternatives,
    number,
)
from weir.rules.items import Kind
from weir.rules.rule import Condition, Rule, RuleError, RulesError, Ruleset

KEPT = 4096
"""Vectors in each of the two generations of an item."""
WALKS = 512
"""Walks kept: each may be as long as the rule set."""
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
    """The rules whose conditions on the items alone hold, as of the items' present values.

    Each of them has the vectors of all items that it looks at, and each other rule is ruled out by one that is there.
    So an item that no candidate looks at has no vector yet, and needs none.
    """

    __slots__ = ("bits", "items", "vectors")

    def __init__(self, items: Mapping[str, str], number: int) -> None:
        self.items = items
        self.vectors: list[int | None] = [None] * number
        self.bits = 0


class _TooLateError(Exception):
    """Patterns have had their time for this request."""


class _Late:
    """Patterns that ran past their deadline. Patterns know it and not the matcher: rules that are out of use are in no
    circle, so they are gone without a search for garbage."""

    def __init__(self) -> None:
        self._count = 0
        self._texts: dict[str, None] = {}

    def begin(self) -> None:
        """Of a request."""
        self._count = 0

    def add(self, text: str) -> None:
        """Raises _TooLateError if it is one too many for this request."""
        self._texts[text] = None
        self._count += 1
        if self._count >= LATE_MOST:
            raise _TooLateError

    def take(self) -> Iterable[str]:
        """Those since this was last asked, each once."""
        if not self._texts:
            return ()
        texts, self._texts = self._texts, {}
        return texts


class _Index(Protocol):
    @property
    def cost(self) -> int:
        """How much there may be to do for a value."""
        ...

    def find(self, value: str) -> int:
        """The vector of a value."""
        ...


class Matcher:
    """A rule set's conditions, except those that ask DNS."""

    def __init__(self, ruleset: Ruleset) -> None:
        """Raises RulesError if a condition cannot be compiled, which the reader has seen to."""
        self._ruleset = ruleset
        self._all = (1 << len(ruleset.rules)) - 1
        self._late = _Late()
        self._dynamic: dict[int, list[tuple[str, Alternatives]]] = {}
        by_item: dict[str, dict[int, Alternatives]] = {}
        errors: list[RuleError] = []
        for rule in ruleset.rules:
            for item, conditions in _by_item(rule).items():
                try:
                    alternatives = compile_alternatives(conditions, self._late.add)
                except ValueError as error:
                    errors.append(RuleError(conditions[0].position, f"{item}: {error}"))
                    continue
                if alternatives.dynamic or item in _CHANGING:
                    self._dynamic.setdefault(rule.number, []).append((item, alternatives))
                else:
                    by_item.setdefault(item, {})[rule.number] = alternatives
        if errors:
            raise RulesError(errors)
        indexes = [(item, _index(item, found, self._all), _bits(found)) for item, found in by_item.items()]
        indexes.sort(key=lambda one: one[1].cost)
        self._indexes = [(place, item, rules, index.find) for place, (item, index, rules) in enumerate(indexes)]
        """Cheap ones first, each with the rules that look at its item: what they rule out, nobody asks the others."""
        self._places = {item: place for place, item, _, _ in self._indexes}
        self._walks: dict[int, tuple[int, ...]] = {}

    def read_lists(self, tables: LiveLists) -> None:
        """Compile live lists as they are now: no request waits for it then."""
        for conditions in self._dynamic.values():
            for _, alternatives in conditions:
                alternatives.read_lists(tables)

    def begin(self, items: Mapping[str, str]) -> Candidates:
        """Start with a request's items."""
        self._late.begin()
        candidates = Candidates(items, len(self._indexes))
        candidates.bits = self._among(self._all, candidates)
        return candidates

    def update(self, candidates: Candidates, item: str, value: str) -> None:
        """An item has another value now."""
        place = self._places.get(item)
        if place is None:
            return
        vectors = candidates.vectors
        former = vectors[place]
        vector = vectors[place] = self._indexes[place][3](value)
        if former is None or vector == former:
            return
        candidates.bits &= vector
        if gained := vector & ~former:
            candidates.bits |= self._among(gained, candidates)

    def walk(self, bits: int, start: int) -> tuple[int, ...]:
        """The numbers of candidates from `start` on. Most requests have the candidates of others, so they are kept."""
        left = bits >> start << start
        numbers = self._walks.get(left)
        if numbers is None:
            if len(self._walks) >= WALKS:
                self._walks.clear()
            numbers = self._walks[left] = tuple(_numbers(left))
        return numbers

    @property
    def dynamic(self) -> Collection[int]:
        """The rules with conditions that look at more than their items."""
        return self._dynamic.keys()

    def holds(self, number: int, context: Context) -> bool:
        """Tell whether those conditions of such a rule hold."""
        try:
            return all(
                alternatives.hold(context.items.get(item, ""), context) for item, alternatives in self._dynamic[number]
            )
        except _TooLateError:
            return False

    def take_trouble(self) -> str:
        """Patterns that ran past their deadline since this was last asked, by rule id; empty: none did."""
        return "; ".join(f"{self._users(text)}: pattern {text} took too long" for text in self._late.take())

    def _among(self, bits: int, candidates: Candidates) -> int:
        """Those of some rules that are candidates."""
        vectors, items = candidates.vectors, candidates.items
        for place, item, rules, find in self._indexes:
            if bits & rules:
                vector = vectors[place]
                if vector is None:
                    vector = vectors[place] = find(items.get(item, ""))
                bits &= vector
        return bits

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


def _bits(numbers: Iterable[int]) -> int:
    return sum(1 << number for number in numbers)


def _numbers(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _index(item: str, found: Mapping[int, Alternatives], all_rules: int) -> _Index:
    indifferent = all_rules & ~_bits(found)
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
        self.cost = len(self._tests)
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

    cost = 1

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
