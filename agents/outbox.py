"""The outbox: event lines of the spool on their way into envelopes. Pure: positions and times come as values.

Each partition that is written to is a destination with a buffer: the host's partition of weir.events (events verbatim),
the partitions of weir.tallies, and weir.status for heartbeats (there only the newest counts, so it is sent alone).

Invariants
- What one event has for one partition stands in one envelope; an envelope is of one epoch, and at most MAX_BYTES long.
- A destination gives its envelopes in the order of the events, and `first` of an envelope is where its oldest event
  line begins: whoever goes on from the smallest `first` that is not delivered yet sends nothing too little.
- A buffer that was sent nothing for FLUSH_SECONDS is due at once, another one that long after its last envelope.
"""

from collections import deque
from dataclasses import dataclass, field

from agents.segment import MAX_LINE
from agents.segments import Position
from weir import envelopes, status, subjects, tallies, topics
from weir.events import Event, Heartbeat

FLUSH_SECONDS = 0.020
TOGETHER_SECONDS = 0.002
"""What is due within that time leaves now: fewer wake-ups."""
_FULL_BYTES = envelopes.MAX_BYTES - MAX_LINE - 1024
"""An envelope of this size takes no further event, so that one event's records always fit."""

_never = float("-inf")
_nowhere = Position(0, 0)


@dataclass(slots=True, eq=False)
class Destination:
    """One partition and its buffer."""

    topic: str
    partition: int
    key: bytes | None = None
    newest_only: bool = False
    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    events: int = 0
    first: Position = _nowhere
    seq: int = 0
    """Of the last event that went in."""
    newest: float = 0.0
    """Time of that event."""
    flushed: float = _never
    in_flight: "deque[Envelope]" = field(default_factory=deque)
    """Sent and not acknowledged, oldest first; whoever sends keeps it."""
    confirmed: bool = False
    """The present producer had an acknowledgement from this partition."""


@dataclass(slots=True, eq=False)
class Envelope:
    """A message to send."""

    destination: Destination
    value: bytes
    first: Position
    newest: float
    """Time of its newest event, by the agent's clock."""
    events: int


class Outbox:
    """Buffers of all destinations of one host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._head = b""
        self._epoch = ""
        self.full: list[Envelope] = []
        """Envelopes that had to be closed before they were due; whoever sends them takes them out."""
        self._events = Destination(topics.EVENTS, subjects.partition(host), host.encode())
        self._tallies = [Destination(topics.TALLIES, number) for number in range(subjects.PARTITIONS)]
        self._status = Destination(topics.STATUS, 0, status.agent_key(host), newest_only=True)
        self.destinations = [self._events, *self._tallies, self._status]

    def begin(self, epoch: str) -> bool:
        """What follows is of this epoch; tells whether it is another one than before."""
        is_new = epoch != self._epoch
        if is_new:
            self.full += [self._close(destination) for destination in self.destinations if destination.lines]
            self._head, self._epoch = envelopes.head(self._host, epoch), epoch
            for destination in self.destinations:
                destination.seq = 0
        return is_new

    def add(self, line: bytes, event: Event, segment: int, offset: int) -> None:
        """Take one event; its line begins at that place of the spool."""
        counted = tallies.tallies(event)
        self._put(self._events, line, event, segment, offset)
        for tally in counted:
            destination = self._tallies[subjects.partition(tally.subject)]
            self._put(destination, tallies.encoder.encode(tally), event, segment, offset)
        if isinstance(event, Heartbeat):
            self._put(self._status, line, event, segment, offset)

    def due(self, now: float, everything: bool = False) -> list[Envelope]:
        """Envelopes to send at `now` (monotonic).

        A partition that has not confirmed the first envelope yet gets no second one: a broker takes whatever
        comes first from a new producer, even if what was before it failed, and so would leave a hole.
        """
        latest = now - FLUSH_SECONDS + TOGETHER_SECONDS
        return [
            self._close(destination, now)
            for destination in self.destinations
            if destination.lines
            and (destination.flushed <= latest or everything)
            and (destination.confirmed or not destination.in_flight)
        ]

    def next_due(self) -> float:
        """When (monotonic) the next envelope is due; infinity: none waits."""
        return min((d.flushed + FLUSH_SECONDS for d in self.destinations if d.lines), default=float("inf"))

    def oldest(self, end: Position) -> Position:
        """Where the oldest event begins that is not acknowledged in all its envelopes; `end` if there is none."""
        for destination in self.destinations:
            if destination.in_flight:
                end = min(end, destination.in_flight[0].first)
            elif destination.lines:
                end = min(end, destination.first)
        return end

    @property
    def blocked(self) -> bool:
        """A first envelope waits for its confirmation: nothing more is to be added."""
        return any(d.in_flight and not d.confirmed for d in self.destinations)

    def _put(self, destination: Destination, line: bytes, event: Event, segment: int, offset: int) -> None:
        seq = event.seq
        if destination.seq != seq:
            if destination.size > _FULL_BYTES:
                self.full.append(self._close(destination))
            destination.seq = seq
            destination.events += 1
        if not destination.lines:
            destination.first = Position(segment, offset)
        destination.lines.append(line)
        destination.size += len(line) + 1
        destination.newest = event.time

    def _close(self, destination: Destination, now: float | None = None) -> Envelope:
        lines = destination.lines
        value = lines[-1] if destination.newest_only else envelopes.encode(self._head, lines)
        envelope = Envelope(destination, value, destination.first, destination.newest, destination.events)
        destination.lines, destination.size, destination.events = [], 0, 0
        if now is not None:
            destination.flushed = now
        return envelope
