"""What elements say, and which make sense for which item."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import items, values

OPERATORS = ("=", "==", "!=", "=~", "!~", "=>", "=<", ">", "<", "!>", "!<")


def refusal(asked: Callable[..., object], *arguments: str) -> ValueError | None:
    try:
        asked(*arguments)
    except ValueError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("written", "text", "negated"),
    [
        ("alice", "alice", False),
        ("", "", False),
        ("(alice)", "(alice)", False),
        ("!alice", "!alice", False),
        ("!!alice", "alice", True),
        ("!! alice", "alice", True),
        ("!!(alice)", "alice", True),
        ("!!( /^(bob|alice)$/ )", "/^(bob|alice)$/", True),
        ("!!(a)b)", "a)b", True),
        ("!!(a|b)c", "(a|b)c", True),
        ("!!^a(b|c)", "^a(b|c)", True),
        ("!!a\\)", "a\\)", True),
        ("!!$$helo_name", "$$helo_name", True),
        ("!!($$(helo_name))", "$$(helo_name)", True),
        ("!!%%BAD", "%%BAD", True),
    ],
)
def test_an_element_says_something_or_its_opposite(written: str, text: str, negated: bool) -> None:
    element = values.element(written)
    assert (element.text, element.negated) == (text, negated)
    assert written[element.start :].startswith(text)


@pytest.mark.parametrize("written", ["!!", "!!()", "!!( )", "!!(a", "!!a)", "!!!!a", "!!(!!a)"])
def test_what_is_no_negation(written: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.element(written)


@given(st.text("!() ab\\", max_size=12))
def test_any_element_is_read_or_refused(written: str) -> None:
    refused = refusal(values.element, written)
    if refused is not None:
        assert 0 <= values.offset_of(refused) <= len(written)
    else:
        element = values.element(written)
        assert written[element.start :].startswith(element.text)


RIGHT = [
    ("sender", "==", "alice@example.org"),
    ("sender", "==", "*@example.org"),
    ("sender", "!=", "["),
    ("sender", "=", ""),
    ("sender", "=~", "/^alice@/"),
    ("my_own", "=>", "5"),
    ("size", "=", "1500"),
    ("size", "==", ""),
    ("request_score", "=>", "4.5"),
    ("recipient_count", "<", "-1"),
    ("client_address", "=", "192.0.2.1"),
    ("client_address", "==", "192.0.2.1/24"),
    ("client_address", "!=", "2001:db8::/32"),
    ("client_address", "=", "::ffff:192.0.2.1"),
    ("client_address", "=", "0.0.0.0/0"),
    ("client_address", "=", "$$server_address"),
    ("client_address", "=", "%%BAD"),
    ("helo_address", "=", "203.0.113.0/24"),
    ("sender_mx_addrs", "=", "203.0.113.1"),
    ("sender_ns_names", "=~", "evil"),
    ("rbl", "=", "bl.example/^127\\.0\\.0\\.[23]$/60"),
    ("date", "=", "29.02.2024"),
    ("date", "!=", "01.01.2024 - 31.12.2024"),
    ("date", "=", "-28.02.2024"),
    ("date", "=", "01.02.2024-"),
    ("time", "=", "22:00:00-23:59:59"),
    ("time", "=", "22:00:00-"),
    ("time", "=", "-06:00:00"),
    ("days", "=", "Mon-Fri"),
    ("days", "=", "sun"),
    ("days", "=", "SAT"),
    ("days", "=", "Wed-Mon"),
    ("days", "=", "1-5"),
    ("days", "=", "-3"),
    ("months", "=", "Jan-Mar"),
    ("months", "=", "DEC"),
    ("months", "=", "9"),
    ("size", "=", "$$recipient_count"),
    ("size", "=", "$$(recipient_count)"),
    ("date", "=", "$$x"),
]


@pytest.mark.parametrize(("item", "operator", "text"), RIGHT)
def test_values_that_are_right(item: str, operator: str, text: str) -> None:
    assert values.check(item, operator, text) is None


@pytest.mark.parametrize(
    ("item", "operator", "text", "expected"),
    [
        ("sender", "=", "*@example.org", "bad pattern"),
        ("sender", "=~", "[", "bad pattern"),
        ("sender", "!~", "(a", "bad pattern"),
        ("sender_mx_names", "=", "(a", "bad pattern"),
        ("sender", "=<", ">", "expected a number after =<, got >"),
        ("my_own", ">", "x5", "expected a number after >, got x5"),
        ("my_own", "=>", "", "expected a number after =>, got nothing"),
        ("size", "=", "20M", "expected a number after =, got 20M"),
        ("size", "==", "$$", "expected a number after ==, got "),
        ("client_address", "=", "2001:db8:", "expected an address or a network"),
        ("client_address", "=~", "^192\\.0\\.2\\.", "expected an address or a network"),
        ("client_address", "=", "", "got nothing"),
        ("client_address", "=", "10.0.0.0/8 192.0.2.0/24", "separate them by commas"),
        ("client_address", "=", "10.0.0.0/33", "expected an address or a network"),
        ("client_address", "=", "example.org", "expected an address or a network"),
        ("client_address", "=", "%%", "expected a group as %%NAME, got %%"),
        ("helo_address", "=", "10.0.0", "expected an address or a network"),
        ("rbl", "=", "bl.example/[", "bad pattern for the reply of bl.example"),
        ("rhsbl_sender", "=", "", "expected a host name"),
        ("date", "=", "", "got nothing"),
        ("date", "=", "-", "expected a value or a range, got -"),
        ("date", "=", "2024-02-29", "a date is"),
        ("date", "=", "1.2.2024", "a date is"),
        ("date", "=", "29.02.24", "a date is"),
        ("date", "=", "32.01.2024", "a date is"),
        ("date", "=", "01.13.2024", "a date is"),
        ("time", "=", "22:00-23:00", "a time is HH:MM:SS-HH:MM:SS, got 22:00-23:00"),
        ("time", "=", "25:30:00-", "a time is"),
        ("time", "=", "8:00:00-17:00:00", "a time is"),
        ("days", "=", "Thursday", "days are Sun to Sat or 0 to 6, got Thursday"),
        ("days", "=", "7", "days are"),
        ("days", "=", "Mon-Wed-Fri", "days are"),
        ("months", "=", "February", "months are"),
        ("months", "=", "130", "months are"),
    ],
)
def test_values_that_make_no_sense(item: str, operator: str, text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        values.check(item, operator, text)
    assert 0 <= values.offset_of(caught.value) <= len(text)


@pytest.mark.parametrize(
    ("item", "text", "expected"),
    [
        ("days", "0", "0 is every one of the days: write Sun"),
        ("months", "0", "0 is every one of the months: write Jan"),
        ("months", "10-11", "not understood"),
        ("time", "22:00:00", "one second a day"),
    ],
)
def test_values_that_are_hardly_meant(item: str, text: str, expected: str) -> None:
    assert expected in (values.check(item, "=", text) or "")


@given(
    st.sampled_from(sorted(items.KNOWN)),
    st.sampled_from(OPERATORS),
    st.text("0123456789.:/-$%()[]{}*+?\\ anSuMoJ,", max_size=20),
)
def test_any_value_is_taken_or_refused(item: str, operator: str, text: str) -> None:
    refused = refusal(values.check, item, operator, text)
    if refused is not None:
        assert refused.args[0]
        assert 0 <= values.offset_of(refused) <= len(text)
