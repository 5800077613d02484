"""Whole topics read from their beginning to their end, for figures and tests."""

from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from weir import envelopes, events, kafka, settings, topics


class Message(NamedTuple):
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    time: float
    """Broker's or producer's time stamp, Unix seconds."""


def read_topic(bootstrap: str, name: str, timeout: float = 30.0) -> list[Message]:
    """All committed messages of a topic, each partition in order. Raises TimeoutError if its end is not reached."""
    configuration = kafka.reader(settings.Kafka(bootstrap_servers=bootstrap))
    consumer = Consumer(configuration | {"fetch.wait.max.ms": 10})
    try:
        partitions = consumer.list_topics(name, timeout).topics[name].partitions
        consumer.assign([TopicPartition(name, partition, 0) for partition in partitions])
        found: list[Message] = []
        ended = 0
        while ended < len(partitions):
            batch = consumer.consume(5000, 0.05) or ([message] if (message := consumer.poll(timeout)) else [])
            if not batch:
                raise TimeoutError(f"{name} was not read to its end within {timeout:g} s")
            for message in batch:
                error = message.error()
                if error is None:
                    time = message.timestamp()[1] / 1000
                    found.append(Message(message.partition(), message.offset(), message.key(), message.value(), time))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended += 1
                else:
                    raise KafkaException(error)
        return found
    finally:
        consumer.close()


def read_events(bootstrap: str) -> dict[tuple[str, str, int], events.Event]:
    """All events by their identity (host, epoch, seq): what was sent again is here once."""
    found: dict[tuple[str, str, int], events.Event] = {}
    for message in read_topic(bootstrap, topics.EVENTS):
        head, records = envelopes.decode(message.value or b"", events.decoder)
        for event in records:
            found.setdefault((head.host, head.epoch, event.seq), event)
    return found
