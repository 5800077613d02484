"""Conditions on DNS lists and look-ups, judged on answers from a zone by heart."""

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import lists
from weir.rules.lists import Verdict, check, compile_checks, parse
from weir.rules.needs import Lookup, Question
from weir.rules.rule import Action, Condition, LiveFile, Position, Rule, Value

ZONE = {
    "10.2.0.192.bl1.test A": ["127.0.0.2"],
    "10.2.0.192.bl1.test TXT": ["listed by bl1, see", "bl1.test"],
    "10.2.0.192.bl2.test A": ["10.0.0.1", "127.0.0.4"],
    "host10.example.net.rh.test A": ["127.0.0.2"],
    "host10.example.net.rh.test TXT": ["client"],
    "example.org.rh.test A": ["127.0.0.3"],
    "laptop.example.net.rh.test A": ["127.0.0.2"],
    "reverse10.example.net.rh.test A": ["127.0.0.2"],
    "laptop.example.net A": ["203.0.113.5"],
    "six.example.net AAAA": ["2001:db8::5"],
    "example.org MX": ["mx1.example.org", "MX2.example.org"],
    "example.org NS": ["ns1.evil.test"],
    "mx1.example.org A": ["10.66.0.1"],
    "mx2.example.org A": ["10.66.0.2"],
    "mx2.example.org AAAA": ["2001:db8::66"],
    "ns1.evil.test A": ["10.77.0.1"],
}
ITEMS = {
    "client_address": "192.0.2.10",
    "client_name": "host10.example.net",
    "reverse_client_name": "reverse10.example.net",
    "helo_name": "laptop.example.net",
    "sender_domain": "example.org",
}
HERE = Position("rules.cf", 1, 1)


def condition(text: str) -> Condition:
    """A condition from `ITEM OPERATOR VALUE, VALUE …`, blanks around the operator."""
    item, operator, values = text.split(" ", 2)
    return Condition(item, operator, tuple(value(one) for one in values.split(", ")), HERE)


def value(text: str) -> Value:
    if text.startswith("lfile:"):
        return Value(text, HERE, live=LiveFile(Path(text.removeprefix("lfile:")), False))
    return Value(text.removeprefix("!!"), HERE, negated=text.startswith("!!"))


def rule(*conditions: str, action: str = "REJECT $$dnsbltext", **counts: int | None) -> Rule:
    return Rule(
        0,
        "R-0",
        False,
        HERE,
        tuple(map(condition, conditions)),
        (Action(action, HERE),),
        **counts,
    )


def compile_test(one: Condition) -> Any:
    """Addresses in a network, else a name like a pattern of the shell; `!=` turns it round."""
    (only,) = one.values
    assert not only.negated

    def test(found: str, context: str) -> bool:
        assert context == "context"
        if one.item.endswith(("_addrs", "_address")):
            network = ip_network(only.text)
            holds = network.prefixlen == 0 or ip_address(found) in network
        else:
            holds = fnmatch.fnmatch(found.lower(), only.text)
        return holds != (one.operator == "!=")

    return test


def examine(
    of: Rule,
    items: Mapping[str, str] | None = None,
    zone: Mapping[str, Sequence[str]] = ZONE,
    live: Sequence[str] = (),
) -> tuple[Verdict, list[Lookup]]:
    """The verdict, and the Lookups that led to it."""
    checks = compile_checks(of, compile_test, lambda file: live)
    assert checks is not None
    run = checks.examine({**ITEMS, **(items or {})}, "context")
    lookups: list[Lookup] = []
    answers: dict[Question, list[str]] | None = None
    while True:
        try:
            lookup = run.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, lookups
        lookups.append(lookup)
        answers = {one: list(zone.get(f"{one.name} {one.type}", ())) for one in lookup.questions}


def verdict(
    *conditions: str, live: Sequence[str] = (), items: Mapping[str, str] | None = None, **counts: Any
) -> Verdict:
    return examine(rule(*conditions, **counts), items, live=live)[0]


def test_a_rule_without_dns_has_no_checks() -> None:
    assert compile_checks(rule("client_name = x"), compile_test, lambda file: ()) is None
    assert not lists.is_dns(condition("client_address = 192.0.2.0/24"))
    assert lists.is_dns(condition("sender_ns_addrs = 192.0.2.0/24"))


