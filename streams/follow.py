"""Follow a topic whole and live: weir.operators, and the last ten minutes of weir.decisions.

Invariants: reading blocks a thread of its own, records are taken in the event loop's thread only, in the order of their
partition; an end is librdkafka's PARTITION_EOF.
"""

import asyncio
import threading
from collections.abc import Callable

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from weir import kafka
from weir.settings import Settings

log = structlog.get_logger()


class Follower:
    """Reads all partitions of one topic and hands each record to `take` in the loop's thread."""

    def __init__(self, settings: Settings, topic: str, partitions: int, take: Callable[[Message], None]) -> None:
        self._topic = topic
        self._partitions = partitions
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._configuration = kafka.reader(settings.kafka)
        self._consumer = Consumer(self._configuration)
        self._positions: dict[int, int] = {}
        """Partition → offset after the last record taken, or the end that was reached."""
        self._at_end: set[int] = set()
        self._whole = asyncio.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {topic}", daemon=True)

    def start(self, from_time: float | None = None) -> None:
        """Begin to read: from the start of the topic, or from a time in Unix seconds."""
        self._from_time = from_time
        self._thread.start()

    async def whole(self) -> None:
        """Wait until all partitions were read to the end they had at the start."""
        await self._whole.wait()

    async def current(self) -> None:
        """Wait until all that stands in the topic now was taken. Raises KafkaException if its ends are not told."""
        if not self._whole.is_set():
            await self.whole()
            return
        ends = await self._loop.run_in_executor(None, self._ends)
        while any(self._positions.get(partition, 0) < end for partition, end in ends.items()):
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(2)

    def _run(self) -> None:
        self._consumer.assign(self._starts())
        while not self._stopping.is_set():
            first = self._consumer.poll(0.2)
            if first is None:
                continue
            self._loop.call_soon_threadsafe(self._deliver, [first, *self._consumer.consume(1000, 0)])
        self._consumer.close()

    def _starts(self) -> list[TopicPartition]:
        """Where to begin; tries until Kafka tells, or we are stopped."""
        while not self._stopping.is_set():
            try:
                # Once connected, it finds the ends of an assignment at once and not after half a second.
                self._consumer.list_topics(self._topic, timeout=5)
                return self._found()
            except KafkaException as error:
                log.warning("Kafka does not tell where to read", topic=self._topic, error=str(error))
        return []

    def _found(self) -> list[TopicPartition]:
        numbers = range(self._partitions)
        if self._from_time is None:
            return [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in numbers]
        wanted = [TopicPartition(self._topic, number, int(self._from_time * 1000)) for number in numbers]
        found = self._consumer.offsets_for_times(wanted, timeout=5)
        return [TopicPartition(self._topic, each.partition, max(each.offset, OFFSET_END)) for each in found]

    def _ends(self) -> dict[int, int]:
        asker = Consumer(self._configuration)  # the other one is busy in its own thread
        try:
            return {
                number: asker.get_watermark_offsets(TopicPartition(self._topic, number), timeout=10)[1]
                for number in range(self._partitions)
            }
        finally:
            asker.close()

    def _deliver(self, messages: list[Message]) -> None:
        for message in messages:
            error = message.error()
            partition, offset = message.partition() or 0, message.offset() or 0
            if error is None:
                self._take(message)
                self._positions[partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                self._positions[partition] = offset
                self._at_end.add(partition)
                if len(self._at_end) == self._partitions:
                    self._whole.set()
            else:
                log.warning("reading is disturbed", topic=self._topic, error=str(error))
