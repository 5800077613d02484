"""What benchmarks run on: Kafka with our topics, and settings under which nothing is blocked by mistake."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from fleet.kafka import Kafka
from weir import decisions, subjects, topics

OFF = {"messages_per_minute": 0, "recipients_per_minute": 0, "messages_per_hour": 0, "recipients_per_hour": 0}
SETTINGS: dict[str, Any] = {
    "kafka": {"replication_factor": 1, "min_insync_replicas": 1},
    "trusted": [],
    "detectors": {"burst": {"client": OFF, "account": OFF}},
    "brake": {"blocks": 1_000_000, "share": 1.0},
}


@contextmanager
def running_kafka(directory: Path) -> Iterator[Kafka]:
    """A broker with all topics."""
    with Kafka(directory / "kafka", heap="1g") as kafka:
        made = [NewTopic(topic.name, topic.partitions, 1, config=topic.config) for topic in topics.ALL]
        for future in kafka.admin.create_topics(made).values():
            future.result(20)
        yield kafka


def block_many(bootstrap: str, number: int) -> None:
    """Write that many decisions in force, on accounts that nobody asks about."""
    producer = Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.messages": number + 1, "linger.ms": 20})
    now = time.time()
    for index in range(number):
        subject = subjects.sasl_username(f"blocked{index}@example.org")
        identity = decisions.decision_id(subject, "burst", now)
        decision = decisions.Decision(
            version=decisions.VERSION,
            id=identity,
            subject=subject,
            cause="burst",
            action=decisions.action("Too much mail in a short time, sending is blocked for now", "burst", identity),
            evidence=decisions.Evidence("messages", 61, 60, 60, now, ["mx1"], ["client_address:192.0.2.10"]),
            since=now,
            until=now + 3600,
            decided=now,
        )
        producer.produce(
            topics.DECISIONS,
            key=decisions.key("burst", subject),
            value=decisions.encoder.encode(decision),
            partition=subjects.partition(subject),
        )
    producer.flush(60)
