"""The changelog: what stands on weir.windows, and the transactions that write it.

    s:SUBJECT       window of a subject (`streams.windows.Record`)
    l:SUBJECT       window of a limit (`streams.records.LimitRecord`)
    r:SUBJECT       what the mail log told of a subject (`streams.records.OutcomeRecord`)
    h:HOST:EPOCH    how far that host's events are counted (`Host`)
    o               next offset of weir.tallies (`NextOffset`)

Invariants: one partition is one transactional producer; a transaction holds states, hosts, next offset, decisions and
dead letters that belong together, all or none; whoever begins later with the same transactional id fences us.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from confluent_kafka import KafkaError, Message, Producer

from weir import decisions, kafka, topics
from weir.decisions import Decision
from weir.settings import Settings

Delivery = Callable[[KafkaError | None, Message], None]

VERSION = 1
NEXT_OFFSET = b"o"
TRANSACTION_SECONDS = 10


class Host(msgspec.Struct, array_like=True):
    """How far the events of one host and epoch are counted in one partition."""

    version: int
    seq: int
    """All of its events up to this one are counted."""
    newest: float
    """Time of its newest event, Unix seconds."""


class NextOffset(msgspec.Struct, array_like=True):
    version: int
    offset: int


_encoder = msgspec.msgpack.Encoder()
_host_decoder = msgspec.msgpack.Decoder(Host)
_next_decoder = msgspec.msgpack.Decoder(NextOffset)


def window_key(subject: str) -> bytes:
    return f"s:{subject}".encode()


def limit_key(subject: str) -> bytes:
    return f"l:{subject}".encode()


def outcome_key(subject: str) -> bytes:
    return f"r:{subject}".encode()


def host_key(host: str, epoch: str) -> bytes:
    return f"h:{host}:{epoch}".encode()


def encode(record: Host | NextOffset) -> bytes:
    return _encoder.encode(record)


def decode_host(value: bytes) -> Host:
    """Raises ValueError for what is no record of a version that we know."""
    host = _host_decoder.decode(value)
    _expect_known(host.version)
    return host


def decode_next(value: bytes) -> NextOffset:
    """Raises ValueError for what is no record of a version that we know."""
    following = _next_decoder.decode(value)
    _expect_known(following.version)
    return following


@dataclass
class Batch:
    """What one transaction writes."""

    records: list[tuple[bytes, bytes | None]]
    """Key and value for weir.windows, None for a tombstone; the next offset comes last."""
    decisions: list[Decision]
    dead: list[tuple[bytes, bytes]]
    """Key and value for weir.dead."""
    next: int
    """Next offset of weir.tallies after this."""
    ended: list[bytes] = field(default_factory=list)
    """Keys of weir.decisions whose decision is over and was the last: a tombstone each."""


class Changelog:
    """The transactional producer of one partition. Its calls block: they are for threads."""

    def __init__(self, settings: Settings, partition: int) -> None:
        self.partition = partition
        self.end = -1
        """End of weir.windows as we read it, or after our last transaction."""
        self._producer = Producer(
            kafka.client(settings.kafka)
            | {
                "transactional.id": f"{settings.streams.group}-{partition}",
                "transaction.timeout.ms": TRANSACTION_SECONDS * 1000,
                "linger.ms": 0,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def fence(self) -> None:
        """Shut out whoever wrote this partition before, and abort what they left open. Raises KafkaException."""
        self._producer.list_topics(timeout=30)  # connected first, it asks for the coordinator only once
        self._producer.init_transactions(30)

    def write(self, batch: Batch) -> None:
        """Write it all in one transaction; raises KafkaException, and then nothing may be written any more."""
        producer = self._producer
        producer.begin_transaction()
        pause("after-begin")
        for record_key, value in batch.records[:-1]:
            self._produce(topics.WINDOWS, self.partition, record_key, value)
        for key in batch.ended:
            self._produce(topics.DECISIONS, self.partition, key, None)
        for decision in batch.decisions:
            key = decisions.key(decision.cause, decision.subject)
            self._produce(topics.DECISIONS, self.partition, key, decisions.encoder.encode(decision))
        for record_key, value in batch.dead:
            self._produce(topics.DEAD, 0, record_key, value)
        self._produce(topics.WINDOWS, self.partition, *batch.records[-1], on_delivery=self._delivered)
        if os.environ.get(PAUSE):
            producer.flush(5)
        pause("after-produce")
        producer.commit_transaction(TRANSACTION_SECONDS * 2)
        pause("after-commit")

    def _produce(
        self, topic: str, partition: int, key: bytes, value: bytes | None, on_delivery: Delivery | None = None
    ) -> None:
        while True:
            try:
                return self._producer.produce(topic, value, key, partition, on_delivery)
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None:
            self.end = offset + 2  # the mark of the commit follows


PAUSE = "WEIR_TEST_PAUSE_FILE"


def pause(step: str) -> None:
    """For tests of what happens between steps: stop ourselves (SIGSTOP) at this one, once, if the file named by the
    environment holds the step's name; the file is then renamed to `*.reached`."""
    name = os.environ.get(PAUSE)
    if not name:
        return
    armed = Path(name)
    try:
        if armed.read_text().strip() != step:
            return
        armed.rename(f"{name}.reached")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)


def _expect_known(version: int) -> None:
    if version != VERSION:
        raise ValueError(f"expected a record of version {VERSION}, got {version}")
