"""What an agent knows: snapshot and topics together."""

from collections.abc import Iterable

import pytest

from agents.follower import Record
from agents.knowledge import Knowledge, Partition, Position, advance
from tests.agents.test_decisions import NOW, decision
from weir import decisions, operators, topics
from weir.operators import Word

FRANK = "sasl_username:frank@example.org"
IVAN = "sasl_username:ivan@example.org"
JUDY = "sasl_username:judy@example.org"
PARTITION = 7
"""Of all three."""


def blocked(offset: int, subject: str, until: float = NOW + 60, time: float | None = None) -> Record:
    made = decision(subject, until=until)
    value = decisions.encoder.encode(made)
    return Record(topics.DECISIONS, PARTITION, offset, decisions.key("burst", subject), value, at(offset, time), NOW)


def lifted(offset: int, subject: str, time: float | None = None) -> Record:
    return Record(topics.DECISIONS, PARTITION, offset, decisions.key("burst", subject), None, at(offset, time), NOW)


def said(offset: int, word: str, subject: str) -> Record:
    until = 0.0 if word == "release" else NOW + 60
    made = Word(operators.VERSION, "op", word, subject, "me", "why", until, "521 no")  # type: ignore[arg-type]
    return Record(topics.OPERATORS, 0, offset, operators.key(made), operators.encoder.encode(made), at(offset), NOW)


def at(offset: int, time: float | None = None) -> float:
    return 900.0 + offset if time is None else time


def recalled(*records: Record) -> Knowledge:
    """With a snapshot of these records."""
    positions: dict[Partition, Position] = {}

    def load() -> Iterable[Record]:
        for record in records:
            advance(positions, record)
            yield record

    knowledge = Knowledge()
    knowledge.recall(load(), positions, NOW)
    return knowledge


def in_force(knowledge: Knowledge) -> set[str]:
    found = {
        subject
        for subject in (FRANK, IVAN, JUDY)
        if knowledge.decisions.blocking(subject, NOW, knowledge.operators.released(subject))
    }
    return found | {subject for subject in (FRANK, IVAN, JUDY) if knowledge.operators.block(subject, NOW)}


def learn(knowledge: Knowledge, *records: Record) -> None:
    for record in records:
        knowledge.learn(record, NOW)


def test_without_a_snapshot_what_is_read_counts_at_once() -> None:
    knowledge = Knowledge()
    learn(knowledge, blocked(0, FRANK), said(0, "block", IVAN))
    assert in_force(knowledge) == {FRANK, IVAN}
    assert not knowledge.complete
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert knowledge.complete
    assert in_force(knowledge) == {FRANK, IVAN}


def test_the_snapshot_counts_until_the_topics_are_read() -> None:
    knowledge = recalled(blocked(5, FRANK), said(2, "block", IVAN))
    assert in_force(knowledge) == {FRANK, IVAN}


def test_what_is_read_again_changes_nothing_on_the_way() -> None:
    """Blocked, lifted, blocked again: the topic's older records are not believed once more."""
    history = [blocked(0, IVAN), lifted(1, IVAN), blocked(2, FRANK), lifted(3, FRANK), blocked(4, FRANK, NOW + 90)]
    knowledge = recalled(*history)
    for record in history:
        assert knowledge.learn(record, NOW) is None
        assert in_force(knowledge) == {FRANK}
    knowledge.finish_reading(NOW)
    assert in_force(knowledge) == {FRANK}


def test_what_the_topics_have_no_more_goes_when_they_are_read() -> None:
    knowledge = recalled(blocked(5, FRANK), blocked(6, IVAN), said(2, "block", JUDY), said(3, "allow", IVAN))
    learn(knowledge, blocked(6, IVAN), said(3, "allow", IVAN))
    assert in_force(knowledge) == {FRANK, IVAN, JUDY}
    completed = knowledge.finish_reading(NOW)
    assert {record.key for record in completed.removed} == {
        decisions.key("burst", FRANK),
        f"standing {JUDY}".encode(),
    }
    assert completed.kept == 0
    assert in_force(knowledge) == {IVAN}


def test_what_is_new_in_the_topics_counts() -> None:
    knowledge = recalled(blocked(5, FRANK))
    learn(knowledge, blocked(5, FRANK), blocked(6, IVAN), lifted(7, FRANK))
    assert in_force(knowledge) == {IVAN}
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert in_force(knowledge) == {IVAN}


def test_a_topic_read_as_empty_leaves_the_snapshot() -> None:
    knowledge = recalled(blocked(5, FRANK), said(2, "block", IVAN))
    learn(knowledge, said(2, "block", IVAN))
    completed = knowledge.finish_reading(NOW)
    assert completed == ([], 1)
    assert in_force(knowledge) == {FRANK, IVAN}


@pytest.mark.parametrize("last", [1, 9])
def test_a_topic_made_anew_leaves_the_snapshot_and_counts_itself(last: int) -> None:
    """Its offsets begin again, its times do not; it may even have grown longer than the old one."""
    knowledge = recalled(blocked(4, FRANK), blocked(5, JUDY))
    learn(knowledge, blocked(0, IVAN, time=950.0), lifted(last, JUDY, time=951.0))
    assert in_force(knowledge) == {FRANK, IVAN}
    assert knowledge.finish_reading(NOW).kept == 1
    assert in_force(knowledge) == {FRANK, IVAN}


def test_a_topic_made_anew_while_it_is_followed() -> None:
    knowledge = Knowledge()
    learn(knowledge, blocked(0, FRANK), blocked(1, IVAN))
    knowledge.finish_reading(NOW)
    learn(knowledge, lifted(0, FRANK, time=950.0), lifted(1, IVAN, time=951.0), blocked(2, IVAN, time=952.0))
    assert in_force(knowledge) == {IVAN}


def test_a_topic_read_a_second_time_changes_nothing() -> None:
    history = [blocked(0, FRANK), lifted(1, FRANK)]
    knowledge = Knowledge()
    learn(knowledge, *history)
    knowledge.finish_reading(NOW)
    for record in history:
        knowledge.learn(record, NOW)
        assert in_force(knowledge) == set()


def test_learn_tells_what_is_in_force_by_a_record() -> None:
    knowledge = Knowledge()
    assert knowledge.learn(blocked(0, FRANK), NOW) == (blocked(0, FRANK), decision(FRANK))
    assert knowledge.learn(blocked(0, FRANK), NOW) is None, "known already"
    for other in (blocked(1, IVAN, until=NOW), lifted(2, FRANK), said(0, "block", IVAN)):
        assert knowledge.learn(other, NOW) == (other, None)
    garbage = blocked(3, FRANK)._replace(value=b"garbage")
    assert knowledge.learn(garbage, NOW) == (garbage._replace(key=b"", value=None), None)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("topic", [topics.DECISIONS, topics.OPERATORS])
def test_garbage_keeps_the_last_good(topic: str, value: bytes) -> None:
    good = blocked(0, FRANK) if topic == topics.DECISIONS else said(0, "block", FRANK)
    knowledge = recalled(good)
    learn(knowledge, good, good._replace(offset=1, time=NOW, value=value), Record(topic, 0, 2, None, None, NOW, NOW))
    assert knowledge.garbage == 2
    assert knowledge.last_error.startswith(f"{topic}/0/2: ")
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert in_force(knowledge) == {FRANK}
