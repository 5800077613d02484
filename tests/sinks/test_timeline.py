"""The history of one subject, and its end."""

import time
from typing import Any

import pytest

from sinks import decision_rows, forget, rollups, rows, timeline
from sinks.embedded import Embedded
from tests.sinks.conftest import KEEP_DAYS
from tests.sinks.made import NOON, Way, event, events, insert, login, rejected, rows_of
from weir import subjects
from weir.decisions import Decision, Evidence
from weir.events import Queue
from weir.limits import Hit
from weir.operators import Word

ALICE = "sasl_username:alice@example.org"
CLIENT = "client_address:192.0.2.10"
NETWORK = "client_address:2001:db8::/64"


def hit(key: str) -> Hit:
    return Hit("0" * 16, key, 1, 60.0, 3600.0, "rate R")


def exhausted(key: str) -> Decision:
    evidence = Evidence("rate R", 60, 60, 3600, NOON + 5, ["mx1"])
    return Decision(1, f"id {key}", f"limit:{'0' * 16}:{key}", "limit", "", evidence, NOON + 5, NOON + 3605)


@pytest.mark.parametrize(
    ("subject", "keys", "others"),
    [
        (
            ALICE,
            ("sasl_username=Alice@example.org", "sender=alice@example.org", "sasl_username=Alice"),
            ("sender=malice@example.org",),
        ),
        (CLIENT, ("client_address=192.0.2.10",), ("client_address=192.0.2.101",)),
        (NETWORK, ("client_address=2001:db8::7",), ("client_address=2001:db8:0:1::7",)),
    ],
)
def test_limits_that_were_keyed_by_what_is_forgotten_go_too(
    store: Embedded, subject: str, keys: tuple[str, ...], others: tuple[str, ...]
) -> None:
    by_others = event(
        1, sasl_username="bob@example.org", client_address="192.0.2.99", limits=[hit(key) for key in keys]
    )
    own = event(2, client_address="2001:db8::7" if subject == NETWORK else "192.0.2.10", limits=[hit(keys[0])])
    kept = event(3, sasl_username="bob@example.org", client_address="192.0.2.99", limits=[hit(others[0])])
    batch = [by_others, own, kept] if subject == ALICE else [own, kept]
    insert(store, "events", rows.EVENT, rows_of(events(batch)))
    insert(
        store, "decisions", decision_rows.DECISION, [decision_rows.decision(exhausted(key)) for key in (*keys, *others)]
    )
    assert forget.forget(store, subject, "example.org")["decisions"] == len(keys)
    told = [text for (text,) in store.query("SELECT details FROM events FINAL") if text]
    assert len(told) == 1
    assert others[0] in told[0]
    assert [text for (text,) in store.query("SELECT subject FROM decisions FINAL")] == [exhausted(others[0]).subject]


@pytest.fixture
def filled(store: Embedded) -> Embedded:
    """Alice from two addresses and hosts, Bob who writes to Alice, a decision and a word about Alice."""
    batch = [
        events([event(1, time=NOON + 1.5), event(2, time=NOON + 2, client_address="2001:db8::7")]),
        events([event(1, time=NOON + 3, recipient="carol@example.net")], host="mx2"),
        events([event(3, time=NOON + 4, sasl_username="bob@example.org", recipient="Alice@Example.org")]),
        events([b'{"kind":"greeting","seq":9,"time":1790000099,"sasl_username":"alice@example.org"}']),
    ]
    insert(store, "events", rows.EVENT, rows_of(*batch))
    touched = rollups.nothing()
    rollups.touch(touched, batch, KEEP_DAYS, NOON)
    rollups.make(store, touched)
    for subject, beside in ((ALICE, CLIENT), (CLIENT, ALICE)):
        evidence = Evidence("messages", 61, 60, 60, NOON + 5, ["mx1"], [beside, "x"])
        decision = Decision(1, f"id{len(subject)}", subject, "burst", "521 no", evidence, NOON + 5, NOON + 3605)
        insert(store, "decisions", decision_rows.DECISION, [decision_rows.decision(decision)])
    insert(
        store,
        "words",
        decision_rows.WORD,
        [decision_rows.word(Word(1, "w", "release", ALICE, "eve", "new password"), NOON + 6)],
    )
    return store


