"""The texts that people are told."""

import shlex
from typing import Any

import pytest

from sinks.alerts import MOST_NAMED, compose
from tests.sinks.test_told import ALICE, BOB, NOON, braked, record, shadow
from weir.decisions import Decision, Evidence

NOW = NOON + 10
ID = record().id


def evidence(**fields: Any) -> Evidence:
    known: dict[str, Any] = {"counter": "messages", "count": 61, "threshold": 60, "seconds": 60, "time": NOON}
    known |= {"hosts": ["mx1", "mx2"], "beside": ["client_address:192.0.2.10", "client_address:2001:db8::/64"]}
    return Evidence(**(known | fields))


def test_one_block() -> None:
    action = f"521 5.7.1 Too much mail [weir burst {ID}]"
    message = compose([record(evidence=evidence(), action=action)], NOW)
    assert message.title == "Weir blocked alice@example.org: 61 messages in 60 s"
    assert message.urgency == "warning"
    assert message.body == (
        "Who: sasl_username:alice@example.org\n"
        f"What: blocked on all hosts, by burst; the answer is: 521 5.7.1 Too much mail [weir burst {ID}]\n"
        "Why: 61 messages in 60 s, more than 60, at 2026-09-21 14:13:20 UTC\n"
        "Until: 2026-09-21 15:13:20 UTC\n"
        f"Decision: {ID}\n"
        "\n"
        "To look: weir history sasl_username:alice@example.org\n"
        "To undo: weir release sasl_username:alice@example.org --reason '…'\n"
        "\n"
        "Hosts: mx1, mx2\n"
        "Clients: 192.0.2.10, 2001:db8::/64\n"
    )


def test_accounts_stand_beside_a_client() -> None:
    message = compose([record("client_address:192.0.2.10", evidence=evidence(beside=[ALICE, BOB]))], NOW)
    assert message.title.startswith("Weir blocked 192.0.2.10: ")
    assert "\nAccounts: alice@example.org, bob@example.org\n" in message.body


@pytest.mark.parametrize(
    ("why", "says"), [("detector", "its detector is in shadow"), ("pause", "weir resume"), ("another", "another")]
)
def test_a_shadow_is_marked_and_says_why(why: str, says: str) -> None:
    message = compose([shadow(why=why)], NOW)
    assert message.title == f"Weir would block (shadow: {why}) alice@example.org: 61 messages in 60 s"
    assert message.urgency == "info"
    assert "What: nothing is blocked, since " in message.body
    assert says in message.body
    assert "weir release" not in message.body
    assert f"weir allow {ALICE} --for 12h" in message.body


def test_the_brake_comes_first_whatever_comes_with_it() -> None:
    message = compose([record(BOB), braked(1, NOW)], NOW)
    assert message.title == "Weir's brake is on: further blocks are held back"
    assert message.urgency == "failure"
    held, _, others = message.body.partition("At the same time:")
    assert "Who: sasl_username:user1@example.org\n" in held
    assert "weir pause --reason" in held
    assert f"Who: {BOB}\n" in others


def test_a_storm_names_some_and_counts_the_others() -> None:
    records = [shadow(), *(record(f"sasl_username:user{number}@example.org") for number in range(499))]
    message = compose(records, NOW)
    assert message.title == "Weir blocked 499 senders and 1 sender in shadow"
    lines = [line for line in message.body.splitlines() if line.startswith("- ")]
    assert len(lines) == MOST_NAMED
    assert lines[0] == (f"- user0@example.org: 61 messages in 60 s, until 2026-09-21 15:13:20 UTC [{records[1].id}]"), (
        "blocks come before shadows"
    )
    assert message.body.endswith(f"and {500 - MOST_NAMED} others: weir decisions list\n")
    assert "To undo: weir release SUBJECT --reason" in message.body
    assert len(message.body) < 4096, "what a chat takes"


def test_shadows_in_a_list_are_marked() -> None:
    message = compose([shadow(why="pause"), shadow(BOB)], NOW)
    assert message.title == "Weir would block 2 senders in shadow"
    assert "- alice@example.org (shadow: pause): " in message.body


def test_what_is_over_is_only_counted() -> None:
    over = record(BOB, until=NOW - 1)
    message = compose([over, record()], NOW)
    assert message.title == "Weir blocked alice@example.org: 61 messages in 60 s"
    assert "\n1 decision was over before anybody could be told: weir decisions list --all\n" in message.body
    assert "bob" not in message.title + message.body
    assert message.over == 1
    alone = compose([over, over], NOW)
    assert alone.title == "Weir: 2 decisions were over before anybody could be told"
    assert (alone.urgency, alone.over) == ("info", 2)


@pytest.mark.parametrize(
    "subject",
    [
        "sasl_username:$(reboot)`id`'; rm -rf / #@example.org",
        "sasl_username:\x1b[2J\u202e\x07 bell@example.org",
        "sasl_username:-rf@example.org",
        "sasl_username:two words",
        "sasl_username:192.0.2.1",
        "uid:33",
        "sasl_username:",
        "nonsense",
        "sasl_username:" + "a" * 280,
    ],
)
def test_hostile_names_harm_nobody(subject: str) -> None:
    records: list[Decision] = [record(subject, evidence=evidence(beside=[subject] * 32, hosts=["mx" * 200] * 32))]
    for message in (compose(records, NOW), compose(records * 2, NOW)):
        assert message.title.isprintable()
        assert len(message.title) < 150
        assert all(line.isprintable() for line in message.body.splitlines())
    (undo,) = [line for line in compose(records, NOW).body.splitlines() if line.startswith("To undo: ")]
    words = shlex.split(undo.removeprefix("To undo: "))
    assert words[:2] == ["weir", "release"]
    assert words[3:] == ["--reason", "…"]
    if subject.isprintable():
        assert words[2] == subject


def test_times_out_of_range_are_told_as_they_are() -> None:
    message = compose([record(until=1e300, evidence=evidence(time=-1e300))], NOW)
    assert "Until: 1e+300\n" in message.body
