"""The way of a message, and the newest messages of a subject."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from sinks import rows, trace
from sinks.embedded import Embedded
from sinks.timeline import Entry
from tests.sinks.made import NOON, Way, event, events, insert, rejected, rows_of
from weir import subjects

FIRST, INNER, AGAIN = "4bXYZ00001", "4bXYZ00002", "5C0DE0001"
ID = "<1@a.example>"
ALICE = "sasl_username:alice@example.org"


def put(store: Embedded, made: Sequence[Any], host: str = "mx1") -> None:
    insert(store, "events", rows.EVENT, rows_of(events(made, host)))


@pytest.fixture
def filled(store: Embedded) -> Embedded:
    """A message of Alice's through two hosts, and others beside it, one of the same short queue id."""
    way = Way(10, FIRST, NOON + 1, clock_offset=0.0).submitted(NOON + 1)
    way.removed("held", NOON + 2).removed("released", NOON + 60)
    way.delivery("deferred", NOON + 70, bounce="rate").delivery("sent", NOON + 400, relay="in.test[192.0.2.7]:25")
    way.delivery("bounced", NOON + 400, recipient="x@example.net", bounce="listed", text="550 listed").removed(
        time=NOON + 400
    )
    asked = [
        event(1, time=NOON, instance="i1"),
        event(2, time=NOON + 0.5, instance="i1", recipient="x@example.net", queue_id=FIRST),
        event(3, time=NOON + 1.5, instance="i1", queue_id=FIRST, protocol_state="END-OF-MESSAGE"),
        event(4, time=NOON, instance="i2"),
        event(5, time=NOON - 9000, instance="i3", queue_id=FIRST),
        event(6, time=NOON, instance="i1", sasl_username="bob@example.org"),
    ]
    put(store, [*asked, *way.events])
    put(store, way.events)  # twice
    nobody = {"sasl_username": "", "client_address": "192.0.2.50"}
    inner = Way(1, INNER, NOON + 399, **nobody).submitted(NOON + 399).delivery("sent", NOON + 401)
    put(store, inner.removed(time=NOON + 402).events, "in")
    other = Way(50, AGAIN, NOON + 10, message_id="<2@a.example>").submitted(NOON + 10).delivery("sent", NOON + 11)
    put(store, [*other.events, rejected(60, time=NOON + 10, queue_id=AGAIN, stage="END-OF-MESSAGE")])
    later = Way(70, AGAIN, NOON + 5000, message_id="<3@a.example>", uid=33, sasl_username="", client_address="")
    put(store, later.submitted(NOON + 5000, login="www-data").events)
    return store


def steps(found: list[Entry]) -> list[tuple[str, str, float]]:
    return [(one.host, str(one.facts.get("how") or one.facts.get("status") or one.kind), one.time) for one in found]


WHOLE = [
    ("mx1", "request", NOON),
    ("mx1", "request", NOON + 0.5),
    ("mx1", "request", NOON + 1.5),  # before what the log says in the same second
    ("mx1", "submitted", NOON + 1),
    ("mx1", "held", NOON + 2),
    ("mx1", "released", NOON + 60),
    ("mx1", "deferred", NOON + 70),
    ("in", "submitted", NOON + 399),
    ("mx1", "sent", NOON + 400),
    ("mx1", "bounced", NOON + 400),
    ("mx1", "removed", NOON + 400),
    ("in", "sent", NOON + 401),
    ("in", "removed", NOON + 402),
]


@pytest.mark.parametrize("name", [ID, "1@a.example", FIRST, INNER])
def test_the_way_of_a_message_over_all_hosts(filled: Embedded, name: str) -> None:
    found = trace.way(filled, name, NOON)
    assert steps(found) == WHOLE
    assert found[0].facts["instance"] == found[2].facts["instance"] == "i1"
    assert found[9].facts["text"] == "550 listed"


def test_it_is_found_by_what_came_late_too(filled: Embedded) -> None:
    assert steps(trace.way(filled, ID, NOON + 300)) == WHOLE


def test_a_queue_id_that_came_again_is_two_messages(filled: Embedded) -> None:
    assert [step[:2] for step in steps(trace.way(filled, "<2@a.example>", NOON))] == [
        ("mx1", "submitted"),
        ("mx1", "rejected"),
        ("mx1", "sent"),
    ]
    (only,) = trace.way(filled, "<3@a.example>", NOON)
    assert only.time == NOON + 5000
    assert [only.facts[name] for name in ("uid", "login", "size", "recipient_count")] == [33, "www-data", 900, 2]
    assert len(trace.way(filled, AGAIN, NOON)) == 4


def test_a_submission_that_moved_a_little_is_the_same_message(store: Embedded) -> None:
    put(store, Way(1, FIRST, NOON + 1).submitted().events)
    put(store, Way(2, FIRST, NOON + 1, clock_offset=1.5).delivery("sent", NOON + 3).removed(time=NOON + 4).events)
    assert len(trace.way(store, ID, NOON)) == 3


