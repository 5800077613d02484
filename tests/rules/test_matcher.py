"""All rules at once: the same as one by one, whatever rules and requests are."""

import time
import tracemalloc
from collections.abc import Collection, Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.rules import direct
from tests.rules.test_conditions import NOW, NOWHERE, Request, condition
from weir.rules import matcher
from weir.rules.matcher import Matcher
from weir.rules.rule import Condition, Rule, RulesError, Ruleset, Value


def ruleset(*rules: list[Condition]) -> Ruleset:
    return Ruleset(
        tuple(
            Rule(number, f"R{number}", True, NOWHERE, tuple(conditions), ()) for number, conditions in enumerate(rules)
        )
    )


def matching(matcher: Matcher, request: Request) -> list[int]:
    candidates = matcher.begin(request.items)
    found = []
    number = matcher.find(candidates, 0, request)
    while number >= 0:
        found.append(number)
        number = matcher.find(candidates, number + 1, request)
    return found


def test_different_items_must_all_hold() -> None:
    rules = Matcher(
        ruleset(
            [condition("sender", "==", "a"), condition("size", "=>", "10")],
            [condition("sender", "==", "a"), condition("sender", "==", "b")],
            [],
            [condition("missing", "=", "^$"), condition("sender", "=", "b")],
        )
    )
    assert matching(rules, Request(sender="a", size="10")) == [0, 1, 2]
    assert matching(rules, Request(sender="a", size="9")) == [1, 2]
    assert matching(rules, Request(sender="b")) == [1, 2, 3]
    assert matching(rules, Request()) == [2]


def test_it_goes_on_from_any_rule() -> None:
    rules = Matcher(ruleset([], [condition("sender", "==", "a")], []))
    candidates = rules.begin({})
    assert [rules.find(candidates, start, Request()) for start in (0, 1, 2, 3, 99)] == [0, 2, 2, -1, -1]


def test_an_item_that_is_set_on_the_way_counts_from_then_on() -> None:
    rules = Matcher(ruleset([condition("X", "==", "1")], [condition("X", "!=", "1")], [condition("Y", "=", "^$")]))
    candidates = rules.begin({})
    assert rules.find(candidates, 0, Request()) == 2
    rules.update(candidates, "X", "1")
    assert rules.find(candidates, 0, Request()) == 0
    rules.update(candidates, "X", "2")
    rules.update(candidates, "Z", "2")
    assert rules.find(candidates, 0, Request()) == 1
    rules.update(candidates, "Y", "0")
    assert rules.find(candidates, 2, Request()) == -1


@pytest.mark.parametrize("item", ["request_score", "request_hits", "sender"])
def test_what_changes_while_rules_are_gone_through(item: str) -> None:
    rules = Matcher(ruleset([condition(item, "=>", "2")]))
    request = Request(**{item: "1"})
    candidates = rules.begin(request.items)
    assert rules.find(candidates, 0, request) == -1
    request.items[item] = "2"
    rules.update(candidates, item, "2")
    assert rules.find(candidates, 0, request) == 0


def test_conditions_that_ask_dns_are_left_out() -> None:
    dns = [condition("rbl", "=", "bl.test"), condition("helo_address", "=", "10.0.0.0/8")]
    rules = Matcher(ruleset([*dns, condition("sender", "==", "a")], dns))
    assert matching(rules, Request(sender="b")) == [1]


def test_conditions_that_cannot_be_compiled_are_all_told() -> None:
    with pytest.raises(RulesError) as raised:
        Matcher(ruleset([condition("size", "=", "x")], [], [condition("sender", "=~", "*")]))
    assert [str(error) for error in raised.value.errors] == [
        "rules.cf:1:1: size: expected a number, got x",
        "rules.cf:1:1: sender: bad pattern: nothing to repeat",
    ]


def test_kept_vectors_are_dropped_at_last_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "KEPT", 4)
    rules = Matcher(ruleset([condition("sender", "==", "5", "17")], [condition("sender", "=~", "7$")]))
    for number in [*range(40), *range(40)]:
        expected = [0] * (number in (5, 17)) + [1] * (number % 10 == 7)
        assert matching(rules, Request(sender=str(number))) == expected


@pytest.mark.parametrize("item", ["sender", "client_address", "size", "queue_id"])
def test_what_is_kept_is_bounded_whatever_clients_send(item: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "KEPT", 50)
    text = "10.0.0.0/8" if item == "client_address" else "5"
    rules = Matcher(ruleset(*[[condition(item, "==", text), condition(item, "!=", text)]] * 1000))
    tracemalloc.start()
    for number in range(2000):
        rules.begin({item: f"{number}" + "x" * (number % 300)})
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 100_000


def test_patterns_have_a_time_for_each_request_together() -> None:
    slow = [[condition("sender", "=~", f"a.*b.*c.*{letter}$")] for letter in "defghijklmnopqrstuvwyz"]
    rules = Matcher(ruleset(*slow, [condition("sender", "=~", "^x")], [condition("size", "==", "1")]))
    request = Request(sender="x" + "abc" * 5000, size="1")
    start = time.process_time()  # the deadline is kept by the clock, so a busy machine only makes it less
    assert matching(rules, request) == [len(slow) + 1]
    assert time.process_time() - start < 3 * matcher.LATE_MOST * 0.02
    trouble = rules.take_trouble()
    assert trouble.startswith("R0: pattern a.*b.*c.*d$ took too long; R1: ")
    assert trouble.count("took too long") == matcher.LATE_MOST
    assert not rules.take_trouble()
    assert matching(rules, Request(sender="x", size="1")) == [len(slow), len(slow) + 1]


