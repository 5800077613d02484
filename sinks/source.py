"""The sink's side of Kafka: batches read, offsets committed, dead letters written.

Invariants: an offset is committed only by `commit`; after any change of the assignment reading begins at the committed
offsets, and `generation` tells that what was read before is void; while we wait, our place in the group is kept.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from sinks.batch import Batch, DeadLetter, Message
from weir import kafka, topics
from weir.settings import Settings

BATCH_ROWS = 100_000
"""ClickHouse merges each insert with others, again and again: in a backlog that costs it more than all else, and large
inserts a third less of it."""
BATCH_SECONDS = 1.0
"""How long a batch waits for more."""
_STEP = 0.2
"""Seconds until a signal is heard."""
_AT_ONCE = 500
_FLUSH_SECONDS = 30.0
_TELL_SECONDS = 30.0
"""Between two log lines about Kafka's errors."""

log = structlog.get_logger(__name__)


class Source:
    def __init__(self, settings: Settings, before_revoke: Callable[[], None]) -> None:
        """`before_revoke` may still commit: it is called while the partitions are ours."""
        self.generation = 0
        self._recipients = settings.history.recipients
        self._before_revoke = before_revoke
        self._told = -_TELL_SECONDS
        self.gaps = 0
        """Messages of weir.events that were deleted before we read them."""
        self._expected: dict[int, int] = {}
        """Partition of weir.events → the offset that comes next."""
        self._producer = Producer(kafka.client(settings.kafka) | {"enable.idempotence": True, "linger.ms": 5})
        self._consumer = Consumer(
            kafka.client(settings.kafka)
            | {
                "group.id": settings.history.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "range",  # eager: every change begins at the committed offsets
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "fetch.wait.max.ms": 100,
                "fetch.message.max.bytes": 1024 * 1024,
                "queued.max.messages.kbytes": 32 * 1024,
                "fetch.queue.backoff.ms": 10,  # by default a full queue stops all fetching for a second
            }
        )
        self._consumer.subscribe(
            [topics.EVENTS, topics.DECISIONS, topics.OPERATORS],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

    def collect(self, stopping: Callable[[], bool]) -> Batch:
        """What comes within BATCH_SECONDS of the first message, at most about BATCH_ROWS; it may be nothing."""
        batch = Batch(self._recipients)
        generation = self.generation
        end = time.monotonic() + BATCH_SECONDS
        while batch.rows < BATCH_ROWS and not stopping() and (left := end - time.monotonic()) > 0:
            first = self._consumer.poll(min(left, _STEP))
            messages = [first, *self._consumer.consume(_AT_ONCE, 0)] if first is not None else []
            if generation != self.generation:  # and nobody knows which of these came before the change
                self.restart()
                return Batch(self._recipients)
            for message in messages:
                self._take(message, batch)
        return batch

    def wait(self, seconds: float, stopping: Callable[[], bool]) -> None:
        """Let time pass without reading; the assignment may change meanwhile."""
        generation = self.generation
        held = self._consumer.assignment()
        self._consumer.pause(held)
        end = time.monotonic() + seconds
        while not stopping() and (left := end - time.monotonic()) > 0:
            message = self._consumer.poll(min(left, _STEP))
            if generation != self.generation or (message is not None and message.error() is None):
                self.restart()
                return
        self._consumer.resume(held)

    def bury(self, letters: Iterable[DeadLetter]) -> None:
        """Write dead letters; returns when the broker has them. Raises KafkaException."""
        failed: list[KafkaError] = []
        for letter in letters:
            self._produce(letter, failed)
        if self._producer.flush(_FLUSH_SECONDS):
            failed.append(KafkaError(KafkaError._MSG_TIMED_OUT))
        if failed:
            self._producer.purge()  # they come again with their messages
            raise KafkaException(failed[0])

    def _produce(self, letter: DeadLetter, failed: list[KafkaError]) -> None:
        def delivered(error: KafkaError | None, _message: KafkaMessage) -> None:
            if error is not None:
                failed.append(error)

        for _ in range(2):
            try:
                self._producer.produce(topics.DEAD, letter.value, letter.key, on_delivery=delivered)
            except BufferError:  # the client's queue is full
                self._producer.flush(_FLUSH_SECONDS)
            else:
                return
        failed.append(KafkaError(KafkaError._QUEUE_FULL))

    def commit(self, offsets: dict[tuple[str, int], int]) -> None:
        """Commit, at once; raises KafkaException, for a group that went on without us too."""
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        if places:
            self._consumer.commit(offsets=places, asynchronous=False)

    def restart(self) -> None:
        """Read again from the committed offsets: what was read since is void. Raises KafkaException."""
        self.generation += 1
        held = self._consumer.assignment()
        if held:
            self._consumer.unassign()
            self._consumer.assign([TopicPartition(place.topic, place.partition) for place in held])
            self._consumer.resume(held)  # a pause outlives an assignment

    def lag(self) -> int:
        """Messages that we know of and have not read."""
        return kafka.lag(self._consumer)

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._consumer.close()

    def _take(self, message: KafkaMessage, batch: Batch) -> None:
        error = message.error()
        if error is not None:
            self._tell(error)
            return
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        self._look_for_gap(topic, partition, offset)
        headers: dict[str, Any] = dict(message.headers() or [])
        batch.add(
            Message(topic, partition, offset, message.key(), message.value(), message.timestamp()[1] / 1000, headers)
        )

    def _look_for_gap(self, topic: str, partition: int, offset: int) -> None:
        """Events that Kafka deleted before we came to them; only of events are the offsets without holes."""
        expected = self._expected.get(partition)
        if topic != topics.EVENTS:
            return
        if expected is not None and offset > expected:
            self.gaps += offset - expected
            log.error("messages were deleted before they were read", partition=partition, messages=offset - expected)
        self._expected[partition] = offset + 1

    def _tell(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_SECONDS:
            self._told = now
            log.warning("Kafka", trouble=error.str())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.generation += 1
        self._expected = {}
        try:
            events = [place for place in partitions if place.topic == topics.EVENTS]
            committed = consumer.committed(events, timeout=_FLUSH_SECONDS) if events else []
            self._expected = {place.partition: place.offset for place in committed if place.offset >= 0}
        except KafkaException as error:
            self._tell(error.args[0])
        log.info("assigned", partitions=len(partitions))

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._before_revoke()
        self.generation += 1

    def _lost(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.generation += 1
        log.warning("the group went on without us; what was read since the last commit is read again")
