"""Recovery of one partition: fence, read the changelog to its end, find where counting goes on.

The order matters: whoever owned the partition before is shut out first, so that nothing is written behind our back
after we have read. All of it blocks: it runs in a thread for each partition.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streams.changelog import Changelog
from streams.decide import Judge
from streams.partition import BrokenChangelogError, Partition, Totals
from weir import kafka, topics
from weir.settings import Settings

log = structlog.get_logger()

NEVER = -1
"""The next offset of a partition that was never counted."""

_READER = {"queued.min.messages": 100_000, "queued.max.messages.kbytes": 16_384, "fetch.wait.max.ms": 20}


@dataclass
class Recovered:
    partition: Partition
    changelog: Changelog
    kept: bool = False
    """The state in memory was still right, the changelog was not read."""
    broken: str = ""
    """Why this partition cannot be counted; empty if it can."""
    gap: int = 0
    """Messages of weir.tallies that were deleted before they were counted."""
    recreated: bool = False
    """The stored offset lay past the end of weir.tallies."""


def recover(
    settings: Settings, number: int, judge: Judge, totals: Totals, former: tuple[Partition, Changelog] | None
) -> Recovered:
    """Take over partition `number`; `former` is what we held before a rebalance. Raises KafkaException."""
    changelog = Changelog(settings, number)
    changelog.fence()
    consumer = Consumer(kafka.reader(settings.kafka) | _READER)
    try:
        consumer.list_topics(topics.WINDOWS, timeout=30)  # once connected, an assignment takes no half second
        recovered = _kept(consumer, changelog, former) if former else None
        if recovered is None:
            recovered = Recovered(Partition(number, judge, totals, NEVER), changelog)
            try:
                recovered.partition.restore(_read(consumer, changelog), time.time())
            except BrokenChangelogError as error:
                recovered.broken = str(error)
                return recovered
        _place(consumer, recovered)
        # States where we begin, and opens the way to the brokers: a decision will not have to wait for that.
        changelog.write(recovered.partition.snapshot())
        return recovered
    finally:
        consumer.close()


def _kept(consumer: Consumer, changelog: Changelog, former: tuple[Partition, Changelog]) -> Recovered | None:
    """What we held, if nobody has written to the changelog since: its end is where our last transaction ended."""
    partition, ours = former
    if not partition.is_written:
        return None
    _, end = consumer.get_watermark_offsets(TopicPartition(topics.WINDOWS, partition.number), timeout=30)
    if end != ours.end:
        return None
    changelog.end = end
    return Recovered(partition, changelog, kept=True)


def _read(consumer: Consumer, changelog: Changelog) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of the changelog, from its beginning to its end, which is noted."""
    consumer.assign([TopicPartition(topics.WINDOWS, changelog.partition, OFFSET_BEGINNING)])
    while True:
        for message in consumer.consume(5000, 0.05):
            error = message.error()
            if error is None:
                yield message.key() or b"", message.value()
            elif error.code() == KafkaError._PARTITION_EOF:
                changelog.end = message.offset() or 0
                return
            else:
                raise KafkaException(error)


def _place(consumer: Consumer, recovered: Recovered) -> None:
    """Compare the stored offset with what weir.tallies holds."""
    partition = recovered.partition
    low, high = consumer.get_watermark_offsets(TopicPartition(topics.TALLIES, partition.number), timeout=30)
    stored = partition.next
    if stored > high:
        recovered.recreated = True
    elif stored >= low:
        return
    elif stored != NEVER:
        recovered.gap = low - stored
    partition.next = partition.written = low
