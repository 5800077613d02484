"""What is in force: decisions and operators' words, read together."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import decisions, operators, subjects, topics
from weir.cli import in_force
from weir.cli.broker import Message
from weir.cli.in_force import Picture
from weir.decisions import Decision, Evidence
from weir.operators import EVERYTHING, Word

ALICE = "sasl_username:alice@example.org"
LIMIT = "limit:0123456789abcdef:sasl_username=alice@example.org"
EVIDENCE = Evidence("messages", 61, 60, 60, 1000.0)


def decision(subject: str = ALICE, **more: object) -> Decision:
    one = Decision(1, "0" * 12, subject, "burst", "521 no", EVIDENCE, 1000.0, 4600.0)
    return msgspec.structs.replace(one, **more)


def word(kind: str, subject: str = ALICE, until: float = 9000.0) -> Word:
    return Word(1, "1" * 12, kind, subject, "noc@desk", "spam", until)  # type: ignore[arg-type]


def picture(*records: Decision | tuple[Word, float]) -> Picture:
    known = Picture()
    for one in records:
        known.apply(message(one))
    assert known.not_understood == 0
    return known


def message(record: Decision | tuple[Word, float]) -> Message:
    if isinstance(record, Decision):
        key = decisions.key(record.cause, record.subject)
        return Message(topics.DECISIONS, key, decisions.encoder.encode(record), 1000.0)
    one, time = record
    return Message(topics.OPERATORS, operators.key(one), operators.encoder.encode(one), time)


@pytest.mark.parametrize(
    ("records", "now", "expected"),
    [
        ([decision()], 2000.0, "in force"),
        ([decision()], 4600.0, "expired"),
        ([decision(shadow=True)], 2000.0, "shadow"),
        ([decision(shadow=True)], 4600.0, "expired"),
        ([decision(), (word("release"), 1500.0)], 2000.0, "released"),
        ([decision(after=1500.0), (word("release"), 1500.0)], 2000.0, "in force"),
        ([decision(), (word("allow"), 1500.0)], 2000.0, "allowed"),
        ([decision(), (word("allow", until=1900.0), 1500.0)], 2000.0, "in force"),
        ([decision(), (word("allow"), 1500.0), (word("release"), 1600.0)], 2000.0, "released"),
        ([decision(), (word("pause", EVERYTHING), 1500.0)], 2000.0, "in force"),
        ([decision(), (word("release", "sasl_username:bob"), 1500.0)], 2000.0, "in force"),
        ([decision(LIMIT), (word("release"), 1500.0)], 2000.0, "released"),
        ([decision(LIMIT), (word("release", LIMIT), 1500.0)], 2000.0, "released"),
        ([decision(LIMIT), (word("allow"), 1500.0)], 2000.0, "allowed"),
        ([decision(LIMIT), (word("allow", "client_address:192.0.2.1"), 1500.0)], 2000.0, "in force"),
    ],
)
def test_what_has_become_of_a_decision(records: list[Decision | tuple[Word, float]], now: float, expected: str) -> None:
    known = picture(*records)
    assert [known.state(one, now) for one in known.decisions.values()] == [expected]


@pytest.mark.parametrize(
    ("records", "now", "expected"),
    [
        ([(word("block"), 1000.0)], 2000.0, ["in force"]),
        ([(word("block"), 1000.0)], 9000.0, ["expired"]),
        ([(word("block"), 1000.0), (word("release"), 1500.0)], 2000.0, ["released", "released"]),
        ([(word("allow"), 1000.0), (word("release"), 1500.0)], 2000.0, ["in force", "released"]),
        ([(word("pause", EVERYTHING, 0.0), 1000.0)], 2000.0, ["in force"]),
    ],
)
def test_what_has_become_of_a_word(records: list[tuple[Word, float]], now: float, expected: list[str]) -> None:
    known = picture(*records)
    assert [known.word_state(one, now) for one, _ in known.words()] == expected


def test_a_limit_may_count_an_account_without_its_realm() -> None:
    limit = decision("limit:0123456789abcdef:sasl_username=Alice")
    for realm, expected in (("example.org", "released"), ("example.com", "in force"), ("", "in force")):
        known = Picture(realm)
        for one in (limit, (word("release"), 1500.0)):
            known.apply(message(one))
        assert known.state(limit, 2000.0) == expected


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (ALICE, None),
        ("client_address:192.0.2.1", None),
        (LIMIT, subjects.partition(LIMIT)),
        ("uid:33", subjects.partition("uid:33")),
    ],
)
def test_where_decisions_lie_that_concern_a_subject(subject: str, expected: int | None) -> None:
    assert in_force.partition(subject) == expected


def test_the_newest_decision_of_a_cause_counts() -> None:
    newer = decision(id="2" * 12, since=5000.0, until=8600.0)
    assert list(picture(decision(), newer).decisions.values()) == [newer]


def test_a_release_would_end_what_is_in_force_only() -> None:
    records = [
        decision(),
        decision(cause="flood", until=1500.0),
        decision(cause="shade", shadow=True),
        decision("sasl_username:bob"),
        decision(LIMIT, id="3" * 12, cause="limit"),
        (word("block"), 1000.0),
    ]
    ended = picture(*records).ended_by_release(ALICE, 2000.0)  # type: ignore[arg-type]
    assert [one.id for one in ended] == ["0" * 12, "3" * 12, "1" * 12]


@given(
    st.sampled_from([topics.DECISIONS, topics.OPERATORS]),
    st.binary(max_size=40) | st.sampled_from([b"burst x", b"standing x", b"release x", b"standing *"]),
    st.none() | st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b"null", b'{"version":1}']),
)
def test_garbage_changes_nothing_and_raises_nothing(topic: str, key: bytes, value: bytes | None) -> None:
    known = picture(decision(), (word("block"), 1000.0))
    known.apply(Message(topic, key, value, 2000.0))
    assert list(known.decisions.values()) == [decision()]
    assert [one for one, _ in known.words()] == [word("block")]


def test_a_decision_under_anothers_key_is_counted_as_not_understood() -> None:
    known = Picture()
    known.apply(Message(topics.DECISIONS, b"burst sasl_username:bob", decisions.encoder.encode(decision()), 0.0))
    assert (known.decisions, known.not_understood) == ({}, 1)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({}, "61 messages in 60 s, threshold 60"),
        ({"hosts": ["mx1", "mx2"]}, "61 messages in 60 s, threshold 60, on mx1 mx2"),
        ({"beside": ["client_address:192.0.2.7"]}, "61 messages in 60 s, threshold 60, from 192.0.2.7"),
        ({"beside": ["client_address:192.0.2.7"] * 2}, "61 messages in 60 s, threshold 60, from 2 clients"),
        ({"beside": ["x"] * 32}, "61 messages in 60 s, threshold 60, from 32 clients or more"),
        (
            {"hosts": [f"mx{number}" for number in range(10)]},
            "61 messages in 60 s, threshold 60, on mx0 mx1 mx2 mx3 mx4 mx5 mx6 mx7 and 2 more",
        ),
    ],
)
def test_evidence_in_words(evidence: dict[str, object], expected: str) -> None:
    assert in_force.why(decision(evidence=msgspec.structs.replace(EVIDENCE, **evidence))) == expected


def test_a_limits_evidence_names_its_rule() -> None:
    evidence = Evidence("rate DAILY", 12, 10, 3600, 1000.0, ["mx1"])
    assert in_force.why(decision(LIMIT, evidence=evidence)) == "rate DAILY: 12 in 3600 s, maximum 10, on mx1"


def test_a_clients_evidence_is_its_accounts() -> None:
    evidence = msgspec.structs.replace(EVIDENCE, beside=["sasl_username:a", "sasl_username:b"])
    assert in_force.why(decision("client_address:192.0.2.7", evidence=evidence)).endswith(", by 2 accounts")


def test_a_local_users_evidence_names_its_hosts() -> None:
    evidence = msgspec.structs.replace(EVIDENCE, hosts=["web1", "web2"])
    found = decision("uid:33", evidence=evidence)
    assert in_force.why(found) == "61 messages in 60 s, threshold 60, on web1 web2"
    assert picture(found, (word("release", "uid:33"), 1500.0)).state(found, 2000.0) == "released"
    assert picture(found, (word("allow", "uid:33"), 1500.0)).state(found, 2000.0) == "allowed"


def test_a_shadow_says_why() -> None:
    assert in_force.why(decision(shadow=True, why_shadow="brake")).endswith(", shadow: brake")
