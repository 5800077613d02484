"""Health: a worker that has lost a part of it, or stands still although there is something to count, is ended.

Invariants: the watch asks Kafka by a client of its own in a thread of its own, so a loop or a consumer that is stuck is
seen too; while Kafka does not answer, nothing is held against the worker.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaException, TopicPartition

from weir import kafka, topics
from weir.settings import Settings

CHECK_SECONDS = 5.0
STUCK_CHECKS = 4
"""Checks in a row, Kafka answering, in which there was more to count and no partition moved."""
STARVED_CHECKS = 24
"""The same for one partition while others move: in a large backlog it may have to wait for its turn."""


def start(work: Coroutine[Any, Any, None], name: str, die: Callable[[str], NoReturn]) -> asyncio.Task[None]:
    """Start a task that the worker cannot do without: if it fails, the process ends."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            die(f"{name}: {error!r}")

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


class Stillness:
    """How long each partition has stood still. Pure."""

    def __init__(self) -> None:
        self._checks: dict[int, tuple[int, int]] = {}
        """Partition → committed offset, and checks in a row that found it there with more to count."""

    def check(self, written: dict[int, int], ends: dict[int, int]) -> list[int]:
        """Take in one check; returns the partitions that stand still for too long."""
        before, self._checks = self._checks, {}
        for number, offset in written.items():
            if number in ends and ends[number] > offset:
                former, checks = before.get(number, (offset, 0))
                self._checks[number] = (offset, checks + 1 if former == offset else 1)
        fewest = min((checks for _, checks in self._checks.values()), default=0)
        bound = STUCK_CHECKS if fewest > STUCK_CHECKS else STARVED_CHECKS
        return [number for number, (_, checks) in self._checks.items() if checks > bound]


class Watch:
    def __init__(
        self, settings: Settings, written: Callable[[], dict[int, int]], die: Callable[[str], NoReturn]
    ) -> None:
        """`written` gives the committed offset of each partition that is counted; `die` ends the process."""
        self._settings = settings
        self._written = written
        self._die = die
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        consumer = Consumer(kafka.reader(self._settings.kafka))
        stillness = Stillness()
        while not self._stopping.wait(CHECK_SECONDS):
            written = self._written()
            try:
                ends = {number: self._end(consumer, number) for number in written}
            except KafkaException:
                stillness = Stillness()
                continue
            still = stillness.check(written, ends)
            if still:
                self._die(f"partitions {still} have more to count and stand still")
        consumer.close()

    @staticmethod
    def _end(consumer: Consumer, number: int) -> int:
        return consumer.get_watermark_offsets(TopicPartition(topics.TALLIES, number), timeout=5)[1]
