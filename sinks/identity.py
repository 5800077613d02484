"""Which events of a batch are new to the history: an event is known by (host, epoch, seq), never by its offset.

Invariants: an event that is told to be new is not in the history, as long as nobody else writes that host; after
`forget`, and for an epoch not seen before, the history itself is asked about each event up to the greatest seq that it
holds of the epoch. Never by that seq alone: a batch over midnight lies in two partitions, and one of them may have been
stored without the other.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sinks.rows import MINUTE, SEQ, Events, Row
from sinks.store import Store, quoted

_AT_ONCE = 200
"""Epochs in one question: its text has a bound, 256 KiB by ClickHouse's default."""
_CLOCK_STEP = 86400
"""Seconds that a later event may lie before an earlier one, by a clock that was set."""

Epoch = tuple[str, str]
"""Host and epoch."""


class Division(NamedTuple):
    new: list[Row]
    unsure: dict[Epoch, list[Row]]
    """Rows that the history may hold: ask it."""
    unknown: set[Epoch]
    """Of these nothing is known yet."""


class Answer(NamedTuple):
    missing: list[Row]
    """The unsure rows that the history does not hold."""
    greatest: dict[Epoch, int]
    """The greatest seq that it holds of each unknown epoch."""


class Identity:
    def __init__(self) -> None:
        self._last: dict[Epoch, int] = {}
        """The last seq of each epoch that we know to be stored with all before it that Kafka brought."""
        self._doubtful: dict[Epoch, int] = {}
        """Up to this seq somebody before us may have stored one or the other."""

    def forget(self) -> None:
        """Trust nothing: another may have written, or an insert may have been lost."""
        self._last.clear()
        self._doubtful.clear()

    def divide(self, batch: Iterable[Events]) -> Division:
        """What of the batch is new, each event once, and what is not known to be."""
        new: list[Row] = []
        unsure: dict[Epoch, dict[int, Row]] = {}
        unknown: set[Epoch] = set()
        reached = dict[Epoch, int]()
        for events in batch:
            epoch = events.head.host, events.head.epoch
            last = reached.get(epoch, self._last.get(epoch))
            if last is None or events.again:
                unsure.setdefault(epoch, {}).update((row[SEQ], row) for row in events.rows)
                if last is None:
                    unknown.add(epoch)
                continue
            doubtful = self._doubtful.get(epoch, -1)
            if events.rows[0][SEQ] > max(last, doubtful):
                new += events.rows
                reached[epoch] = events.rows[-1][SEQ]
                continue
            for row in events.rows:
                seq = row[SEQ]
                if seq > last:
                    last = seq
                    if seq > doubtful:
                        new.append(row)
                    else:
                        unsure.setdefault(epoch, {})[seq] = row
            reached[epoch] = last
        return Division(new, {epoch: list(rows.values()) for epoch, rows in unsure.items()}, unknown)

    def stored(self, batch: Iterable[Events], greatest: dict[Epoch, int]) -> None:
        """All of the batch is in the history now; `greatest` is what it said of epochs unknown till then."""
        self._doubtful.update(greatest)
        for events in batch:
            if events.rows:
                epoch = events.head.host, events.head.epoch
                self._last[epoch] = max(self._last.get(epoch, 0), events.rows[-1][SEQ])


def ask(store: Store, division: Division) -> Answer:
    """Ask the history about what is unsure. Raises StoreError."""
    missing: list[Row] = []
    greatest: dict[Epoch, int] = {}
    epochs = list(division.unsure)
    for start in range(0, len(epochs), _AT_ONCE):
        some = {epoch: division.unsure[epoch] for epoch in epochs[start : start + _AT_ONCE]}
        present = {tuple(row) for row in store.query(_which(some))}
        missing += [row for epoch, rows in some.items() for row in rows if (*epoch, row[SEQ]) not in present]
        if unknown := division.unknown & some.keys():
            since = min(row[MINUTE] for epoch in unknown for row in some[epoch])
            greatest.update({(host, epoch): seq for host, epoch, seq in store.query(_greatest(unknown, since))})
    return Answer(missing, greatest)


def _which(rows_of: dict[Epoch, list[Row]]) -> str:
    minutes = [row[MINUTE] for rows in rows_of.values() for row in rows]
    ranges = " OR ".join(
        f"(host = {quoted(host)} AND epoch = {quoted(epoch)} "
        f"AND seq BETWEEN {min(row[SEQ] for row in rows)} AND {max(row[SEQ] for row in rows)})"
        for (host, epoch), rows in rows_of.items()
    )
    return (
        "SELECT host, epoch, seq FROM events "  # noqa: S608 (numbers, and texts in quotes)
        f"WHERE minute BETWEEN toDateTime({min(minutes)}, 'UTC') AND toDateTime({max(minutes)}, 'UTC') AND ({ranges})"
    )


def _greatest(epochs: Iterable[Epoch], since: int) -> str:
    names = ", ".join(f"({quoted(host)}, {quoted(epoch)})" for host, epoch in sorted(epochs))
    return (
        "SELECT host, epoch, max(seq) FROM events "  # noqa: S608 (numbers, and texts in quotes)
        f"WHERE minute >= toDateTime({max(since - _CLOCK_STEP, 0)}, 'UTC') AND (host, epoch) IN ({names}) "
        "GROUP BY host, epoch"
    )
