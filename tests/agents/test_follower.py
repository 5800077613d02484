"""Topics read from a real Kafka to their end and on, whatever happens to broker, topics and permissions."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from agents import follower
from agents.follower import Follower, Record
from fleet.kafka import Kafka
from fleet.process import run_directory, wait_until
from weir import settings, topics

pytestmark = pytest.mark.fleet

FOLLOWED = [topic for topic in topics.ALL if topic.name in (topics.DECISIONS, topics.OPERATORS, topics.ECHO)]


def create(kafka: Kafka, *wanted: topics.Topic) -> None:
    new = [NewTopic(t.name, t.partitions, 1, config=t.config) for t in wanted]
    for made in kafka.admin.create_topics(new).values():
        made.result(10.0)


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with run_directory() as directory, Kafka(directory / "kafka") as kafka:
        create(kafka, *FOLLOWED)
        yield kafka


@pytest.fixture(scope="module")
def produce(kafka: Kafka) -> Callable[..., None]:
    """Write records (topic, partition, key) and return when the broker has them."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "log_level": 0})

    def write(*records: tuple[str, int, str]) -> None:
        failures: list[KafkaError] = []
        for topic, partition, key in records:
            producer.produce(
                topic,
                b"value of " + key.encode(),
                key.encode(),
                partition,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
        assert producer.flush(20.0) == 0
        assert failures == []

    return write


class Following:
    """A follower and what it told."""

    def __init__(self, kafka: Kafka) -> None:
        self.batches: list[list[Record]] = []
        self.readies: list[int] = []
        """How many records there were when it was ready."""
        self.follower = Follower(
            settings.Kafka(bootstrap_servers=kafka.bootstrap),
            self.batches.append,
            lambda: self.readies.append(len(self.records)),
        )

    @property
    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]

    def keys(self, topic: str) -> list[str]:
        return [(record.key or b"").decode() for record in self.records if record.topic == topic]

    def wait_for(self, topic: str, key: str) -> None:
        wait_until(lambda: key in self.keys(topic), 15.0, f"{key} of {topic}")


@contextmanager
def following(kafka: Kafka) -> Iterator[Following]:
    found = Following(kafka)
    found.follower.start()
    try:
        yield found
    finally:
        found.follower.stop()


def test_decisions_and_operators_come_whole_before_ready_and_echo_from_its_end(
    kafka: Kafka, produce: Callable[..., None]
) -> None:
    produce((topics.ECHO, 0, "old echo"))
    produce(*((topics.DECISIONS, number % 12, f"decision {number}") for number in range(2000)))
    produce((topics.OPERATORS, 0, "block"), (topics.OPERATORS, 0, "release"))
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
        assert sorted(found.keys(topics.DECISIONS)) == sorted(f"decision {number}" for number in range(2000))
        assert found.keys(topics.OPERATORS) == ["block", "release"]
        assert found.readies == [2002]
        before = time.time()
        produce((topics.ECHO, 0, "new echo"), (topics.DECISIONS, 7, "another"))
        found.wait_for(topics.ECHO, "new echo")
        found.wait_for(topics.DECISIONS, "another")
        assert found.keys(topics.ECHO) == ["new echo"]
        last = found.records[-1]
        assert before - 1 < last.time <= last.received <= time.time()
        assert last.value in (b"value of another", b"value of new echo")
    assert found.readies == [2002]


def test_each_partition_comes_in_order(kafka: Kafka, produce: Callable[..., None]) -> None:
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
    for partition in range(12):
        offsets = [r.offset for r in found.records if (r.topic, r.partition) == (topics.DECISIONS, partition)]
        assert offsets == list(range(len(offsets)))
    assert max(map(len, found.batches)) > 100


def test_what_was_not_committed_does_not_come(kafka: Kafka, produce: Callable[..., None]) -> None:
    writer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "t", "log_level": 0})
    writer.init_transactions(20.0)
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
        writer.begin_transaction()
        writer.produce(topics.DECISIONS, b"", b"aborted", 3)
        writer.flush(10.0)
        writer.abort_transaction(10.0)
        writer.begin_transaction()
        writer.produce(topics.DECISIONS, b"", b"committed", 3)
        writer.commit_transaction(10.0)
        found.wait_for(topics.DECISIONS, "committed")
        assert "aborted" not in found.keys(topics.DECISIONS)


def test_it_goes_on_when_the_broker_is_back(kafka: Kafka, produce: Callable[..., None]) -> None:
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
        kafka.stop()
        kafka.start()
        produce((topics.DECISIONS, 1, "after the broker's restart"), (topics.OPERATORS, 0, "after it too"))
        found.wait_for(topics.DECISIONS, "after the broker's restart")
        found.wait_for(topics.OPERATORS, "after it too")
    assert len(found.readies) == 1


def test_it_goes_on_when_the_permission_is_back(kafka: Kafka, produce: Callable[..., None]) -> None:
    rules = ((AclOperation.ALL, AclPermissionType.ALLOW), (AclOperation.READ, AclPermissionType.DENY))
    name = (ResourceType.TOPIC, topics.DECISIONS, ResourcePatternType.LITERAL, "User:*", "*")
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
        for rule in rules:
            for made in kafka.admin.create_acls([AclBinding(*name, *rule)]).values():
                made.result(10.0)
        wait_until(lambda: found.follower.failing, 15.0, "a refusal")
        produce((topics.DECISIONS, 2, "written meanwhile"))
        for rule in reversed(rules):
            for gone in kafka.admin.delete_acls([AclBindingFilter(*name, *rule)]).values():
                gone.result(10.0)
        found.wait_for(topics.DECISIONS, "written meanwhile")


def test_topics_made_later_or_anew_are_found(
    kafka: Kafka, produce: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker was restarted, so the former topics have leaders of a later epoch than the new ones."""
    monkeypatch.setattr(follower, "CHECK_SECONDS", 0.5)
    with following(kafka) as found:
        wait_until(lambda: found.readies, 15.0, "readiness")
        for gone in kafka.admin.delete_topics([topics.OPERATORS, topics.ECHO]).values():
            gone.result(10.0)
        with following(kafka) as later:
            wait_until(lambda: later.keys(topics.DECISIONS), 15.0, "decisions")
            create(kafka, *(topic for topic in FOLLOWED if topic.name != topics.DECISIONS))
            produce((topics.OPERATORS, 0, "in the new topic"))
            for one in (found, later):
                one.wait_for(topics.OPERATORS, "in the new topic")
            wait_until(lambda: later.readies, 15.0, "readiness of the later one")
