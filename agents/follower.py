"""The follower: a thread that reads weir.decisions and weir.operators whole, and weir.echo from its end, for ever.

Invariants
- Records come in batches, each partition in order; of what is written in transactions only what was committed.
- Ready is told once: when every partition of decisions and operators was read to its end.
- No error ends it: a broker that is away, a permission withdrawn, a topic that is not there yet or was made anew (then
  its records come again from the beginning) are waited for, with one log line for each change.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, TopicDescription

from weir import kafka, settings, topics

BATCH = 500
POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0
CHECK_SECONDS = 30.0
"""Between two looks at the topics' ids."""

_STARTS = {topics.DECISIONS: OFFSET_BEGINNING, topics.OPERATORS: OFFSET_BEGINNING, topics.ECHO: OFFSET_END}

log = structlog.get_logger(__name__)


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time: float
    """The record's time, Unix seconds: the broker's clock for operators and echo."""
    received: float
    """When it came, Unix seconds by this host's clock."""


class Follower:
    """Both callbacks are called in the follower's thread."""

    def __init__(
        self,
        kafka: settings.Kafka,
        on_records: Callable[[list[Record]], None],
        on_ready: Callable[[], None],
    ) -> None:
        self._kafka = kafka
        self._on_records = on_records
        self._on_ready = on_ready
        self._unread = {(p.topic, p.partition) for p in _partitions() if p.topic != topics.ECHO}
        self.failing = False
        """What Kafka said last was an error."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the thread has ended; no callback comes after that."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except KafkaException as error:
                self._tell_failure(error.args[0])
                self._stopping.wait(RETRY_SECONDS)
            except Exception:  # a fault of ours; whatever it is, the next records must come
                log.exception("follower failed")
                self._stopping.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        """Read from the beginning and on, until stopped or until a topic was made anew."""
        topic_ids = _TopicIds(self._kafka)
        consumer = Consumer(_configuration(self._kafka), error_cb=self._on_error)
        try:
            consumer.assign(_partitions())
            while not self._stopping.is_set():
                if topic_ids.have_changed(time.monotonic()):
                    log.warning("a topic was made anew, all are read from the beginning")
                    return
                if (first := consumer.poll(POLL_SECONDS)) is not None:
                    received = time.time()
                    self._take([first, *consumer.consume(BATCH, 0)], received)
        finally:
            consumer.close()

    def _take(self, messages: list[Message], received: float) -> None:
        records: list[Record] = []
        ends: list[tuple[str, int]] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(_record(message, received))
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.append((message.topic() or "", message.partition() or 0))
            else:
                self._tell_failure(error)
        if records:
            self._on_records(records)
        if records or ends:
            self._tell_success()
        if ends and self._unread:
            self._unread.difference_update(ends)
            if not self._unread:
                self._on_ready()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._tell_failure(error)

    def _tell_failure(self, error: KafkaError) -> None:
        if not self.failing:
            log.warning("decisions cannot be followed, those known stay in force", error=error.str())
        self.failing = True

    def _tell_success(self) -> None:
        if self.failing:
            log.info("decisions are followed again")
        self.failing = False


class _TopicIds:
    """Tells that a topic was made anew. librdkafka (2.16) alone would go on with the offset in the former one, or, if
    that one's leader had ever changed, wait for ever without a word.
    """

    def __init__(self, kafka_settings: settings.Kafka) -> None:
        self._admin = AdminClient({**kafka.client(kafka_settings)})
        self._known: dict[str, str] = {}
        self._asked: dict[str, Future[TopicDescription]] = {}
        self._next = 0.0

    def have_changed(self, now: float) -> bool:
        """Look at the answers that came, and ask again after CHECK_SECONDS (`now` is monotonic); waits for nothing."""
        changed = False
        for name, answer in list(self._asked.items()):
            if answer.done():
                del self._asked[name]
                if answer.exception() is None:
                    topic_id = str(answer.result().topic_id)
                    changed |= self._known.get(name, topic_id) != topic_id
                    self._known[name] = topic_id
        if not self._asked and now >= self._next:
            self._next = now + CHECK_SECONDS
            self._asked = self._admin.describe_topics(TopicCollection(list(_STARTS)))
        return changed


def _partitions() -> list[TopicPartition]:
    return [
        TopicPartition(topic.name, number, _STARTS[topic.name])
        for topic in topics.ALL
        if topic.name in _STARTS
        for number in range(topic.partitions)
    ]


def _record(message: Message, received: float) -> Record:
    return Record(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        message.timestamp()[1] / 1000,
        received,
    )


def _configuration(kafka_settings: settings.Kafka) -> kafka.Configuration:
    """Small buffers: an agent's memory belongs to its host, and decisions are few."""
    return kafka.reader(kafka_settings) | {
        "fetch.message.max.bytes": 256 * 1024,
        "fetch.max.bytes": 1024 * 1024,
        "queued.max.messages.kbytes": 2048,
        "queued.min.messages": 1000,
        "fetch.queue.backoff.ms": 10,  # a full queue is soon taken; by default it then waits a second
        "topic.metadata.refresh.interval.ms": 10_000,
        "socket.nagle.disable": True,
    }
