"""Where `weir notify` reads weir.decisions: whole at each assignment, and what is past the committed offsets as new.

Invariants: what is not new only says what was told already, and comes before all that is new; a new group begins at the
end; an offset is committed when all that was given to tellers until then is finished, whatever the assignment.
"""

import time
from collections import deque
from typing import NamedTuple

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from weir import kafka, topics
from weir.settings import Settings

_STEP = 0.1
"""Seconds until a signal is heard."""
_AT_ONCE = 1000
_ASK_SECONDS = 10.0
_HOLD_SECONDS = 30.0
"""What is new waits no longer for a partition that cannot be read."""
_TELL_SECONDS = 30.0
"""Between two log lines about Kafka's errors."""

log = structlog.get_logger(__name__)


class Record(NamedTuple):
    partition: int
    offset: int
    value: bytes | None
    new: bool


class Progress:
    """Which offsets may be committed: those of records whose decisions, and all before them, are finished."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, dict[int, int]]] = deque()
        """Decisions given in all, and for each partition the offset to go on from when so many are finished."""

    def note(self, given: int, partition: int, following: int) -> None:
        if not self._steps or self._steps[-1][0] != given:
            self._steps.append((given, {}))
        self._steps[-1][1][partition] = following

    def reached(self, finished: int) -> dict[int, int]:
        """What has become free since it was asked last."""
        free: dict[int, int] = {}
        while self._steps and self._steps[0][0] <= finished:
            for partition, following in self._steps.popleft()[1].items():
                free[partition] = max(following, free.get(partition, 0))
        return free

    def forget(self) -> None:
        self._steps.clear()


class DecisionSource:
    def __init__(self, settings: Settings) -> None:
        self.progress = Progress()
        self._starts: dict[int, int] = {}
        """Partition that is ours → the first offset that is new."""
        self._behind: set[int] = set()
        """Partitions that were not read to their first new offset yet."""
        self._held: list[Record] = []
        """What is new, meanwhile."""
        self._hold_until = 0.0
        self._told = -_TELL_SECONDS
        self._consumer = Consumer(
            kafka.client(settings.kafka)
            | {
                "group.id": settings.notify.group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "partition.assignment.strategy": "range",  # eager: whoever is assigned is assigned all anew
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                "fetch.wait.max.ms": 100,
                "topic.metadata.refresh.interval.ms": 30_000,
            }
        )
        self._subscribe()

    def read(self) -> list[Record]:
        """What has come, perhaps nothing."""
        try:
            messages = self._consumer.consume(_AT_ONCE, _STEP)
        except KafkaException as failed:  # of `_assigned`: without its answers nobody knows what is new
            self._tell(failed.args[0])
            time.sleep(_STEP)
            self._consumer.unsubscribe()
            self._subscribe()
            return []
        known: list[Record] = []
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._tell(error)
                continue
            partition, offset = message.partition() or 0, message.offset() or 0
            start = self._starts.get(partition)
            if start is None:
                continue  # it is another's now
            if offset >= start:
                self._behind.discard(partition)
            if error is None:
                record = Record(partition, offset, message.value(), offset >= start)
                (self._held if record.new else known).append(record)
        return known + self._released()

    def _released(self) -> list[Record]:
        """What is new, as soon as all that is known was read."""
        if self._behind and time.monotonic() < self._hold_until:
            return []
        held, self._held = self._held, []
        return held

    def commit(self, finished: int) -> None:
        """Commit what has become free; `finished`: decisions that every teller is done with."""
        offsets = self.progress.reached(finished)
        places = [TopicPartition(topics.DECISIONS, *place) for place in offsets.items() if place[0] in self._starts]
        if not places:
            return
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            self._tell(error.args[0])
            for place in places:  # again with the next one
                self.progress.note(finished, place.partition, place.offset)

    def lag(self) -> int:
        """Messages that we know of and have not read."""
        return kafka.lag(self._consumer)

    def close(self) -> None:
        """Leave the group, so that others take over at once."""
        self._consumer.close()

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            [topics.DECISIONS], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        starts, unknown = {}, []
        for place in consumer.committed(partitions, timeout=_ASK_SECONDS):
            low, high = consumer.get_watermark_offsets(place, timeout=_ASK_SECONDS)
            if place.offset < 0:
                unknown.append(TopicPartition(place.topic, place.partition, high))
            starts[place.partition] = high if place.offset < 0 else place.offset if place.offset <= high else low
        if unknown:
            consumer.commit(offsets=unknown, asynchronous=False)  # what comes from here on is told, whenever we end
        self._starts, self._behind, self._held = starts, set(starts), []
        self._hold_until = time.monotonic() + _HOLD_SECONDS
        consumer.assign([TopicPartition(place.topic, place.partition, OFFSET_BEGINNING) for place in partitions])
        log.info("assigned", partitions=len(partitions))

    def _revoked(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.progress.forget()
        self._starts, self._behind, self._held = {}, set(), []

    def _tell(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_SECONDS:
            self._told = now
            log.warning("Kafka", trouble=error.str())