@pytest.mark.parametrize("name", ["<nothing@a.example>", "4bXYZ99999", "o'hara\\@x", "%"])
def test_nothing_is_found_of_what_never_was(filled: Embedded, name: str) -> None:
    assert trace.way(filled, name, NOON) == []


def test_a_message_id_of_very_many_messages_ends_somewhere(store: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_MESSAGES", 3)
    put(store, [one for number in range(9) for one in Way(number, f"4bXYZ0000{number + 1}").submitted().events])
    assert len(trace.way(store, ID, NOON)) == 3


def test_the_newest_messages_of_an_account(filled: Embedded) -> None:
    first, second = trace.newest(filled, ALICE, NOON, 10)
    assert first == trace.Summary(NOON + 1, "mx1", FIRST, ID, "alice@example.org", 2, 900, 1, 1, 1, "removed")
    assert (second.queue_id, second.sent, second.how) == (AGAIN, 1, "")
    assert trace.newest(filled, ALICE, NOON, 1) == [second]
    assert trace.newest(filled, ALICE, NOON + 60, 10) == []


def test_the_newest_messages_of_a_client_and_of_a_local_user(filled: Embedded) -> None:
    assert [one.host for one in trace.newest(filled, subjects.client_address("192.0.2.50"), NOON, 10)] == ["in"]
    (only,) = trace.newest(filled, subjects.uid(33), NOON, 10)
    assert (only.message_id, only.sent, only.how) == ("<3@a.example>", 0, "")


def test_ids_are_found_by_their_indexes(filled: Embedded) -> None:
    for column in ("message_id", "queue_id"):
        plan = filled.query(f"EXPLAIN indexes = 1 SELECT seq FROM events WHERE {column} IN ('x', 'y')")
        assert f"Name: {column}" in " ".join(str(line) for (line,) in plan)


BOUNCE, NOTIFIED = "4bXYZ0000B", "<bounce@mx1.example>"


def notification(seq: int, parent: str, time: float, queue_id: str = BOUNCE, message_id: str = NOTIFIED) -> Way:
    """Nobody's, and told of by what becomes of it."""
    nobody = {"sasl_username": "", "client_address": ""}
    way = Way(seq, queue_id, time, message_id=message_id, parent=parent, **nobody)
    return way.delivery("sent", time + 1, recipient="alice@example.org").removed(time=time + 1)


@pytest.mark.parametrize("name", [ID, BOUNCE, NOTIFIED])
def test_a_notification_belongs_to_the_message_that_it_tells_of(filled: Embedded, name: str) -> None:
    put(filled, notification(100, FIRST, NOON + 400).events)
    put(filled, notification(110, FIRST, NOON + 400, "4bXYZ0000D", "<other@in.example>").events, "in")
    found = trace.way(filled, name, NOON)
    assert sorted(steps(found)) == sorted([*WHOLE, ("mx1", "sent", NOON + 401), ("mx1", "removed", NOON + 401)])
    (told,) = [one for one in found if one.facts.get("queue_id") == BOUNCE and one.kind == "delivery"]
    assert told.facts["parent"] == FIRST


def test_a_notification_belongs_to_the_message_that_had_the_queue_id_then(filled: Embedded) -> None:
    put(filled, notification(100, AGAIN, NOON + 20).events)
    put(filled, notification(110, AGAIN, NOON + 5010, "4bXYZ0000C", "<late@mx1.example>").events)
    early, late = (trace.way(filled, name, NOON) for name in ("<2@a.example>", "<3@a.example>"))
    assert BOUNCE in {one.facts["queue_id"] for one in early}
    assert "4bXYZ0000C" not in {one.facts["queue_id"] for one in early}
    assert {one.facts["queue_id"] for one in late} == {AGAIN, "4bXYZ0000C"}


def test_what_came_out_of_a_filter_without_a_message_id_is_found_both_ways(store: Embedded) -> None:
    put(store, Way(1, FIRST, NOON, message_id="").submitted(NOON).removed(time=NOON + 1).events)
    out = Way(10, INNER, NOON, message_id="", parent=FIRST).delivery("sent", NOON + 2).removed(time=NOON + 2)
    put(store, out.events)
    for name in (FIRST, INNER):
        assert len(trace.way(store, name, NOON)) == 4


def test_messages_that_came_out_of_each_other_end_somewhere(store: Embedded) -> None:
    chain = [f"4bXYZ1000{letter}" for letter in "BCDFGHJKLMNPQRSTV"]
    for number, (parent, child) in enumerate(pairwise(chain)):
        put(store, notification(10 * number, parent, NOON + number, child, "").events)
    assert len(trace.way(store, chain[1], NOON)) == 2 * (2 * trace.MOST_GENERATIONS + 1)
    put(store, notification(1000, BOUNCE, NOON).events)  # of itself
    assert len(trace.way(store, BOUNCE, NOON)) == 2
