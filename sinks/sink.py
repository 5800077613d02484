"""The sink: batches from Kafka into the history, each event once.

    read a batch → ask the history where it may hold some of it → insert the rest        again until it is stored
    every few seconds: roll-ups of the minutes touched → dead letters → commit the offsets

While the history stores one batch, the next is read: a thread of its own (`_insert`) has the store and all memory of
what is stored until its batch is stored or has failed. The main thread lets it send undisturbed, reads the next batch,
and waits for the thread's end before all else: before that batch is stored, before roll-ups and commits, before
partitions are given back, before it begins anew. Tries again are decided, and waited for, on the main thread, with
nothing under way: its polls keep our place in the group.

Invariants: nothing is committed before it and its roll-ups are stored; after an error, or a change of the assignment,
no memory of what is stored is trusted; at most one batch is being stored, and no two threads use the store at once.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from confluent_kafka import KafkaException
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_never, wait_exponential, wait_random

from sinks import decision_rows, rollups, rows
from sinks.batch import Batch, DeadLetter
from sinks.identity import Identity, ask
from sinks.metrics import Counts
from sinks.source import Source
from sinks.store import TOO_MANY_PARTS, Store, StoreError, for_logs, in_parts
from weir.settings import Settings

SETTLE_SECONDS = 5.0, 60.0
"""Between two commits, at least and at most: so fresh are roll-ups, and so much is read again after a crash."""
SETTLE_SHARE = 0.1
"""Of the time, for roll-ups and commits: in a backlog they wait longer, and make more at once."""
_LONGEST_WAIT = 30.0

log = structlog.get_logger(__name__)


class OvertakenError(Exception):
    """The assignment changed: what is in hand is void, and will be read again."""


class Sink:
    def __init__(self, settings: Settings, store: Store, stopping: Callable[[], bool]) -> None:
        self.counts = Counts()
        self.last_commit = 0.0
        self.lag = 0
        """Messages not read yet."""
        self.uncommitted = 0
        """Events taken in since then: so many are read again after a crash."""
        self._keep_days = settings.history.keep_days
        self._store = store
        self._stopping = stopping
        self._identity = Identity()
        self.source = Source(settings, self._before_revoke)
        self._generation = 0
        self._thread = ThreadPoolExecutor(1, "insert")
        self._batch: Batch | None = None
        """What is being stored, or was to be and failed."""
        self._insertion: Future[None] | None = None
        self._begin_anew()

    def run(self) -> None:
        """Until `stopping`; then all that was stored is committed."""
        while not self._stopping():
            try:
                self._step()
            except OvertakenError:
                self._begin_anew()
            except KafkaException as error:
                log.warning("not committed, read again", trouble=error.args[0].str())
                self._restart()

    def _step(self) -> None:
        batch = self.source.collect(self._stopping)
        if self._generation != self.source.generation:
            self._begin_anew()  # the batch begins at committed offsets
        self._until_stored(self._finish)
        self.lag = self.source.lag()
        if time.monotonic() >= (self._settle_at if batch.next else self._earliest):
            self._until_stored(self._settle)
        if batch.next:
            self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        sent = threading.Event()
        self._batch, self._insertion = batch, self._thread.submit(self._insert, batch, sent.set)
        self._insertion.add_done_callback(lambda _: sent.set())  # nothing to send, or an error
        sent.wait()  # Python runs one thread at a time: to read now would make the history wait

    def _finish(self) -> None:
        """Wait for the end of the insertion; if it failed before, this is another. Raises StoreError."""
        if self._batch is None:
            return
        if self._insertion is None:
            self._begin(self._batch)
        self._end()
        self._taken(self._batch)
        self._batch = None

    def _end(self) -> None:
        """Wait until the store is ours again. Raises StoreError if the insertion failed."""
        insertion, self._insertion = self._insertion, None
        if insertion is not None:
            insertion.result()

    def _restart(self) -> None:
        try:
            self.source.restart()
        except KafkaException as error:
            log.warning("Kafka", trouble=error.args[0].str())
        self._begin_anew()

    def close(self) -> None:
        """Commit what is stored, and leave the group."""
        self._before_revoke()
        self.source.generation += 1  # leaving revokes, too: one attempt is enough
        self.source.close()
        self._thread.shutdown()

    def _begin_anew(self) -> None:
        with suppress(StoreError):
            self._end()
        self._batch = None
        self._generation = self.source.generation
        self._identity.forget()
        self._touched = rollups.nothing()
        self._dead: list[DeadLetter] = []
        self.uncommitted = 0
        self._next: dict[tuple[str, int], int] = {}
        self._settle_at = self._earliest = time.monotonic() + SETTLE_SECONDS[0]
        """When to settle: while more comes, and as soon as nothing does."""

    def _insert(self, batch: Batch, sent: Callable[[], None]) -> None:
        """On the thread of insertions; `sent` is called when the history has the events and is at work."""
        division = self._identity.divide(batch.events)
        answer = ask(self._store, division)
        new = division.new + answer.missing
        if new:
            columns = rows.together(new)
            self._put("events", tuple(columns), list(columns.values()), sent)
        self._put_few("decisions", decision_rows.DECISION, batch.decisions, ("subject", "id", "change"))
        self._put_few("words", decision_rows.WORD, batch.words, ("subject", "word", "id"))
        self._identity.stored(batch.events, answer.greatest)
        number = sum(map(len, new))
        self.counts.events += number
        self.counts.repeats += sum(map(len, batch.events)) - number
        self.counts.decisions += len(batch.decisions)
        self.counts.words += len(batch.words)

    def _taken(self, batch: Batch) -> None:
        """What is stored waits for its roll-ups and its commit."""
        self.counts.late += rollups.touch(self._touched, batch.events, self._keep_days, time.time())
        self._dead += batch.dead
        self.uncommitted += sum(map(len, batch.events))
        self._next.update(batch.next)

    def _put(
        self,
        table: str,
        names: tuple[str, ...],
        columns: Sequence[Sequence[Any]],
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        # The same rows in another attempt make the same token: four columns tell each row of any table.
        token = hashlib.sha256(msgspec.msgpack.encode(columns[:4])).hexdigest()
        start = time.monotonic()
        self._store.insert(table, names, columns, token, sent)
        self.counts.batches += 1
        self.counts.insert_seconds += time.monotonic() - start

    def _put_few(
        self, table: str, columns: tuple[str, ...], records: list[rows.Row], identity: tuple[str, ...]
    ) -> None:
        """Insert what the table does not hold: of records so few the history itself is always asked."""
        places = [columns.index(column) for column in identity]
        wanted = {tuple(record[place] for place in places): record for record in records}
        for subjects in in_parts({record[places[0]] for record in records}):
            sql = f"SELECT {', '.join(identity)} FROM {table} WHERE subject IN ({subjects})"  # noqa: S608 (in quotes)
            for present in self._store.query(sql):
                wanted.pop(tuple(present), None)
        if wanted:
            self._put(table, columns, list(zip(*wanted.values(), strict=True)))

    def _settle(self) -> None:
        start = time.monotonic()
        rollups.make(self._store, self._touched)
        self.source.bury(self._dead)
        self.source.commit(self._next)
        self.counts.dead += len(self._dead)
        if self._next:
            self.last_commit = time.time()
        self._touched, self._dead, self._next, self.uncommitted = rollups.nothing(), [], {}, 0
        least, most = SETTLE_SECONDS
        now = time.monotonic()
        self.counts.settle_seconds += now - start
        self._earliest = now + least
        self._settle_at = now + min(max(least, (now - start) / SETTLE_SHARE), most)

    def _before_revoke(self) -> None:
        """One attempt: what fails is read again by whoever comes next."""
        if self._generation != self.source.generation:
            return
        try:
            if self._insertion is not None:
                self._finish()
            self._settle()
        except (StoreError, KafkaException) as error:
            log.warning("given up uncommitted, read again", trouble=for_logs(error))

    def _until_stored(self, attempt: Callable[[], None]) -> None:
        """Try until the store has taken it. Raises OvertakenError, and KafkaException."""
        Retrying(
            retry=retry_if_exception_type(StoreError),
            wait=wait_exponential(multiplier=0.2, max=_LONGEST_WAIT) + wait_random(0, 1),
            stop=stop_never,
            sleep=self._wait,
            before_sleep=self._failed,
            reraise=True,
        )(attempt)

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._identity.forget()
        self.lag = self.source.lag()
        self.counts.store_errors += 1
        busy = isinstance(error, StoreError) and error.code == TOO_MANY_PARTS
        if state.attempt_number in (1, 5) or state.attempt_number % 20 == 0:
            log.warning(
                "the history asks for a pause" if busy else "not stored, tried again",
                trouble=for_logs(error) if error else "",
                attempts=state.attempt_number,
            )

    def _wait(self, seconds: float) -> None:
        self.source.wait(seconds, self._stopping)
        if self._generation != self.source.generation or self._stopping():
            raise OvertakenError