def test_a_listing_is_counted_and_its_text_told() -> None:
    found, lookups = examine(rule("rbl = bl1.test"))
    assert found == Verdict(True, 1, 0, "rbl:bl1.test:<listed by bl1  see bl1.test>")
    assert [lookup.questions for lookup in lookups] == [
        (Question("10.2.0.192.bl1.test", "A", "bl1.test", 3600),),
        (Question("10.2.0.192.bl1.test", "TXT", "", 3600),),
    ]


def test_texts_are_asked_for_only_where_they_are_used() -> None:
    found, lookups = examine(rule("rbl = bl1.test", action="REJECT listed"))
    assert found == Verdict(True, 1, 0, "")
    assert len(lookups) == 1


def test_all_is_asked_at_once() -> None:
    _, lookups = examine(
        rule(
            "rbl = bl1.test, bl2.test, bl1.test",
            "rhsbl_client = rh.test",
            "rhsbl_sender = rh.test",
            "helo_address = 0.0.0.0/0",
            "sender_mx_names = mx1*",
            "sender_mx_addrs = 10.0.0.0/8",
            "sender_ns_addrs = 10.0.0.0/8",
        )
    )
    first, second = (sorted(f"{one.name} {one.type}" for one in lookup.questions) for lookup in lookups)
    assert first == [
        "10.2.0.192.bl1.test A",
        "10.2.0.192.bl2.test A",
        "example.org MX",
        "example.org NS",
        "example.org.rh.test A",
        "host10.example.net.rh.test A",
        "laptop.example.net A",
        "laptop.example.net AAAA",
    ]
    assert second == [
        "10.2.0.192.bl1.test TXT",
        "example.org.rh.test TXT",
        "host10.example.net.rh.test TXT",
        "mx1.example.org A",
        "mx1.example.org AAAA",
        "mx2.example.org A",
        "mx2.example.org AAAA",
        "ns1.evil.test A",
        "ns1.evil.test AAAA",
    ]


def test_a_rule_that_has_failed_asks_no_more() -> None:
    found, lookups = examine(rule("rbl = none.test", "sender_mx_addrs = 0.0.0.0/0", "rhsbl_client = rh.test"))
    assert found == Verdict(False)
    assert len(lookups) == 1


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        ("none.test, bl2.test", 1, Verdict(True, 1, 0, "rbl:bl2.test:<>")),
        ("bl1.test, bl2.test", 1, Verdict(True, 1, 0, "rbl:bl1.test:<listed by bl1  see bl1.test>")),
        ("bl1.test, bl2.test", 2, Verdict(True, 2, 0, "rbl:bl1.test:<listed by bl1  see bl1.test>; rbl:bl2.test:<>")),
        ("bl1.test, bl2.test, none.test", 3, Verdict(False)),
        ("bl2.test, none.test, bl2.test", None, Verdict(True, 2, 0, "rbl:bl2.test:<>")),
        ("none.test", None, Verdict(True, 0, 0, "")),
        ("bl1.test, bl1.test", 2, Verdict(True, 2, 0, "rbl:bl1.test:<listed by bl1  see bl1.test>")),
    ],
)
def test_so_many_listings_are_needed(values: str, count: int | None, expected: Verdict) -> None:
    assert verdict(f"rbl = {values}", rblcount=count) == expected


def test_each_item_needs_its_count_and_all_are_summed() -> None:
    both = ("rhsbl_sender = rh.test", "rhsbl_helo = rh.test")
    assert verdict(*both) == Verdict(True, 0, 2, "rhsbl_sender:rh.test:<>; rhsbl_helo:rh.test:<>")
    assert verdict(*both, rhsblcount=2) == Verdict(False)
    assert verdict(*both, items={"helo_name": "other.example.net"}) == Verdict(False)
    assert verdict(*both, items={"helo_name": "other.example.net"}, rhsblcount=None).rhsblcount == 1
    assert verdict("rbl = bl1.test", *both, rblcount=1, rhsblcount=None)[1:3] == (1, 2)


def test_conditions_on_one_item_are_alternatives() -> None:
    assert verdict("rbl = none.test", "rbl = bl2.test").rblcount == 1
    assert verdict("rbl = bl1.test", "rbl = bl2.test", rblcount=2).rblcount == 2


