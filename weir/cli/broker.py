"""The command's way to Kafka: topics read from their beginning to their end, and single records written.

Invariants: nothing waits longer than PATIENCE for a sign of life; what Kafka says becomes a CommandError with the exit
code that fits; whoever reads to the end has seen every committed record that was there when it began.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka import Message as KafkaMessage
from confluent_kafka.admin import AdminClient

from weir import kafka
from weir.cli.output import NOT_DONE, REFUSED, UNREACHABLE, USAGE, CommandError
from weir.settings import Settings

PATIENCE = 10.0
"""Seconds."""

_BATCH = 10_000
_STEP = 0.25  # seconds: how soon Ctrl-C is heard

_EXIT_CODES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: NOT_DONE,
    KafkaError._UNKNOWN_TOPIC: NOT_DONE,
    KafkaError._UNKNOWN_PARTITION: NOT_DONE,
    KafkaError._INVALID_ARG: USAGE,
    KafkaError._TRANSPORT: UNREACHABLE,
    KafkaError._ALL_BROKERS_DOWN: UNREACHABLE,
    KafkaError._RESOLVE: UNREACHABLE,
    KafkaError._AUTHENTICATION: UNREACHABLE,
    KafkaError._SSL: UNREACHABLE,
    KafkaError._TIMED_OUT: UNREACHABLE,
    KafkaError._MSG_TIMED_OUT: UNREACHABLE,
    KafkaError.REQUEST_TIMED_OUT: UNREACHABLE,
}


class Start(NamedTuple):
    """Where to read a topic from."""

    topic: str
    offset: int = OFFSET_BEGINNING
    partition: int | None = None
    """This one only."""


class Message(NamedTuple):
    topic: str
    key: bytes
    value: bytes | None
    time: float
    """The record's time stamp, Unix seconds."""
    who: str = ""
    """Who wrote it, for a record without a value: a header."""


class Connection:
    """Clients of one command, with what librdkafka said last when it found no broker."""

    def __init__(self, settings: Settings) -> None:
        self.servers = settings.kafka.bootstrap_servers
        self._settings = settings.kafka
        self._said = ""

    def admin(self) -> AdminClient:
        made: AdminClient = self._made(AdminClient, kafka.client(self._settings))
        return made

    def read(self, *starts: Start) -> Iterator[Message]:
        """All records from there to the end. Raises CommandError."""
        for message in self.follow(*starts):
            if message is None:
                return
            yield message

    def follow(self, *starts: Start, seconds: float = float("inf")) -> Iterator[Message | None]:
        """Records from there on; None once, where what was there is read, and from then on for so many seconds.

        Raises CommandError; after the None it waits for a broker that is away, however long.
        """
        consumer = self._made(Consumer, kafka.reader(self._settings))
        try:
            assignment = list(self._assignment(consumer, starts))
            consumer.assign(assignment)
            yield from self._records(consumer, len(assignment), seconds)
        except KafkaException as error:
            raise self._failure(error.args[0], consumer) from None
        finally:
            consumer.close()

    def write(self, topic: str, key: bytes, value: bytes | None, who: str = "") -> float:
        """Write one record into partition 0, with `who` as a header if there is one.

        Returns the broker's time of it when all in-sync replicas have it; raises CommandError.
        """
        message = self.send(topic, key, value, headers={"who": who} if who else {})
        kind, milliseconds = message.timestamp()
        if kind != TIMESTAMP_LOG_APPEND_TIME:
            raise CommandError(f"{topic} has another message.timestamp.type than LogAppendTime: weir topics create")
        return milliseconds / 1000

    def send(
        self, topic: str, key: bytes, value: bytes | None, partition: int = 0, headers: dict[str, str] | None = None
    ) -> KafkaMessage:
        """Write one record; returns it when all in-sync replicas have it, raises CommandError."""
        delivered: list[tuple[KafkaError | None, KafkaMessage]] = []
        safely: kafka.Configuration = {
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": int(PATIENCE * 1000),
            "topic.metadata.propagation.max.ms": 1000,  # a topic that is missing is soon known to be
        }
        producer = self._made(Producer, kafka.client(self._settings) | safely)
        producer.produce(
            topic,
            value,
            key,
            partition,
            on_delivery=lambda error, message: delivered.append((error, message)),
            headers={**headers} if headers else {},
        )
        producer.flush(PATIENCE + 1)
        if not delivered:
            raise self._failure(KafkaError(KafkaError._MSG_TIMED_OUT), producer)
        error, message = delivered[0]
        if error is not None:
            raise self._failure(error, producer)
        return message

    def failure(self, error: KafkaException, client: Any) -> CommandError:
        return self._failure(error.args[0], client)

    def _made(self, kind: Any, configuration: kafka.Configuration) -> Any:
        try:
            return kind({**configuration, "error_cb": self._hear})
        except KafkaException as error:
            raise CommandError(f"settings of Kafka's client: {error.args[0].str()}", USAGE) from None

    def _hear(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # follows on each broker's own reason
            self._said = error.str()

    def _failure(self, error: KafkaError, client: Any) -> CommandError:
        code = _EXIT_CODES.get(error.code(), REFUSED)
        if code == NOT_DONE:
            return CommandError(f"Kafka at {self.servers}: {error.str()}: weir topics create", code)
        if code != UNREACHABLE:
            return CommandError(f"Kafka at {self.servers}: {error.str()}", code)
        client.poll(0)  # hears the reasons that wait
        reason = f" ({self._said})" if self._said else ""
        return CommandError(f"Kafka at {self.servers} gave no answer within {PATIENCE:g} s{reason}", UNREACHABLE)

    def _assignment(self, consumer: Consumer, starts: Iterable[Start]) -> Iterator[TopicPartition]:
        there = consumer.list_topics(timeout=PATIENCE).topics
        if missing := [start.topic for start in starts if start.topic not in there]:
            raise CommandError(f"no topic {', '.join(missing)}, or no right to see it: weir topics create")
        for start in starts:
            for number in there[start.topic].partitions:
                if start.partition in (None, number):
                    yield TopicPartition(start.topic, number, start.offset)

    def _records(self, consumer: Consumer, unread: int, seconds: float) -> Iterator[Message | None]:
        """`unread` partitions are not read to their end."""
        patience = time.monotonic() + PATIENCE
        end = float("inf")
        while time.monotonic() < end:
            first = consumer.poll(_STEP)
            if first is None:
                if unread and time.monotonic() > patience:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
                continue
            patience = time.monotonic() + PATIENCE
            for message in [first, *consumer.consume(_BATCH, 0)]:
                error = message.error()
                if error is None:
                    yield _message(message)
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                elif unread:
                    unread -= 1
                    if not unread:
                        yield None
                        end = time.monotonic() + seconds


def _message(message: KafkaMessage) -> Message:
    who = "" if message.value() is not None else dict(message.headers() or []).get("who", b"")
    return Message(
        message.topic() or "",
        message.key() or b"",
        message.value(),
        message.timestamp()[1] / 1000,
        who.decode(errors="replace") if isinstance(who, bytes) else "",
    )
