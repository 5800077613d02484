"""The sink on a history in this process, and a Kafka that does what a test says."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sinks import schema
from sinks.batch import Batch, DeadLetter, Message
from sinks.embedded import Embedded
from sinks.sink import Sink
from sinks.store import StoreError
from tests.sinks.conftest import KEEP_DAYS
from tests.sinks.made import envelope, event
from weir import topics
from weir.settings import History, Settings

SECONDS = 20.0
PLACE = (topics.EVENTS, 0)


class Partition:
    """One partition of weir.events, read a message a batch; `before` is called at the start of each read."""

    def __init__(self, before_revoke: Callable[[], None]) -> None:
        self.generation = 0
        self.gaps = 0
        self.values: list[bytes] = []
        self.committed = 0
        self.before: list[Callable[[], None]] = []
        self.waiting: Callable[[], None] = lambda: None
        self._before_revoke = before_revoke
        self._position = 0

    def collect(self, stopping: Callable[[], bool]) -> Batch:
        generation = self.generation
        if self.before:
            self.before.pop(0)()
        batch = Batch("full")
        if generation == self.generation and self._position < len(self.values) and not stopping():
            batch.add(Message(topics.EVENTS, 0, self._position, None, self.values[self._position], 0.0, {}))
            self._position += 1
        return batch

    def revoke(self) -> None:
        """The partition goes to another, who gives it back at once."""
        self._before_revoke()
        self.restart()

    def restart(self) -> None:
        self.generation += 1
        self._position = self.committed

    def wait(self, seconds: float, stopping: Callable[[], bool]) -> None:
        self.waiting()

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        pass

    def commit(self, offsets: dict[tuple[str, int], int]) -> None:
        self.committed = offsets.get(PLACE, self.committed)

    def lag(self) -> int:
        return len(self.values) - self._position

    def close(self) -> None:
        pass


class Slow(Embedded):
    """Inserts of events wait until they may go on; then they fail as often as is said."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "weir")
        self.entered, self.may_go_on = threading.Event(), threading.Event()
        self.errors = 0
        self._busy = threading.Lock()

    def insert(self, table: str, names: Any, columns: Any, token: str = "", sent: Any = lambda: None) -> None:
        if table != "events":
            super().insert(table, names, columns, token, sent)
            return
        with self._alone():
            sent()
            self.entered.set()
            assert self.may_go_on.wait(SECONDS)
            if self.errors:
                self.errors -= 1
                raise StoreError("as a test says")
            super().insert(table, names, columns, token)

    def run(self, sql: str) -> None:
        with self._alone():
            super().run(sql)

    def _alone(self) -> threading.Lock:
        if hasattr(self, "_busy"):
            assert not self._busy.locked(), "the store is used by two threads"
            return self._busy
        return threading.Lock()

    def seqs(self) -> list[int]:
        """Each row, without FINAL: what is stored twice is here twice."""
        return [int(seq) for (seq,) in self.query("SELECT seq FROM events ORDER BY seq")]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    with Slow(tmp_path / "history") as store:
        schema.migrate(store, KEEP_DAYS)
        yield store


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def sink(slow: Slow, stopping: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Sink:
    monkeypatch.setattr("sinks.sink.Source", lambda _settings, before_revoke: Partition(before_revoke))
    return Sink(Settings(history=History(keep_days=KEEP_DAYS)), slow, stopping.is_set)


@pytest.fixture
def partition(sink: Sink) -> Partition:
    source: Any = sink.source
    source.values = [envelope([event(seq)]) for seq in range(1, 4)]
    return source  # type: ignore[no-any-return]


def finish(sink: Sink, stopping: threading.Event) -> None:
    """Read all there is, some of it again, then end as a process does."""
    partition: Any = sink.source
    partition.before += [lambda: None] * 3 * len(partition.values) + [stopping.set]
    sink.run()
    sink.close()


def test_the_next_batch_is_read_while_one_is_stored(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    def reading() -> None:
        assert slow.entered.is_set()
        assert slow.seqs() == []
        assert partition.committed == 0
        slow.may_go_on.set()

    partition.before = [lambda: None, reading]
    finish(sink, stopping)
    assert slow.seqs() == [1, 2, 3]
    assert partition.committed == 3


@pytest.mark.parametrize("errors", [1, 3])
def test_what_fails_while_the_next_is_read_is_stored_before_it(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event, errors: int
) -> None:
    slow.errors = errors
    partition.before = [lambda: None, slow.may_go_on.set]
    finish(sink, stopping)
    assert sink.counts.store_errors == errors
    assert slow.seqs() == [1, 2, 3]
    assert (partition.committed, sink.counts.events, sink.counts.repeats) == (3, 3, 0)


def test_partitions_given_back_while_one_is_stored_are_committed_up_to_it(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    found: list[tuple[list[int], int]] = []

    def revoked() -> None:
        threading.Timer(0.1, slow.may_go_on.set).start()
        partition.revoke()  # waits for the insertion
        found.append((slow.seqs(), partition.committed))

    partition.before = [lambda: None, revoked]
    finish(sink, stopping)
    assert found == [([1], 1)]
    assert slow.seqs() == [1, 2, 3]
    assert partition.committed == 3


def test_partitions_given_back_while_an_insertion_fails_are_not_committed(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    slow.errors = 1
    found: list[int] = []

    def revoked() -> None:
        slow.may_go_on.set()
        partition.revoke()
        found.append(partition.committed)

    partition.before = [lambda: None, revoked]
    finish(sink, stopping)
    assert found == [0]
    assert slow.seqs() == [1, 2, 3]
    assert partition.committed == 3


def test_partitions_given_back_between_two_attempts_wait_for_no_other(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    slow.errors = 1
    found: list[tuple[list[int], int]] = []

    def revoked() -> None:
        partition.revoke()
        found.append((slow.seqs(), partition.committed))

    slow.may_go_on.set()
    partition.waiting = revoked
    finish(sink, stopping)
    assert found == [([], 0)]
    assert slow.seqs() == [1, 2, 3]
    assert partition.committed == 3


def test_partitions_lost_while_one_is_stored_leave_no_memory(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    def lost() -> None:
        partition.restart()
        threading.Timer(0.1, slow.may_go_on.set).start()

    partition.before = [lambda: None, lost]
    finish(sink, stopping)
    assert slow.seqs() == [1, 2, 3]  # the first was asked about when it came again
    assert (sink.counts.events, sink.counts.repeats, partition.committed) == (3, 1, 3)


def test_what_is_being_stored_at_the_end_is_committed(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    partition.before = [stopping.clear, stopping.set]
    threading.Timer(0.1, slow.may_go_on.set).start()
    sink.run()
    sink.close()
    assert slow.seqs() == [1]
    assert partition.committed == 1


def test_what_fails_at_the_end_is_not_committed(
    sink: Sink, slow: Slow, partition: Partition, stopping: threading.Event
) -> None:
    slow.errors = 10
    partition.before = [lambda: None, stopping.set]
    slow.may_go_on.set()
    sink.run()
    sink.close()
    assert slow.seqs() == []
    assert partition.committed == 0


def test_what_is_no_error_of_the_store_ends_the_sink(
    sink: Sink, slow: Slow, partition: Partition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(slow, "insert", broken)
    with pytest.raises(ZeroDivisionError):
        sink.run()
    sink.close()
    assert partition.committed == 0
