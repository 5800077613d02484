"""What an agent knows of weir.decisions and weir.operators: first from its snapshot, then from the topics.

Pure. The snapshot is what the topics said up to a position in each partition, so what is read again up to there
changes nothing, and nothing flickers while a topic is read from its beginning. What the snapshot has and the topics
have no more goes when they are read to the end; unless a partition was made anew (it ends before the snapshot's
position, or has newer records at older offsets): then it cannot tell what was lifted, and the snapshot's stays.

Invariants: a record that cannot be understood changes nothing; records of a partition are taken in their order.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agents.decisions import Decisions
from agents.follower import Record
from weir import subjects, topics
from weir.decisions import Decision
from weir.operators import Operators

Partition = tuple[str, int]
"""Topic and number."""


class Position(NamedTuple):
    """How far a partition is known."""

    offset: int
    time: float
    """The latest time of a record up to there: a topic made anew has lower offsets and later times."""


class Learned(NamedTuple):
    """What came of a record that was new."""

    record: Record
    """For the snapshot. One that was not understood has neither key nor value there: it replaces none."""
    decision: Decision | None
    """In force by this record."""


class Completed(NamedTuple):
    """What became of the snapshot's records that the topics do not have."""

    removed: list[Record]
    """As tombstones without a position."""
    kept: int
    """Of partitions that were made anew."""


def advance(positions: dict[Partition, Position], record: Record) -> bool:
    """Move the position of the record's partition; False if the record was known already."""
    partition = (record.topic, record.partition)
    known = positions.get(partition)
    if known is None or record.offset > known.offset:
        time = record.time if known is None else max(known.time, record.time)
        positions[partition] = Position(record.offset, time)
        return True
    if record.time > known.time:
        positions[partition] = Position(record.offset, record.time)
        return True
    return False


class Knowledge:
    """Decisions and operators' words in force."""

    def __init__(self) -> None:
        self.decisions = Decisions()
        self.operators = Operators()
        self.complete = False
        """The topics were read to their end since the start."""
        self.garbage = 0
        """Records that made no sense."""
        self.last_error = ""
        """About the newest of them."""
        self._positions: dict[Partition, Position] = {}
        self._recalled: dict[Partition, int] = {}
        """The snapshot's offsets."""
        self._read: dict[Partition, int] = {}
        """The highest offsets read so far."""
        self._made_anew: set[Partition] = set()
        self._words: set[bytes] = set()
        """Keys of operators' words that only the snapshot has, so far."""

    def recall(self, records: Iterable[Record], positions: dict[Partition, Position], now: float) -> None:
        """Take in a snapshot; `positions` is how far it knows the topics, complete once `records` are iterated."""
        for record in records:
            if not record.key:
                continue
            self._apply(record, now, recalled=True)
            if record.topic == topics.OPERATORS:
                (self._words.discard if record.value is None else self._words.add)(record.key)
        self._positions = dict(positions)
        self._recalled = {partition: position.offset for partition, position in positions.items()}

    def learn(self, record: Record, now: float) -> Learned | None:
        """Take in a record of a topic; None if it was known. `now` is Unix seconds by the broker's clock."""
        is_new = advance(self._positions, record)
        if not self.complete:
            self._confirm(record, is_new)
        if not is_new:
            return None
        garbage = self.garbage
        decision = self._apply(record, now)
        if self.garbage > garbage:
            record = record._replace(key=b"", value=None)
        return Learned(record, decision)

    def finish_reading(self, now: float) -> Completed:
        """The topics are read to their end: what only the snapshot has goes, unless its partition was made anew."""
        self.complete = True
        removed: list[Record] = []
        kept = 0
        for partition, key in list(self._unconfirmed()):
            ended_before = self._read.get(partition, -1) < self._recalled.get(partition, -1)
            if ended_before or partition in self._made_anew:
                kept += 1
                continue
            tombstone = Record(*partition, -1, key, None, 0.0, now)
            self._apply(tombstone, now)
            removed.append(tombstone)
        return Completed(removed, kept)

    def _confirm(self, record: Record, is_new: bool) -> None:
        partition = (record.topic, record.partition)
        key = record.key or b""
        if record.topic == topics.DECISIONS:
            self.decisions.confirm(key)
        else:
            self._words.discard(key)
        self._read[partition] = max(self._read.get(partition, -1), record.offset)
        if is_new and record.offset <= self._recalled.get(partition, -1):
            self._made_anew.add(partition)

    def _unconfirmed(self) -> Iterator[tuple[Partition, bytes]]:
        for subject, key in self.decisions.unconfirmed():
            yield (topics.DECISIONS, subjects.partition(subject)), key
        for key in self._words:
            yield (topics.OPERATORS, 0), key

    def _apply(self, record: Record, now: float, recalled: bool = False) -> Decision | None:
        key = record.key or b""
        try:
            if record.topic == topics.DECISIONS:
                return self.decisions.apply(key, record.value, now, recalled)
            self.operators.apply(key, record.value, record.time)
        except Exception as error:  # a topic's garbage, of whatever kind, stops nobody
            self.tell_garbage(record, error)
        return None

    def tell_garbage(self, record: Record, error: Exception) -> None:
        """Count a record that made no sense."""
        self.garbage += 1
        self.last_error = f"{record.topic}/{record.partition}/{record.offset}: {error}"
