"""The conditions of one rule on one item, compiled.

    alternatives = compile_alternatives(conditions, late)
    alternatives.hold("alice@example.org", context)

Invariants
- One element of one condition must hold; a negated one holds if what it says does not.
- An item that is missing is the empty text. As in Perl, empty and `0` are false: `==` and `!=` never hold on them.
- The values of a request are compared, never read as a pattern, a network's rule or a name of another item. (What a
  rule names by `$$name` is looked for as a text, and a group has the values themselves.)
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import eq, ge, gt, le, lt, ne
from typing import NamedTuple, Protocol

from weir.rules import actions, addresses, calendar, items, patterns
from weir.rules.addresses import Network, Networks
from weir.rules.groups import Groups
from weir.rules.items import Kind
from weir.rules.rule import Condition, LiveFile, Value
from weir.rules.values import element, is_dynamic, is_group

FALSE = frozenset(("", "0"))
"""Texts that Perl takes for false."""
_ADDRESSES = frozenset((Kind.ADDRESS, Kind.DNS_ADDRESS))
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)", re.ASCII | re.IGNORECASE)
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": eq,
    "!=": ne,
    "=<": le,
    "!<": gt,
    "<": lt,
    "!>": lt,
    ">": gt,
    "=>": ge,
}
"""By operator; all others are the last."""
_LONGEST = 18
"""Digits of a whole number that is exact; longer ones are floating-point numbers."""

Late = Callable[[str], None]
"""Told the text of a pattern that ran past its deadline."""
Static = Callable[[str], object]
"""A test of a value; something true if it passes."""


class LiveLists(Protocol):
    def lines(self, live: LiveFile) -> tuple[str, ...]:
        """The list's present elements; the same tuple for as long as nothing changed."""
        ...

    @property
    def complain(self) -> Callable[[str], None]:
        """Told what makes no sense in a list."""
        ...


class Context(Protocol):
    """What a condition may look at beside its item's value."""

    @property
    def items(self) -> Mapping[str, str]: ...
    @property
    def now(self) -> float:
        """Unix seconds."""
        ...

    @property
    def tables(self) -> LiveLists: ...
    @property
    def groups(self) -> Groups: ...


Dynamic = Callable[[str, Context], bool]
"""A test of a value that looks at more than the value."""


class Comparison(NamedTuple):
    """Comparison with a number."""

    operator: str
    number: float
    negated: bool = False

    def holds(self, number: float) -> bool:
        return _compared(self.operator, number, self.number) != self.negated


class Test(NamedTuple):
    """Any other test of a value; equal keys do the same."""

    key: tuple[str, str, bool]
    holds: Static
    needed: str = ""
    """It holds for no value that is without this, in lower case."""


class Alternatives:
    """The conditions of one rule on one item, by the ways in which they are tested."""

    def __init__(
        self,
        equal: Collection[str] = (),
        networks: Iterable[Network] = (),
        comparisons: Iterable[Comparison] = (),
        tests: Iterable[Test] = (),
        dynamic: Iterable[Dynamic] = (),
        live: Iterable["_LiveTest"] = (),
    ) -> None:
        self.equal = frozenset(equal)
        """Values that it holds for, in lower case; neither is false."""
        self.networks = tuple(networks)
        self.comparisons = tuple(comparisons)
        self.tests = tuple(tests)
        self.dynamic = tuple(dynamic)
        """Tests that look at more than the item's value, so that the answer may change while the value does not."""
        self._live = tuple(live)
        """Those of `dynamic` that look into lists."""
        self._networks = Networks((one, 1) for one in self.networks) if self.networks else None

    def hold(self, value: str, context: Context) -> bool:
        """Tell whether they hold for a value: the item's, or one that was looked up in its place."""
        counted = number(value) if self.comparisons else 0
        return (
            value.lower() in self.equal
            or (self._networks is not None and self._networks.find(value) != 0)
            or any(one.holds(counted) for one in self.comparisons)
            or any(test.holds(value) for test in self.tests)
            or any(test(value, context) for test in self.dynamic)
        )

    def read_lists(self, tables: LiveLists) -> None:
        """Compile live lists as they are now: the first value that is tested does not wait for it then."""
        for test in self._live:
            test.read(tables)