@pytest.mark.parametrize(
    ("item", "about"),
    [
        ("rhsbl", "client_name"),
        ("rhsbl_client", "client_name"),
        ("rhsbl_sender", "sender_domain"),
        ("rhsbl_helo", "helo_name"),
        ("rhsbl_reverse_client", "reverse_client_name"),
    ],
)
def test_each_item_asks_about_its_name(item: str, about: str) -> None:
    of = rule(f"{item} = rh.test")
    assert examine(of)[0].rhsblcount == 1
    for skipped in ("", "unknown", "Unknown", "2001:db8::1", "a:b.example.org"):
        assert examine(of, {about: skipped}) == (Verdict(False), [])
    assert examine(of, {about: ITEMS[about].upper() + "."})[0].rhsblcount == 1


@pytest.mark.parametrize(
    "address", ["", "unknown", "2001:db8::1", "::ffff:192.0.2.10", "192.0.2", "192.0.2.10.example.org", "a.b.c.d"]
)
def test_only_ipv4_addresses_are_looked_up_in_lists(address: str) -> None:
    assert examine(rule("rbl = bl1.test"), {"client_address": address}) == (Verdict(False), [])
    assert examine(rule("rbl = !!bl1.test"), {"client_address": address}) == (Verdict(True, 1), [])


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ("rbl = !!bl1.test", False),
        ("rbl = !!none.test", True),
        ("rbl != bl1.test", False),
        ("rbl != none.test", True),
        ("rbl != !!bl1.test", True),
        ("rbl == bl1.test", True),
        ("rbl = !!bl1.test, bl2.test", True),
    ],
)
def test_negation(conditions: str, holds: bool) -> None:
    assert verdict(conditions).holds is holds


@pytest.mark.parametrize(
    ("element", "listed"),
    [
        ("bl2.test/127.0.0.[45]$", True),
        ("bl2.test/^127\\.0\\.0\\.2$", False),
        ("bl2.test/^10\\.", True),
        ("bl2.test//60", True),
        ("bl1.test/10", False),
        ("BL1.Test", True),
    ],
)
def test_only_a_fitting_reply_is_a_listing(element: str, listed: bool) -> None:
    assert verdict(f"rbl = {element}").holds is listed


def test_answers_are_kept_as_the_list_says() -> None:
    _, lookups = examine(rule("rbl = bl1.test/127/60, bl2.test//0"))
    assert [(one.name, one.list, one.ttl) for one in lookups[0].questions] == [
        ("10.2.0.192.bl1.test", "bl1.test", 60),
        ("10.2.0.192.bl2.test", "bl2.test", 3600),
    ]


def test_a_file_of_lists_is_read_as_it_is_now() -> None:
    assert verdict("rbl = lfile:/lists", live=["none.test", "bl1.test/^127/60"]).rblcount == 1
    assert verdict("rbl = lfile:/lists", live=[]) == Verdict(False)
    assert verdict("rbl = lfile:/lists", live=["!!(bl1.test)"]) == Verdict(False)
    assert verdict("rbl = lfile:/lists", live=["!!none.test"]).rblcount == 1
    assert verdict("rbl = lfile:/lists", live=["no name", "bl1.test/(", "", "bl1.test//x", "bl2.test"]).rblcount == 1


@pytest.mark.parametrize(
    ("conditions", "items", "holds"),
    [
        ("helo_address = 203.0.113.0/24", {}, True),
        ("helo_address = 198.51.100.0/24", {}, False),
        ("helo_address = 198.51.100.0/24, 203.0.113.5/32", {}, True),
        ("helo_address = 203.0.113.0/24", {"helo_name": "nx.example.net"}, False),
        ("helo_address = !!0.0.0.0/0", {}, False),
        ("helo_address = !!0.0.0.0/0", {"helo_name": "LAPTOP.example.net."}, False),
        ("helo_address = !!0.0.0.0/0", {"helo_name": "nx.example.net"}, True),
        ("helo_address = !!0.0.0.0/0", {"helo_name": "localhost"}, True),
        ("helo_address = !!0.0.0.0/0", {"helo_name": ""}, True),
        ("helo_address = !!0.0.0.0/0", {"helo_name": "six.example.net"}, False),
        ("helo_address = 2001:db8::/32", {"helo_name": "six.example.net"}, True),
        ("helo_address != 203.0.113.0/24", {}, False),
        ("helo_address != 198.51.100.0/24", {}, True),
        ("helo_address != 198.51.100.0/24", {"helo_name": "nx.example.net"}, False),
        ("sender_mx_names = mx2.example.org", {}, True),
        ("sender_mx_names = mx3.example.org", {}, False),
        ("sender_mx_names = !!mx3.example.org", {}, True),
        ("sender_mx_names = !!mx2.example.org", {}, False),
        ("sender_mx_names != mx2.example.org", {}, True),
        ("sender_mx_names = ?*", {"sender_domain": "nx.example.org"}, False),
        ("sender_mx_names = *", {"sender_domain": "nx.example.org"}, True),
        ("sender_mx_names = *", {"sender_domain": "nodot"}, False),
        ("sender_mx_names = !!?*", {"sender_domain": "nx.example.org"}, True),
        ("sender_ns_names = *evil*", {}, True),
        ("sender_mx_addrs = 10.66.0.2/32", {}, True),
        ("sender_mx_addrs = 2001:db8::/32", {}, True),
        ("sender_mx_addrs = 10.77.0.0/16", {}, False),
        ("sender_mx_addrs = !!10.66.0.0/16", {}, False),
        ("sender_mx_addrs = !!0.0.0.0/0", {"sender_domain": "nx.example.org"}, True),
        ("sender_mx_addrs = 0.0.0.0/0", {"sender_domain": "nx.example.org"}, False),
        ("sender_ns_addrs = 10.77.0.0/16", {}, True),
    ],
)
def test_look_ups(conditions: str, items: dict[str, str], holds: bool) -> None:
    assert verdict(conditions, items=items).holds is holds