def kinds(found: list[timeline.Entry]) -> list[tuple[str, str]]:
    return [(one.kind, one.host) for one in found]


def test_of_an_account_all_that_happened_in_order(filled: Embedded) -> None:
    found = timeline.entries(filled, ALICE, NOON)
    assert kinds(found) == [("request", "mx1"), ("request", "mx1"), ("request", "mx2"), ("decision", ""), ("word", "")]
    assert found[0].time == NOON + 1.5
    assert found[2].facts["recipient"] == "carol@example.net"
    assert (found[3].facts["count"], found[3].facts["until"]) == (61, NOON + 3605)
    assert found[4].facts["who"] == "eve"
    assert timeline.sums(filled, ALICE, NOON) == timeline.Sums(3, 3, 6, 0, 2, 2)


def test_it_is_narrowed_by_time_host_kind_and_number(filled: Embedded) -> None:
    assert kinds(timeline.entries(filled, ALICE, NOON + 2.5)) == [("request", "mx2"), ("decision", ""), ("word", "")]
    assert kinds(timeline.entries(filled, ALICE, NOON, host="mx2")) == [("request", "mx2")]
    assert kinds(timeline.entries(filled, ALICE, NOON, kind="decision")) == [("decision", "")]
    assert kinds(timeline.entries(filled, ALICE, NOON, kind="request"))[-1] == ("request", "mx2")
    assert kinds(timeline.entries(filled, ALICE, NOON, most=2)) == [("decision", ""), ("word", "")]
    assert timeline.sums(filled, ALICE, NOON, "mx2") == timeline.Sums(1, 1, 2, 0, 1, 1)


def test_of_a_client_and_of_a_network(filled: Embedded) -> None:
    assert timeline.sums(filled, CLIENT, NOON) == timeline.Sums(3, 3, 6, 0, 2, 2)
    assert len(timeline.entries(filled, CLIENT, NOON)) == 4
    (only,) = timeline.entries(filled, NETWORK, NOON)
    assert only.facts["client_address"] == "2001:db8::7"


def test_of_a_local_user_what_was_decided_and_said(filled: Embedded) -> None:
    evidence = Evidence("messages", 61, 60, 60, NOON + 5, ["web1"])
    decision = Decision(1, "id33", "uid:33", "burst", "521 no", evidence, NOON + 5, NOON + 3605)
    insert(filled, "decisions", decision_rows.DECISION, [decision_rows.decision(decision)])
    insert(
        filled,
        "words",
        decision_rows.WORD,
        [decision_rows.word(Word(1, "w33", "release", "uid:33", "eve", "mended"), NOON + 6)],
    )
    found = timeline.entries(filled, "uid:33", NOON)
    assert kinds(found) == [("decision", ""), ("word", "")]
    assert (found[0].facts["id"], found[0].facts["hosts"]) == ("id33", ["web1"])


def told(store: Embedded, *batch: rows.Events, now: float = NOON) -> None:
    """Store what mail logs told, and its sums."""
    insert(store, "events", rows.EVENT, rows_of(*batch))
    touched = rollups.nothing()
    rollups.touch(touched, batch, KEEP_DAYS, now)
    rollups.make(store, touched)


def test_what_the_mail_log_told_is_in_the_history_of_each_subject(store: Embedded) -> None:
    way = Way(1).submitted().delivery("sent").delivery("bounced", NOON + 60, bounce="listed", text="no")
    local = Way(10, sasl_username="", client_address="", uid=33).submitted(login="www-data").delivery("deferred")
    told(store, events([*way.events, *local.events, login(20, failed="credentials", tries=3)]))
    told(store, events(Way(1).delivery("sent").events, host="mx2"))
    hour = NOON // 3600 * 3600
    alice = [("bounced", "listed", 1), ("login_failed", "credentials", 3), ("sent", "", 2), ("submitted", "", 1)]
    assert timeline.outcomes(store, ALICE, hour) == timeline.outcomes(store, CLIENT, NOON + 3) == alice
    assert timeline.outcomes(store, ALICE, hour, "mx2") == [("sent", "", 1)]
    assert timeline.outcomes(store, "uid:33", hour) == [("deferred", "", 1), ("submitted", "", 1)]
    assert timeline.outcomes(store, ALICE, hour + 3600) == []
    assert timeline.sums(store, "uid:33", hour).messages == 0
    found = timeline.entries(store, "uid:33", NOON)
    assert [(one.kind, one.facts.get("login"), one.facts.get("status")) for one in found] == [
        ("submitted", "www-data", None),
        ("delivery", None, "deferred"),
    ]
    (bounced,) = [one for one in timeline.entries(store, ALICE, NOON) if one.facts.get("status") == "bounced"]
    assert (bounced.facts["bounce"], bounced.facts["text"]) == ("listed", "no")