def number(text: str) -> float:
    """The number that a text begins with, as Perl takes it; 0 if it begins with none."""
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST:
        return int(text)
    found = _NUMBER.match(text)
    if found is None:
        return 0
    digits = found[1]
    return int(digits) if digits.lstrip("+-").isdigit() and len(digits) <= _LONGEST else float(digits)


def _compared(operator: str, left: float, right: float) -> bool:
    return _COMPARISONS.get(operator, _COMPARISONS["=>"])(left, right)


def compile_alternatives(conditions: Sequence[Condition], late: Late) -> Alternatives:
    """Compile conditions on the same item. `late` is told a pattern's text whenever it runs past its deadline.

    Raises ValueError if a value is none of its kind, which the reader has seen to.
    """
    parts = _Parts(items.kind(conditions[0].item) if conditions else Kind.TEXT, late)
    for condition in conditions:
        for value in condition.values:
            parts.add(condition.operator, value)
    return parts.finish()


class _Parts:
    """Alternatives that are being put together."""

    def __init__(self, kind: Kind, late: Late) -> None:
        self.kind = kind
        self.late = late
        self.equal: set[str] = set()
        self.unequal: set[str] = set()
        """Of `!=`."""
        self.not_equal: set[str] = set()
        """Of `==!!()`."""
        self.networks: list[Network] = []
        self.comparisons: list[Comparison] = []
        self.tests: list[Test] = []
        self.dynamic: list[Dynamic] = []
        self.live: list[_LiveTest] = []

    def add(self, operator: str, value: Value) -> None:
        if value.live is not None:
            test = _LiveTest(self.kind, operator, value.live, value.negated, self.late)
            self.live.append(test)
            self.dynamic.append(test.holds)
        else:
            self.add_text(operator, value.text, value.negated)

    def add_text(self, operator: str, text: str, negated: bool) -> None:
        """Raises ValueError."""
        if is_group(text):
            self.dynamic.append(_negated(_group_test(operator, text[2:]), negated))
        elif self.kind in calendar.KINDS:
            self.dynamic.append(_calendar_test(self.kind, text, negated != operator.startswith("!")))
        elif is_dynamic(text):
            self.dynamic.append(_negated(_variable_test(self.kind, operator, text), negated))
        elif self.kind in _ADDRESSES:
            self._add_address(operator, text, negated)
        elif self.kind is Kind.NUMBER or operator in items.NUMERIC:
            self.comparisons.append(Comparison(operator, _checked_number(text), negated))
        elif operator == "==":
            (self.not_equal if negated else self.equal).add(text.lower())
        elif operator == "!=" and not negated:
            self.unequal.add(text.lower())
        else:
            self.tests.append(_text_test(operator, text, negated, self.late))

    def _add_address(self, operator: str, text: str, negated: bool) -> None:
        network = addresses.network(text)
        if negated != operator.startswith("!"):
            outside = Networks([(network, 1)])
            self.tests.append(Test(("outside", str(network), False), lambda value: not outside.find(value)))
        else:
            self.networks.append(network)

    def finish(self) -> Alternatives:
        if self.unequal:
            self.tests.append(_unequal_test(self.unequal))
        if self.not_equal:
            self.tests.append(_not_equal_test(self.not_equal))
        equal = self.equal - FALSE
        return Alternatives(equal, self.networks, self.comparisons, self.tests, self.dynamic, self.live)


def _checked_number(text: str) -> float:
    if text and not _NUMBER.fullmatch(text):
        raise ValueError(f"expected a number, got {text}")
    return number(text)


def _unequal_test(texts: set[str]) -> Test:
    """`!=` with any of these: with two of them any value that is not false."""
    if len(texts) > 1:
        return Test(("any", "", False), lambda value: value not in FALSE)
    (text,) = texts
    return Test(("!=", text, False), lambda value: value not in FALSE and value.lower() != text)


def _not_equal_test(texts: set[str]) -> Test:
    """`==` turned around, with any of these: with two of them any value at all."""
    if len(texts) > 1 or texts <= FALSE:
        return Test(("all", "", False), lambda value: True)
    (text,) = texts
    return Test(("==", text, True), lambda value: value.lower() != text)


