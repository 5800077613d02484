"""What an agent knows: snapshot and topics together."""

from collections.abc import Iterable

import pytest

from agents.follower import Record
from agents.knowledge import Knowledge, Partition, Position, advance
from tests.agents.test_decisions import NOW, decision
from weir import decisions, operators, topics
from weir.operators import Word

ALICE = "sasl_username:alice@example.org"
BOB = "sasl_username:bob@example.org"
CAROL = "sasl_username:carol@example.org"


def blocked(offset: int, subject: str, until: float = NOW + 60, time: float | None = None) -> Record:
    made = decision(subject, until=until)
    value = decisions.encoder.encode(made)
    return Record(topics.DECISIONS, 3, offset, decisions.key("burst", subject), value, at(offset, time), NOW)


def lifted(offset: int, subject: str, time: float | None = None) -> Record:
    return Record(topics.DECISIONS, 3, offset, decisions.key("burst", subject), None, at(offset, time), NOW)


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
        for subject in (ALICE, BOB, CAROL)
        if knowledge.decisions.blocking(subject, NOW, knowledge.operators.released(subject))
    }
    return found | {subject for subject in (ALICE, BOB, CAROL) if knowledge.operators.block(subject, NOW)}


def learn(knowledge: Knowledge, *records: Record) -> None:
    for record in records:
        knowledge.learn(record, NOW)


def test_without_a_snapshot_what_is_read_counts_at_once() -> None:
    knowledge = Knowledge()
    learn(knowledge, blocked(0, ALICE), said(0, "block", BOB))
    assert in_force(knowledge) == {ALICE, BOB}
    assert not knowledge.complete
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert knowledge.complete
    assert in_force(knowledge) == {ALICE, BOB}


def test_the_snapshot_counts_until_the_topics_are_read() -> None:
    knowledge = recalled(blocked(5, ALICE), said(2, "block", BOB))
    assert in_force(knowledge) == {ALICE, BOB}


def test_what_is_read_again_changes_nothing_on_the_way() -> None:
    """Blocked, lifted, blocked again: the topic's older records are not believed once more."""
    history = [blocked(0, BOB), lifted(1, BOB), blocked(2, ALICE), lifted(3, ALICE), blocked(4, ALICE, NOW + 90)]
    knowledge = recalled(*history)
    for record in history:
        assert knowledge.learn(record, NOW) is None
        assert in_force(knowledge) == {ALICE}
    knowledge.finish_reading(NOW)
    assert in_force(knowledge) == {ALICE}


def test_what_the_topics_have_no_more_goes_when_they_are_read() -> None:
    knowledge = recalled(blocked(5, ALICE), blocked(6, BOB), said(2, "block", CAROL), said(3, "allow", BOB))
    learn(knowledge, blocked(6, BOB), said(3, "allow", BOB))
    assert in_force(knowledge) == {ALICE, BOB, CAROL}
    completed = knowledge.finish_reading(NOW)
    assert {record.key for record in completed.removed} == {
        decisions.key("burst", ALICE),
        f"standing {CAROL}".encode(),
    }
    assert completed.kept == 0
    assert in_force(knowledge) == {BOB}


def test_what_is_new_in_the_topics_counts() -> None:
    knowledge = recalled(blocked(5, ALICE))
    learn(knowledge, blocked(5, ALICE), blocked(6, BOB), lifted(7, ALICE))
    assert in_force(knowledge) == {BOB}
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert in_force(knowledge) == {BOB}


def test_a_topic_read_as_empty_leaves_the_snapshot() -> None:
    knowledge = recalled(blocked(5, ALICE), said(2, "block", BOB))
    learn(knowledge, said(2, "block", BOB))
    completed = knowledge.finish_reading(NOW)
    assert completed == ([], 1)
    assert in_force(knowledge) == {ALICE, BOB}


@pytest.mark.parametrize("last", [1, 9])
def test_a_topic_made_anew_leaves_the_snapshot_and_counts_itself(last: int) -> None:
    """Its offsets begin again, its times do not; it may even have grown longer than the old one."""
    knowledge = recalled(blocked(4, ALICE), blocked(5, CAROL))
    learn(knowledge, blocked(0, BOB, time=950.0), lifted(last, CAROL, time=951.0))
    assert in_force(knowledge) == {ALICE, BOB}
    assert knowledge.finish_reading(NOW).kept == 1
    assert in_force(knowledge) == {ALICE, BOB}


def test_a_topic_made_anew_while_it_is_followed() -> None:
    knowledge = Knowledge()
    learn(knowledge, blocked(0, ALICE), blocked(1, BOB))
    knowledge.finish_reading(NOW)
    learn(knowledge, lifted(0, ALICE, time=950.0), lifted(1, BOB, time=951.0), blocked(2, BOB, time=952.0))
    assert in_force(knowledge) == {BOB}


def test_a_topic_read_a_second_time_changes_nothing() -> None:
    history = [blocked(0, ALICE), lifted(1, ALICE)]
    knowledge = Knowledge()
    learn(knowledge, *history)
    knowledge.finish_reading(NOW)
    for record in history:
        knowledge.learn(record, NOW)
        assert in_force(knowledge) == set()


def test_learn_tells_what_is_in_force_by_a_record() -> None:
    knowledge = Knowledge()
    assert knowledge.learn(blocked(0, ALICE), NOW) == decision(ALICE)
    assert knowledge.learn(blocked(0, ALICE), NOW) is None, "known already"
    assert knowledge.learn(blocked(1, BOB, until=NOW), NOW) is None, "over"
    assert knowledge.learn(lifted(2, ALICE), NOW) is None
    assert knowledge.learn(said(0, "block", BOB), NOW) is None


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("topic", [topics.DECISIONS, topics.OPERATORS])
def test_garbage_keeps_the_last_good(topic: str, value: bytes) -> None:
    good = blocked(0, ALICE) if topic == topics.DECISIONS else said(0, "block", ALICE)
    knowledge = recalled(good)
    learn(knowledge, good, good._replace(offset=1, time=NOW, value=value), Record(topic, 0, 2, None, None, NOW, NOW))
    assert knowledge.garbage == 2
    assert knowledge.last_error.startswith(f"{topic}/0/2: ")
    assert knowledge.finish_reading(NOW) == ([], 0)
    assert in_force(knowledge) == {ALICE}