def forgetting(store: Embedded, subject: str) -> dict[str, int]:
    """Alice, Bob and a local user in the same minute; Bob writes to Alice. Then the subject is forgotten."""
    now = time.time() // 3600 * 3600
    bob: dict[str, Any] = {"sasl_username": "bob@example.org", "client_address": "192.0.2.10", "submitted": now}
    to_alice = {"sender": "bob@example.org", "recipient": "alice@example.org"}
    said = "550 <Alice@example.org> does not like 192.0.2.10"
    local: dict[str, Any] = {"sasl_username": "", "client_address": "", "uid": 33}
    batch = [
        *Way(1, submitted=now).submitted(now).delivery("sent", now).delivery("sent", now).events,
        *Way(10, **bob).delivery("bounced", now, text=said, **to_alice).delivery("sent", now).events,
        *Way(20, submitted=now, **local).submitted(now, login="www-data").delivery("sent", now).events,
        *(login(30, time=now), rejected(31, time=now, sasl_username="alice@example.org")),
    ]
    told(store, events(batch), now=now)
    return forget.forget(store, subject)


def counted(store: Embedded, table: str) -> dict[str, int]:
    return dict(store.query(f"SELECT outcome, sum(count) FROM {table} FINAL GROUP BY outcome"))  # type: ignore[arg-type]


OUTCOMES = ("outcomes", "host_outcomes", "account_outcomes", "client_outcomes")


def test_a_forgotten_account_is_in_no_outcome(store: Embedded) -> None:
    counts = forgetting(store, ALICE)
    assert (counts["events"], counts["texts"], counts["addresses"]) == (5, 1, 2)
    assert _texts_with(store, "alice") == []
    assert [counted(store, table) for table in OUTCOMES] == [
        *[{"bounced": 1, "sent": 2, "submitted": 1}] * 2,
        *[{"bounced": 1, "sent": 1}] * 2,
    ]
    assert not any(forget.forget(store, ALICE).values())


def test_a_forgotten_address_is_in_no_outcome_and_accounts_keep_theirs(store: Embedded) -> None:
    counts = forgetting(store, CLIENT)
    assert (counts["events"], counts["client_outcomes"], counts["texts"]) == (7, 5, 1)
    assert _texts_with(store, "192.0.2.10") == []
    of_accounts = {"bounced": 1, "login": 1, "rejected": 1, "sent": 3, "submitted": 1}
    assert counted(store, "account_outcomes") == of_accounts
    assert counted(store, "client_outcomes") == {}
    assert counted(store, "outcomes") == counted(store, "host_outcomes") == {**of_accounts, "sent": 4, "submitted": 2}


def test_a_local_user_is_forgotten(store: Embedded) -> None:
    counts = forgetting(store, "uid:33")
    assert (counts["events"], counts["outcomes"]) == (2, 2)
    assert timeline.entries(store, "uid:33", 0) == []
    assert timeline.outcomes(store, "uid:33", 0) == []
    assert counted(store, "host_outcomes") == {"bounced": 1, "login": 1, "rejected": 1, "sent": 3, "submitted": 1}
    assert _texts_with(store, "www-data") == []


def test_nothing_is_known_of_a_stranger(filled: Embedded) -> None:
    assert timeline.entries(filled, "sasl_username:o'hara\\@example.org", NOON) == []
    assert timeline.sums(filled, "sasl_username:o'hara\\@example.org", NOON).events == 0


