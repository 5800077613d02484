"""The owner of one partition: writes what was counted, in one transaction after another.

Invariants: one transaction is in flight; what arises meanwhile goes into the next. At once when there is a decision,
else every half second. When a transaction fails memory is ahead of Kafka: the process ends, and starts anew from there.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import NoReturn

from streams import health
from streams.changelog import Batch, Changelog
from streams.partition import Partition
from weir.subjects import PARTITIONS

INTERVAL = 0.5
PAUSE = 0.01
"""Between two transactions, at least."""
BUSY_PAUSE = 0.05
"""After one with more than BUSY decisions."""
BUSY = 50
SWEPT = 200
"""Subjects looked at after each transaction."""


class Owner:
    def __init__(
        self,
        partition: Partition,
        changelog: Changelog,
        executor: Executor,
        wrote: Callable[["Owner", Batch], None],
        die: Callable[[str], NoReturn],
    ) -> None:
        self.partition = partition
        self.changelog = changelog
        self.stopped = False
        """Its changelog is broken: nothing is counted or written any more."""
        self.last_transaction = 0.0
        self.transaction_seconds = 0.0
        self._executor = executor
        self._wrote = wrote
        self._wanted = asyncio.Event()
        self._closing = False
        self._task = health.start(self._run(), f"owner of partition {partition.number}", die)

    def want_write(self) -> None:
        """There is a decision: write as soon as may be."""
        self._wanted.set()

    async def close(self) -> None:
        """Write what there is, and end."""
        self._closing = True
        self._wanted.set()
        await self._task

    async def _run(self) -> None:
        # Partitions are spread over the interval, so that the loop never encodes the states of all at once.
        due = time.monotonic() + INTERVAL * self.partition.number / PARTITIONS
        while not (self._closing or self.stopped):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), max(0.0, due - time.monotonic()))
            self._wanted.clear()
            decided = await self._write()
            now = time.monotonic()
            if now >= due:
                due = max(due + INTERVAL, now)
                self._sweep()
            await asyncio.sleep(BUSY_PAUSE if decided > BUSY else PAUSE)
        await self._write()

    async def _write(self) -> int:
        """Write one transaction if there is anything to write; returns the number of decisions in it."""
        if self.stopped or self.partition.is_written:
            return 0
        batch = self.partition.snapshot()
        start = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._executor, self.changelog.write, batch)
        self.partition.written = batch.next
        self.transaction_seconds = time.monotonic() - start
        self.last_transaction = time.time()
        self._wrote(self, batch)
        return len(batch.decisions)

    def _sweep(self) -> None:
        if not (self.stopped or self._closing):
            self.partition.sweep(time.time(), SWEPT)
