"""Freshness: how old the fleet's knowledge of this host is, from what was sent and what the streams say they counted.

Pure: times come as values, Unix seconds by this host's clock unless said otherwise. Memory is bounded: of what waits
to be counted each partition keeps at most MAX_MARKS marks; more are thinned out, each kept one being the older.

Invariants
- The age is never too young: what is not counted is at least as old as said, and an unknown partition makes it unknown.
- Offsets that fall (the topic was made anew) void what was known of the former ones.
"""

from collections import deque
from typing import NamedTuple

from weir.subjects import PARTITIONS

QUIET_SECONDS = 5.0
CLOCK_SECONDS = 60.0
MAX_MARKS = 128


class _Mark(NamedTuple):
    """Something in Kafka that is not counted yet."""

    offset: int
    """Of its envelope."""
    oldest: float
    """Time of the oldest event in it."""


class _Partition:
    def __init__(self) -> None:
        self.waiting: float | None = None  # time of the oldest event that is appended and not delivered
        self.appended = 0.0  # time of the newest event appended
        self.marks: deque[_Mark] = deque()
        self.offset = -1  # of the newest envelope delivered
        self.next_offset = 0
        self.echoed: float | None = None  # when the last echo came

    def oldest(self) -> float | None:
        """Time of the oldest event that is not counted."""
        if self.marks:
            return self.marks[0].oldest
        return self.waiting


class Freshness:
    """Of one agent; used from one thread."""

    def __init__(self) -> None:
        self._partitions = [_Partition() for _ in range(PARTITIONS)]
        self._offsets: deque[tuple[float, float]] = deque()  # (received, clock offset), both rising

    def appended(self, partition: int, time: float) -> None:
        """An event of that time, with a tally for `partition`, is on its way."""
        known = self._partitions[partition]
        known.appended = max(known.appended, time)
        if known.waiting is None:
            known.waiting = time

    def delivered(self, partition: int, offset: int, time: float) -> None:
        """Kafka has all our events for `partition` up to `time`; the last envelope lies at `offset`."""
        known = self._partitions[partition]
        oldest = time if known.waiting is None else min(known.waiting, time)
        known.waiting = time if known.appended > time else None
        known.appended = max(known.appended, time)
        if offset <= known.offset:  # the topic was made anew
            known.marks.clear()
            known.next_offset = 0
        known.offset = offset
        if offset >= known.next_offset:
            if len(known.marks) >= MAX_MARKS:
                known.marks = _thinned(known.marks)
            known.marks.append(_Mark(offset, oldest))

    def echo(self, partition: int, next_offset: int, broker_time: float, received: float) -> None:
        """The streams have counted `partition` up to before `next_offset`; `broker_time` is by the broker's clock."""
        known = self._partitions[partition]
        known.echoed = received
        known.next_offset = next_offset
        while known.marks and known.marks[0].offset < next_offset:
            known.marks.popleft()
        offset = received - broker_time
        while self._offsets and self._offsets[-1][1] >= offset:
            self._offsets.pop()
        self._offsets.append((received, offset))
        while self._offsets[0][0] < received - CLOCK_SECONDS:
            self._offsets.popleft()

    def age(self, now: float) -> float:
        """Seconds, of the worst partition; -1 until each partition had an echo."""
        worst = 0.0
        for known in self._partitions:
            if known.echoed is None:
                return -1.0
            oldest = known.oldest()
            worst = max(worst, now - (known.echoed if oldest is None else oldest))
        return worst

    def quiet(self, now: float) -> list[int]:
        """Partitions for which nothing was sent for QUIET_SECONDS."""
        return [number for number, known in enumerate(self._partitions) if now - known.appended >= QUIET_SECONDS]

    @property
    def clock_offset(self) -> float:
        """Seconds that this host's clock is ahead of the broker's; 0 until known."""
        return self._offsets[0][1] if self._offsets else 0.0


def _thinned(marks: deque[_Mark]) -> deque[_Mark]:
    """Every two as one: counted when the later is, and as old as the earlier."""
    return deque(_Mark(marks[i + 1].offset, marks[i].oldest) for i in range(0, len(marks) - 1, 2))
