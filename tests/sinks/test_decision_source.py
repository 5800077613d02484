"""Which offsets may be committed: nothing before its alert is out. What was told comes before what is new."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from sinks.decision_source import DecisionSource, Progress
from weir import topics
from weir.settings import Settings


def test_an_offset_waits_for_all_that_was_given_before_it() -> None:
    progress = Progress()
    progress.note(0, 3, 10)
    progress.note(1, 3, 11)
    progress.note(1, 5, 70)  # nothing to tell, but read after the first decision
    progress.note(2, 3, 12)
    assert progress.reached(0) == {3: 10}
    assert progress.reached(0) == {}
    assert progress.reached(1) == {3: 11, 5: 70}
    assert progress.reached(2) == {3: 12}


def test_a_commit_that_failed_is_made_again_and_sets_nothing_back() -> None:
    progress = Progress()
    progress.note(1, 3, 10)
    assert progress.reached(1) == {3: 10}
    progress.note(2, 3, 20)
    progress.note(1, 3, 10)  # it failed
    assert progress.reached(2) == {3: 20}


def test_what_was_read_before_a_change_of_the_assignment_is_forgotten() -> None:
    progress = Progress()
    progress.note(1, 3, 10)
    progress.forget()
    assert progress.reached(1) == {}


class Read(NamedTuple):
    """A message of partition 0 or 1, as the client gives it; `end`: the partition's end instead."""

    number: int
    at: int
    end: bool = False

    def error(self) -> KafkaError | None:
        return KafkaError(KafkaError._PARTITION_EOF) if self.end else None

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.at

    def value(self) -> bytes:
        return f"{self.number}/{self.at}".encode()


class Reader:
    """Of two partitions with 10 records each; the group has committed 5 of the first and nothing of the second."""

    def __init__(self) -> None:
        self.given: list[Read] = []
        self.committed_now: list[TopicPartition] = []

    def consume(self, _number: int, _seconds: float) -> list[Read]:
        given, self.given = self.given, []
        return given

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        assert timeout
        return [
            TopicPartition(place.topic, place.partition, 5 if place.partition == 0 else OFFSET_INVALID)
            for place in places
        ]

    def get_watermark_offsets(self, _place: TopicPartition, timeout: float) -> tuple[int, int]:
        assert timeout
        return 0, 10

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert not asynchronous
        self.committed_now += offsets

    def assign(self, places: list[TopicPartition]) -> None:
        assert len(places) == 2


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def source(reader: Reader) -> Iterator[DecisionSource]:
    made = DecisionSource(Settings())
    own: Any = made._consumer
    fake: Any = reader
    made._consumer = fake
    made._assigned(fake, [TopicPartition(topics.DECISIONS, number) for number in range(2)])
    yield made
    own.close()


def test_what_is_new_waits_until_all_that_was_told_is_read(source: DecisionSource, reader: Reader) -> None:
    reader.given = [Read(0, 4), Read(0, 5), Read(0, 9)]
    assert [(record.value, record.new) for record in source.read()] == [(b"0/4", False)]
    reader.given = [Read(1, 8)]
    assert [(record.value, record.new) for record in source.read()] == [(b"1/8", False)]
    reader.given = [Read(1, 10, end=True)]
    assert [(record.value, record.new) for record in source.read()] == [(b"0/5", True), (b"0/9", True)]
    reader.given = [Read(1, 10)]
    assert [(record.value, record.new) for record in source.read()] == [(b"1/10", True)]


def test_a_partition_that_cannot_be_read_holds_up_the_others_for_a_while_only(
    source: DecisionSource, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.given = [Read(0, 5)]
    assert source.read() == []
    monkeypatch.setattr("sinks.decision_source.time.monotonic", lambda: source._hold_until + 1)
    assert [record.value for record in source.read()] == [b"0/5"]


def test_a_new_group_begins_at_the_end_for_good(source: DecisionSource, reader: Reader) -> None:
    (place,) = reader.committed_now
    assert (place.partition, place.offset) == (1, 10)


def test_what_comes_of_a_partition_that_is_anothers_now_is_left(source: DecisionSource, reader: Reader) -> None:
    source._revoked(source._consumer, [])
    reader.given = [Read(0, 5)]
    assert source.read() == []