def test_a_slow_pattern_of_a_dynamic_condition_is_told() -> None:
    slow = [condition("sender", "=~", "a.*b.*c.*d", "$$helo_name")]
    rules = Matcher(ruleset(slow, slow))
    assert matching(rules, Request(sender="abc" * 5000)) == []
    assert rules.take_trouble() == "R0, R1: pattern a.*b.*c.*d took too long"


_TEXTS = ("", "0", "a", "A", "b", "ab", "a.b", "<>", "10", "$$other", "(a)")
_PATTERNS = ("", "a", "^a", "/b$/", "a|b", "^$", "a.b", ".")
_NUMBERS = ("", "0", "5", "10", "10.5", "-1")
_NETWORKS = ("192.0.2.1", "192.0.2.0/24", "192.0.0.0/16", "0.0.0.0/0", "2001:db8::/32", "::ffff:192.0.2.1")
_CALENDAR = {
    "days": ("Mon-Fri", "Thu", "0", "Fri-", "-3", "Wed-Mon"),
    "months": ("Feb", "1", "10-11", "-Mar", "0"),
    "date": ("29.02.2024", "-28.02.2024", "01.01.2024-"),
    "time": ("22:00:00-", "22:00:00-06:00:00"),
}
_DYNAMIC = ("$$other", "x$$other", "$$(other)$$more", "$$nothing", "%%G", "%%H")
_OPERATORS = ("=", "==", "!=", "=~", "!~", "=>", "=<", ">", "<", "!>", "!<")


def _conditions(item: str, operators: Collection[str], texts: Collection[str]) -> st.SearchStrategy[Condition]:
    values = st.builds(lambda text, negated: Value(text, NOWHERE, negated), st.sampled_from(list(texts)), st.booleans())
    return st.builds(
        lambda operator, found: Condition(item, operator, tuple(found), NOWHERE),
        st.sampled_from(list(operators)),
        st.lists(values, max_size=3),
    )


_CONDITION = st.one_of(
    *(_conditions(item, ("==", "!="), (*_TEXTS, *_DYNAMIC)) for item in ("sender", "helo_name")),
    *(_conditions(item, ("=", "=~", "!~"), (*_PATTERNS, *_DYNAMIC[:4])) for item in ("sender", "helo_name")),
    *(_conditions(item, _OPERATORS[5:], _NUMBERS) for item in ("sender", "ratecount", "other")),
    _conditions("size", _OPERATORS, (*_NUMBERS, *_DYNAMIC[:4])),
    _conditions("client_address", ("=", "==", "!=", "=~"), (*_NETWORKS, "$$other", "%%G")),
    *(_conditions(item, ("=", "==", "!="), texts) for item, texts in _CALENDAR.items()),
)
_RULES = st.lists(st.lists(_CONDITION, max_size=4), max_size=8)
_REQUEST = st.fixed_dictionaries(
    {},
    optional={
        **{item: st.sampled_from(_TEXTS) for item in ("sender", "helo_name", "other", "more")},
        "size": st.sampled_from(("", "0", "4", "5", "7.5", "10", "10.5", "11", "-1", "x")),
        "ratecount": st.sampled_from(("5", "10", "")),
        "client_address": st.sampled_from(("", "192.0.2.1", "192.0.9.9", "2001:db8::1", "::ffff:192.0.2.1", "unknown")),
    },
)
_GROUPS = st.fixed_dictionaries({}, optional={"G": st.lists(st.sampled_from(("a", "B", "192.0.2.1")), max_size=2)})


@settings(max_examples=400)
@given(_RULES, st.lists(_REQUEST, min_size=1, max_size=4), _GROUPS)
@example([[condition("sender", "==", "!0")]], [{}], {})
def test_the_compiled_form_equals_the_direct_one(
    rules: list[list[Condition]], requests: list[dict[str, str]], groups: Mapping[str, list[str]]
) -> None:
    """Also when one item after another is set to what it is in the next request."""
    loaded = ruleset(*rules)
    compiled = Matcher(loaded)
    request = Request()
    for group, members in groups.items():
        for member in members:
            request.groups.add(group, member, 10, NOW)
    request.items = dict(requests[0])
    candidates = compiled.begin(request.items)
    for other in requests:
        for item, value in other.items():
            request.items[item] = value
            compiled.update(candidates, item, value)
        expected = [rule.number for rule in loaded.rules if direct.matches(rule, request.items, NOW, groups)]
        found = [number for number in range(len(rules)) if compiled.find(candidates, number, request) == number]
        assert found == expected
        assert matching(compiled, request) == expected


@given(st.dictionaries(st.sampled_from(("sender", "size", "client_address", "date")), st.text(max_size=40)))
def test_no_request_is_too_strange(items: dict[str, str]) -> None:
    rules = Matcher(
        ruleset(
            [condition("sender", "=", "(a+)+$", "$$size")],
            [condition("size", "=>", "5")],
            [condition("client_address", "=", "10.0.0.0/8", "!$$sender")],
            [condition("date", "=", "$$sender")],
        )
    )
    assert set(matching(rules, Request(**items))) <= {0, 1, 2, 3}