def test_a_forgotten_account_is_found_nowhere(filled: Embedded) -> None:
    counts = forget.forget(filled, ALICE)
    assert counts == {
        "events": 3,
        "minutes": 3,
        "account_hours": 1,
        "days": 1,
        "outcomes": 0,
        "account_outcomes": 0,
        "addresses": 1,
        "decisions": 1,
        "words": 1,
        "evidence": 1,
        "details": 1,
        "texts": 0,
    }
    assert _texts_with(filled, "alice") == []
    bob = timeline.entries(filled, "sasl_username:bob@example.org", NOON)
    assert [one.facts.get("recipient") for one in bob] == [None]
    assert timeline.sums(filled, "sasl_username:bob@example.org", NOON).messages == 1
    assert not any(forget.forget(filled, ALICE).values())


def test_what_others_do_in_the_same_hour_is_counted_after_that(store: Embedded) -> None:
    """Sums with more events win: those that the forgotten account was part of must not."""
    now = time.time() // 3600 * 3600
    many = [events([event(seq, time=now) for seq in range(1, 101)])]
    few = [events([event(seq, time=now, sasl_username="bob@example.org") for seq in range(201, 231)])]
    for batch, forgotten in ((many, True), (few, False)):
        insert(store, "events", rows.EVENT, rows_of(*batch))
        touched = rollups.nothing()
        rollups.touch(touched, batch, KEEP_DAYS, now)
        rollups.make(store, touched)
        if forgotten:
            forget.forget(store, ALICE)
    for table in ("minutes", "host_minutes", "client_hours", "account_hours", "days"):
        assert [list(row) for row in store.query(f"SELECT events, messages FROM {table} FINAL")] == [[30, 30]], table
    ((accounts,),) = store.query("SELECT uniqExactMerge(accounts) FROM client_hours FINAL")
    assert accounts == 1


def test_a_forgotten_address_is_found_nowhere_and_accounts_keep_their_sums(filled: Embedded) -> None:
    before = timeline.sums(filled, ALICE, NOON)
    counts = forget.forget(filled, CLIENT)
    assert counts == {
        "events": 3,
        "minutes": 3,
        "client_hours": 1,
        "outcomes": 0,
        "client_outcomes": 0,
        "decisions": 1,
        "words": 0,
        "evidence": 1,
        "details": 0,
        "texts": 0,
    }
    assert _texts_with(filled, subjects.value(CLIENT)) == []
    assert timeline.sums(filled, ALICE, NOON) == before


def test_an_attempt_that_failed_halfway_is_made_good(filled: Embedded) -> None:
    before = timeline.sums(filled, ALICE, NOON)
    copied = "* REPLACE ('forgotten 0' AS client, 'forgotten 0' AS client_address, '' AS client_name)"
    filled.run(f"INSERT INTO events SELECT {copied} FROM (SELECT * FROM events FINAL WHERE client = '192.0.2.10')")
    forget.forget(filled, CLIENT)
    assert _texts_with(filled, "192.0.2.10") == []
    assert timeline.sums(filled, ALICE, NOON) == before
    assert list(map(list, filled.query("SELECT sum(events) FROM host_minutes FINAL"))) == [[4]]
    ((number, distinct),) = filled.query("SELECT count(), uniqExact(host, epoch, seq) FROM events FINAL")
    assert number == distinct


def _texts_with(store: Embedded, part: str) -> list[str]:
    """The tables whose rows hold it anywhere."""
    found = []
    for table in ("events", "minutes", "account_hours", "client_hours", "days", "decisions", "words", *OUTCOMES):
        ((count,),) = store.query(f"SELECT count() FROM {table} FINAL WHERE lower(toString(tuple(*))) LIKE '%{part}%'")
        if count:
            found.append(table)
    return found


def test_what_was_done_with_queued_mail_is_in_the_time_line_of_its_subject(store: Embedded) -> None:
    told = [
        Queue(seq=1, time=NOON, subject=ALICE, how="held", messages=7, cause="1f0c9a6b2d47"),
        Queue(seq=2, time=NOON + 60, subject="uid:33", how="left", messages=1, cause="1f0c9a6b2d47"),
    ]
    insert(store, "events", rows.EVENT, rows_of(events(told)))
    (hers,), (theirs,) = (timeline.entries(store, subject, NOON) for subject in (ALICE, "uid:33"))
    assert (hers.kind, hers.facts["how"], theirs.facts["how"]) == ("queue", "held", "left")
    forget.forget(store, ALICE, "")
    (left,) = store.query("SELECT details FROM events FINAL")
    assert "alice" not in left[0], "and goes with it"
