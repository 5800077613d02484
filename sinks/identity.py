"""Which events of a batch are new to the history: an event is known by (host, epoch, seq), never by its offset.

Invariants: an event that is told to be new is not in the history, as long as nobody else writes that host; after
`forget`, and for an epoch not seen before, the history itself is asked about each event up to the greatest seq that it
holds of the epoch. Never by that seq alone: a batch over midnight lies in two partitions, and one of them may have been
stored without the other.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sinks.rows import Events
from sinks.store import Store, quoted

_AT_ONCE = 200
"""Epochs in one question: its text has a bound, 256 KiB by ClickHouse's default."""
_CLOCK_STEP = 86400
"""Seconds that a later event may lie before an earlier one, by a clock that was set."""

Epoch = tuple[str, str]
"""Host and epoch."""


class Division(NamedTuple):
    new: list[Events]
    unsure: dict[Epoch, list[Events]]
    """What the history may hold: ask it."""
    unknown: set[Epoch]
    """Of these nothing is known yet."""


class Answer(NamedTuple):
    missing: list[Events]
    """What is unsure and not in the history."""
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
        new: list[Events] = []
        unsure: defaultdict[Epoch, list[Events]] = defaultdict(list)
        unknown: set[Epoch] = set()
        asked: set[tuple[Epoch, int]] = set()
        reached = dict[Epoch, int]()
        for events in batch:
            epoch, seqs = events.epoch, events.seqs
            last = reached.get(epoch, self._last.get(epoch))
            places: Sequence[int]
            if last is None or events.again:
                fresh = {seq for one in new if one.epoch == epoch for seq in one.seqs} if events.again else set()
                places = [place for place, seq in enumerate(seqs) if (epoch, seq) not in asked and seq not in fresh]
                if last is None:
                    unknown.add(epoch)
            else:
                begin = bisect_right(seqs, last)
                sure = bisect_right(seqs, max(last, self._doubtful.get(epoch, -1)))
                places = range(begin, sure)
                if sure < len(seqs):
                    new.append(events.only(range(sure, len(seqs))))
                reached[epoch] = max(last, seqs[-1])
            if places:
                unsure[epoch].append(events.only(places))
                asked.update((epoch, seqs[place]) for place in places)
        return Division(new, dict(unsure), unknown)

    def stored(self, batch: Iterable[Events], greatest: dict[Epoch, int]) -> None:
        """All of the batch is in the history now; `greatest` is what it said of epochs unknown till then."""
        self._doubtful.update(greatest)
        for events in batch:
            self._last[events.epoch] = max(self._last.get(events.epoch, 0), events.seqs[-1])


def ask(store: Store, division: Division) -> Answer:
    """Ask the history about what is unsure. Raises StoreError."""
    missing: list[Events] = []
    greatest: dict[Epoch, int] = {}
    epochs = list(division.unsure)
    for start in range(0, len(epochs), _AT_ONCE):
        some = {epoch: division.unsure[epoch] for epoch in epochs[start : start + _AT_ONCE]}
        present = {tuple(row) for row in store.query(_which(some))}
        for epoch, pieces in some.items():
            for events in pieces:
                places = [place for place, seq in enumerate(events.seqs) if (*epoch, seq) not in present]
                if places:
                    missing.append(events.only(places))
        if unknown := division.unknown & some.keys():
            since = min(min(events.columns["minute"]) for epoch in unknown for events in some[epoch])
            greatest.update({(host, epoch): seq for host, epoch, seq in store.query(_greatest(unknown, since))})
    return Answer(missing, greatest)


def _which(asked: dict[Epoch, list[Events]]) -> str:
    minutes = [minute for pieces in asked.values() for events in pieces for minute in events.columns["minute"]]
    ranges = " OR ".join(
        f"(host = {quoted(host)} AND epoch = {quoted(epoch)} AND seq BETWEEN "
        f"{min(events.seqs[0] for events in pieces)} AND {max(events.seqs[-1] for events in pieces)})"
        for (host, epoch), pieces in asked.items()
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