def _text_test(operator: str, text: str, negated: bool, late: Late) -> Test:
    if operator == "!=":
        lowered = text.lower()
        return Test((operator, lowered, negated), lambda value: value in FALSE or value.lower() == lowered)
    search, needed = patterns.compile(text, late)
    if negated != (operator == "!~"):
        return Test(("!~", text, False), lambda value: not search(value))
    return Test(("=~", text, False), search, needed)


def _negated(test: Dynamic, negated: bool) -> Dynamic:
    return (lambda value, context: not test(value, context)) if negated else test


def _group_test(operator: str, group: str) -> Dynamic:
    def member(value: str, context: Context) -> bool:
        return context.groups.contains(group, value, context.now)

    def other_member(value: str, context: Context) -> bool:
        """As for any list, one element must hold: a member that is another value."""
        if operator == "!=" and value in FALSE:
            return False
        return any(one != value.lower() for one in context.groups.members(group, context.now))

    return other_member if operator in ("!=", "!~") else member


def _calendar_test(kind: Kind, text: str, negated: bool) -> Dynamic:
    if not is_dynamic(text):
        at = calendar.compile(kind, text)
        return lambda value, context: at(context.now) != negated
    written = actions.text(text)

    def holds(_value: str, context: Context) -> bool:
        try:
            at = calendar.compile(kind, written.render(context.items))
        except ValueError:
            return negated
        return at(context.now) != negated

    return holds


def _variable_test(kind: Kind, operator: str, text: str) -> Dynamic:
    """A value with `$$name` in it. It stays as it is written if it names nothing, or if either side is false."""
    is_pattern = kind not in _ADDRESSES and kind is not Kind.NUMBER and operator in items.PATTERN
    written = actions.text(patterns.strip(text)[0] if is_pattern else text)
    compare = _comparer(kind, operator)

    def holds(value: str, context: Context) -> bool:
        if value not in FALSE:
            rendered = written.render(context.items)
            if rendered not in FALSE and any(name in context.items for name in written.names):
                return compare(value, rendered)
        # As a pattern it would be an end with more behind it, which nothing is.
        return operator == "!~" if is_pattern else compare(value, written.written)

    return holds


def _comparer(kind: Kind, operator: str) -> Callable[[str, str], bool]:
    """The test of a value with a text that is not known before."""
    if kind in _ADDRESSES:
        return lambda value, text: _within(value, text) != operator.startswith("!")
    if kind is Kind.NUMBER or operator in items.NUMERIC:
        return lambda value, text: _compared(operator, number(value), number(text))
    if operator == "==":
        return lambda value, text: value not in FALSE and value.lower() == text.lower()
    if operator == "!=":
        return lambda value, text: value not in FALSE and value.lower() != text.lower()
    if operator == "!~":
        return lambda value, text: text.lower() not in value.lower()
    return lambda value, text: text.lower() in value.lower()


def _within(value: str, text: str) -> bool:
    try:
        return bool(Networks([(addresses.network(text), 1)]).find(value))
    except ValueError:
        return False


class _LiveTest:
    """A condition with a live list: compiled again whenever the list is another one."""

    def __init__(self, kind: Kind, operator: str, live: LiveFile, negated: bool, late: Late) -> None:
        self._kind = kind
        self._operator = operator
        self._live = live
        self._negated = negated
        self._late = late
        self._lines: tuple[str, ...] = ()
        self._alternatives = Alternatives()

    def holds(self, value: str, context: Context) -> bool:
        self.read(context.tables)
        return self._alternatives.hold(value, context)

    def read(self, tables: LiveLists) -> None:
        lines = tables.lines(self._live)
        if lines is not self._lines:
            self._alternatives = self._compile(lines, tables)
            self._lines = lines

    def _compile(self, lines: tuple[str, ...], tables: LiveLists) -> Alternatives:
        parts = _Parts(self._kind, self._late)
        for line in lines:
            try:
                text, negated, _ = element(line)
                parts.add_text(self._operator, text, negated != self._negated)
            except ValueError as error:
                tables.complain(f"{self._live.path}: {error.args[0]}")
        return parts.finish()