def test_different_look_ups_must_all_hold() -> None:
    assert verdict("sender_mx_names = mx1*", "sender_ns_names = *evil*").holds
    assert not verdict("sender_mx_names = mx1*", "sender_ns_names = *good*").holds
    assert not verdict("sender_mx_addrs = 10.66.0.0/16", "sender_ns_addrs = 10.66.0.0/16").holds
    assert verdict("helo_address = 198.51.100.0/24", "helo_address = 203.0.113.0/24").holds


def test_many_mail_servers_are_bounded() -> None:
    zone = {"example.org MX": [f"mx{number}.example.org" for number in range(500)]}
    _, lookups = examine(rule("sender_mx_addrs = 0.0.0.0/0"), zone=zone)
    assert len(lookups[1].questions) == 200


@pytest.mark.parametrize(
    "text", ["bl1.test", "zen.example.net/^127\\.0\\.0\\.[2-8]$/300", "a_b.test//", "x", "bl.test///"]
)
def test_good_elements(text: str) -> None:
    check(text)


@pytest.mark.parametrize(
    ("text", "offset", "words"),
    [
        ("", 0, "nothing is no name"),
        ("/127", 0, "nothing is no name"),
        ("bl test", 0, "bl test is no name"),
        ("bl..test", 0, "expected a host name"),
        (".test", 0, "expected a host name"),
        ("$$helo_name", 0, "expected a host name"),
        ("x" * 64 + ".test", 0, "expected a host name"),
        (".".join(["x" * 60] * 4), 0, "expected a host name"),
        ("bl.test\n", 0, "expected a host name"),
        ("bl.test/127(", 12, "bad pattern"),
        ("bl.test/[2/60", 10, "bad pattern"),
        ("bl.test/127/1h", 12, "1h is no number of seconds"),
        ("bl.test/127/-1", 12, "no number of seconds"),
        ("bl.test/127/٣", 12, "no number of seconds"),
        ("bl.test/127/60/x", 15, "no more"),
    ],
)
def test_bad_elements_tell_where(text: str, offset: int, words: str) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        check(text)
    assert raised.value.args[1] == offset


@given(st.text())
def test_any_text_is_an_element_or_an_error(text: str) -> None:
    offset = 0
    try:
        parse(text)
    except ValueError as error:
        _, offset = error.args
    assert 0 <= offset <= len(text)


@given(st.sampled_from(sorted(ITEMS)), st.text())
def test_whatever_a_client_sends_is_only_asked_for(item: str, text: str) -> None:
    every = ("rbl = bl1.test", "rhsbl = rh.test", "rhsbl_sender = rh.test", "rhsbl_helo = rh.test")
    _, lookups = examine(rule(*every, rblcount=None, rhsblcount=None), {item: text})
    for question in questions(lookups):
        assert question.name.endswith((".bl1.test", ".rh.test"))
    examine(rule("helo_address = 0.0.0.0/0", "sender_mx_addrs = 0.0.0.0/0"), {item: text})


def questions(lookups: list[Lookup]) -> Iterator[Question]:
    return (question for lookup in lookups for question in lookup.questions)
