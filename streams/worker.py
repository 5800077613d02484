"""A worker: takes partitions from the group, counts their tallies and publishes what follows.

    Faust ── envelopes ──▶ Partition (counts) ──▶ Owner (writes states, offset and decisions in one transaction)

Invariants
- A partition is counted only from where its changelog says, and only while we own it: a message before that offset is
  skipped, one beyond it makes us read again from there.
- Operators' words and the brake's ten minutes are known before the first envelope is counted.
- All state is touched in the event loop's thread; what blocks runs in threads.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import structlog
from confluent_kafka import KafkaException
from faust.types import TP

from streams import faust_app, health, metrics
from streams.alarms import Alarms
from streams.changelog import Batch
from streams.decide import Judge
from streams.health import Watch
from streams.knowledge import Knowledge
from streams.metrics import Counts, Figures
from streams.owner import Owner
from streams.partition import BrokenChangelogError
from streams.recovery import Recovered, recover
from streams.reports import Reports
from weir import __version__, status, topics
from weir.settings import Settings
from weir.status import WorkerStatus
from weir.subjects import PARTITIONS

log = structlog.get_logger()

COMMIT_SECONDS = 5.0
SEEK_SECONDS = 1.0
REPORT_SECONDS = 1.0
TURN_SECONDS = 0.002
"""How long we count before others have their turn in the loop."""


class Worker:
    def __init__(self, settings: Settings, name: str, die: Callable[[str], NoReturn]) -> None:
        """`die` ends the process: nothing that is in memory only may be written any more."""
        self.name = name
        self.counts = Counts()
        self._settings = settings
        self._die = die
        self._owners: dict[int, Owner] = {}
        self._former: dict[int, Owner] = {}
        """What we held before a rebalance."""
        self._knowledge = Knowledge(settings, self.counts, self._released)
        self._judge = Judge(settings, self._knowledge.operators, self._knowledge.brake, self.active_accounts)
        self._threads = ThreadPoolExecutor(PARTITIONS, thread_name_prefix="partition")
        self._reports = Reports(settings, name)
        self._watch = Watch(settings, self.written, die)
        self._alarms = Alarms(name)
        self._sought: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.app = faust_app.make(settings, name)
        topic = self.app.topic(
            topics.TALLIES, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
        )
        self.app.agent(topic)(self._count)
        self.app.on_partitions_revoked.connect(self._revoked, weak=False)
        self.app.on_rebalance_complete.connect(self._assigned, weak=False)

    async def start(self) -> None:
        """Start; raises OSError if the port of the metrics is taken."""
        metrics.serve(self._settings.streams.metrics, self.counts, self.figures)
        self._knowledge.start()
        self._tasks = [
            health.start(self._report(), "reports", self._die),
            health.start(self._commit_now_and_then(), "commits", self._die),
        ]
        self._watch.start()
        await self.app.start()

    async def stop(self) -> None:
        """Write and commit what was counted, and end. As a static member we do not leave the group: our partitions
        wait for our restart, or for the end of the session."""
        self._watch.stop()
        for task in self._tasks:
            task.cancel()
        await self._let_go()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._commit(self._former), 1)
        self._reports.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.app.stop(), 2)
        self._knowledge.stop()
        log.info("stopped", worker=self.name, tallies=self.counts.tallies)

    # What Faust calls

    async def _count(self, stream: Any) -> None:
        # Straight from the channel: the stream's own way costs as much as all the rest, and after a buffer was full it
        # lets partitions wait until all others are done.
        queue = stream.channel.queue
        yielded = 0.0
        while True:
            try:
                message = (await queue.get() if queue.empty() else queue.get_nowait()).message
            except StopAsyncIteration:
                return  # Faust stops
            now = time.time()
            if now - yielded > TURN_SECONDS:
                await asyncio.sleep(0)
                yielded = now
            owner = self._owners.get(message.partition)
            if owner is None or owner.stopped or message.offset < owner.partition.next:
                continue
            if message.offset > owner.partition.next:
                await self._read_again(owner)
                continue
            self._count_envelope(owner, message, now)

    def _count_envelope(self, owner: Owner, message: Any, now: float) -> None:
        partition = owner.partition
        try:
            partition.count(message.offset, message.value, now)
        except BrokenChangelogError as error:
            self._stop_owner(owner, str(error))
        except Exception as error:
            log.exception("counting failed", partition=partition.number, offset=message.offset)
            self._die(f"counting failed: {error!r}")
        if partition.has_decisions:
            owner.want_write()

    async def _revoked(self, *_: Any, **__: Any) -> None:
        await self._let_go()

    async def _assigned(self, *_: Any, **__: Any) -> None:
        """Take over the partitions that we were given; the flow goes on when this returns."""
        start = time.monotonic()
        generation = self.app.consumer_generation_id
        numbers = sorted(tp.partition for tp in self.app.consumer.assignment() if tp.topic == topics.TALLIES)
        try:
            await self._knowledge.current()
            recovered = await asyncio.gather(*(self._recover(number) for number in numbers))
        except KafkaException as error:
            self._die(f"recovery failed: {error}")
        if generation != self.app.consumer_generation_id:
            log.info("assigned again during recovery", worker=self.name, partitions=numbers)
            return
        self._former = {}
        self._owners = {each.partition.number: self._owner(each) for each in recovered}
        await self._commit(self._owners)
        log.info(
            "counting",
            worker=self.name,
            partitions=numbers,
            kept=sum(each.kept for each in recovered),
            accounts=sum(each.partition.accounts for each in recovered),
            seconds=round(time.monotonic() - start, 3),
        )

    # Partitions

    async def _recover(self, number: int) -> Recovered:
        former = self._former.get(number)
        held = (former.partition, former.changelog) if former and not former.stopped else None
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, recover, self._settings, number, self._judge, self.counts, held
        )

    def _owner(self, recovered: Recovered) -> Owner:
        number = recovered.partition.number
        owner = Owner(recovered.partition, recovered.changelog, self._threads, self._wrote, self._die)
        if recovered.gap:
            self._tell_gap(number, recovered.gap)
        if recovered.recreated:
            self.counts.recreated += 1
            log.error("weir.tallies ends before what was counted: was it made anew?", partition=number)
        if recovered.broken:
            self._stop_owner(owner, recovered.broken)
        for subject, (_, released) in self._knowledge.operators.releases.items():
            self._release(owner, subject, released)
        return owner

    def _stop_owner(self, owner: Owner, reason: str) -> None:
        owner.stopped = True
        log.error("a partition stands still: its changelog is broken", partition=owner.partition.number, error=reason)

    async def _let_go(self) -> None:
        """Write what was counted and count no more; what we hold may be kept if the partition comes back."""
        if self._owners:
            self._former, self._owners = self._owners, {}
        await asyncio.gather(*(owner.close() for owner in self._former.values()))

    async def _read_again(self, owner: Owner) -> None:
        """Messages are missing before this one: go back to where we are."""
        partition = owner.partition
        now = time.monotonic()
        if now - self._sought.get(partition.number, 0.0) < SEEK_SECONDS:
            return  # what is missing is on its way
        self._sought[partition.number] = now
        self.counts.seeks += 1
        tp = TP(topics.TALLIES, partition.number)
        low = (await self.app.consumer.earliest_offsets(tp))[tp]
        if low > partition.next:
            self._tell_gap(partition.number, low - partition.next)
            partition.next = low
        await self.app.consumer.seek_wait({tp: partition.next})

    def _tell_gap(self, number: int, gap: int) -> None:
        self.counts.gaps += gap
        log.error("tallies were deleted before they were counted", partition=number, messages=gap)

    def _wrote(self, owner: Owner, batch: Batch) -> None:
        self.counts.transactions += 1
        self.counts.decisions += len(batch.decisions)
        self.counts.shadows += sum(decision.shadow for decision in batch.decisions)

    def _released(self, subject: str, released: float) -> None:
        for owner in self._owners.values():
            self._release(owner, subject, released)

    def _release(self, owner: Owner, subject: str, released: float) -> None:
        if owner.stopped:
            return
        try:
            owner.partition.release(subject, released)
        except BrokenChangelogError as error:
            self._stop_owner(owner, str(error))

    async def _commit(self, owners: dict[int, Owner]) -> None:
        """Tell the group's offsets: for Faust, which seeks to them, and for whoever watches the group."""
        offsets = {
            TP(topics.TALLIES, number): owner.partition.written for number, owner in owners.items() if not owner.stopped
        }
        if offsets:
            await self.app.consumer._commit(offsets)  # type: ignore[attr-defined]

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit(self._owners)

    # What others are told

    def active_accounts(self) -> float:
        """Accounts of the whole fleet that sent in the last hour, reckoned from our partitions."""
        counted = [owner.partition.active_accounts for owner in self._owners.values()]
        return sum(counted) * PARTITIONS / len(counted) if counted else 0.0

    def written(self) -> dict[int, int]:
        """The committed offset of each partition that is counted."""
        owners = list(self._owners.items())
        return {number: owner.partition.written for number, owner in owners if not owner.stopped}

    def figures(self) -> Figures:
        owners = list(self._owners.values())
        return Figures(
            partitions=sum(not owner.stopped for owner in owners),
            partitions_stopped=sum(owner.stopped for owner in owners),
            lag=sum(self._lag(owner) for owner in owners),
            accounts=sum(owner.partition.accounts for owner in owners),
            limits=sum(len(owner.partition.limits) for owner in owners),
            outcomes=sum(len(owner.partition.outcomes) for owner in owners),
            brake=self._alarms.brake,
            transaction_seconds=max((owner.transaction_seconds for owner in owners), default=0.0),
            last_transaction_timestamp_seconds=max((owner.last_transaction for owner in owners), default=0.0),
        )

    def _lag(self, owner: Owner) -> int:
        try:
            end = self.app.consumer.highwater(TP(topics.TALLIES, owner.partition.number))
        except Exception:  # aiokafka's own, while partitions change hands
            return 0
        return max(0, (end or 0) - owner.partition.next)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            brake = self._knowledge.brake.is_on(time.time(), self.active_accounts())
            self._alarms.look(brake, self.counts.alternating_hosts)
            figures = self.figures()
            self._reports.tell(
                self.written(),
                WorkerStatus(
                    version=status.VERSION,
                    weir=__version__,
                    name=self.name,
                    time=time.time(),
                    partitions=sorted(self.written()),
                    lag=figures.lag,
                    last_transaction=figures.last_transaction_timestamp_seconds,
                    accounts=figures.accounts,
                    brake=figures.brake,
                ),
            )
