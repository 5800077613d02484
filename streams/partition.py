"""All that a worker holds for one partition of weir.tallies: windows, hosts, next offset, and what is not yet written.

Invariants
- An event counts once: the record of its (host, epoch) holds the last seq counted, and all tallies of one seq are
  judged by the record as it stood before that seq. Records and windows are written in the same transaction.
- What cannot be understood in weir.tallies is a dead letter; what cannot be understood in weir.windows raises
  `BrokenChangelogError`: the partition must stop as it is, nothing more may be counted or written.
- A window is bytes until it is touched and when it was not touched for a while, an object in between: never both.
- Pure: the clock comes in as a value.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streams import changelog, records, windows
from streams.changelog import Batch, Host, NextOffset
from streams.decide import Judge
from streams.limits import LimitWindows
from streams.outcomes import OutcomeWindows
from streams.windows import Window
from weir import dead_letters, decisions, envelopes, limits, subjects, tallies, topics
from weir.decisions import Decision
from weir.envelopes import Head
from weir.tallies import Tally

FUTURE_SECONDS = 60
PAST_SECONDS = 25 * 3600
HOST_SECONDS = 26 * 3600
"""The record of a host's epoch goes this long after its newest event: an older one would not be counted anyway."""
ACTIVE_SECONDS = 3600
QUIET_SECONDS = 120
"""A window becomes bytes when it was not touched for this long."""

_WINDOW = changelog.window_key("")
_LIMIT = changelog.limit_key("")
_OUTCOME = changelog.outcome_key("")


class BrokenChangelogError(Exception):
    """A record of the changelog that makes no sense."""


@dataclass
class Totals:
    """What one worker has met since its start."""

    envelopes: int = 0
    tallies: int = 0
    repeats: int = 0
    """Tallies of events that were counted before."""
    untimely: int = 0
    """Tallies too far in the future or the past for a window."""
    left_out: int = 0
    """Tallies of limits and of the mail log for whose window there was no room."""
    results: Counter[str] = field(default_factory=Counter)
    """Of the mail log, by their names, for each subject that they count for."""
    dead: int = 0
    alternating: int = 0
    """Envelopes of an epoch that had been followed by another of the same host: two machines with one name."""
    alternating_hosts: set[str] = field(default_factory=set)
    foreign_keys: int = 0
    """Records of weir.windows under a key that is none of ours."""


class Partition:
    def __init__(self, number: int, judge: Judge, totals: Totals, next_offset: int = 0) -> None:
        self.number = number
        self.next = next_offset
        """Offset of the next envelope to count."""
        self.written = next_offset
        """All below is counted and committed."""
        self.accounts = 0
        """Accounts with a window."""
        self.active_accounts = 0
        """Accounts that sent in the last hour, as of the last sweep and not fewer."""
        self.limits = LimitWindows(number, judge.operators, judge.default_realm)
        self.outcomes = OutcomeWindows(number, judge.operators)
        self._judge = judge
        self._totals = totals
        self._windows: dict[str, Window] = {}
        self._raw: dict[str, bytes] = {}
        self._hosts: dict[tuple[str, str], Host] = {}
        self._epochs: dict[str, str] = {}
        """Host → the epoch that advanced last."""
        self._followed: set[tuple[str, str]] = set()
        """Hosts' epochs that were followed by another."""
        self._changed: set[str] = set()
        self._changed_hosts: set[tuple[str, str]] = set()
        self._decisions: dict[str, Decision] = {}
        """Subject → the last decision not yet written: one that moved on before anybody heard of it is not told."""
        self._dead: list[tuple[bytes, bytes]] = []
        self._to_sweep: list[str] = []
        self._active_seen = 0

    @property
    def has_decisions(self) -> bool:
        return bool(self._decisions)

    @property
    def is_written(self) -> bool:
        """Whether there is nothing to write."""
        is_changed = self._changed or self._changed_hosts or self.limits.changed or self.outcomes.changed
        return not is_changed and not self._dead and self.written == self.next

    def restore(self, changes: Iterable[tuple[bytes, bytes | None]], now: float) -> None:
        """Take in the records of the changelog, in their order. Raises BrokenChangelogError."""
        others: dict[bytes, bytes | None] = {}
        raw = self._raw
        key = b""
        try:
            for key, value in changes:
                if key.startswith(_LIMIT):
                    self.limits.restore(key[2:].decode(), value)
                elif key.startswith(_OUTCOME):
                    self.outcomes.restore(key[2:].decode(), value)
                elif not key.startswith(_WINDOW):
                    others[key] = value
                elif value is None:
                    raw.pop(key[2:].decode(), None)
                else:
                    raw[key[2:].decode()] = value
            for key, value in others.items():
                if value is not None:
                    self._restore(key, value)
            active = windows.bucket_of(now - ACTIVE_SECONDS)
            for subject, value in raw.items():
                key = changelog.window_key(subject)
                self._opened(subject, records.decode_head(value).newest >= active)
        except ValueError as error:
            raise BrokenChangelogError(f"{key!r}: {error}") from error

    def count(self, offset: int, value: bytes | None, now: float) -> None:
        """Count the envelope at `offset`.

        Raises BrokenChangelogError, and then nothing may be counted or written any more.
        """
        self.next = offset + 1
        self._totals.envelopes += 1
        try:
            head, lines = envelopes.decode(value or b"", tallies.decoder)
            fresh = self._fresh(head, lines)
        except envelopes.UNREADABLE as error:
            self._bury(offset, value, str(error))
            return
        if not fresh:
            return
        self._totals.tallies += len(fresh)
        foreign = [tally.subject for tally in fresh if not self._count(tally, head.host, now)]
        self._advance((head.host, head.epoch), fresh, now)
        if foreign:
            self._bury(
                offset,
                value,
                f"expected subjects of partition {self.number}, limits in range and known results, got {foreign[0]!r}",
            )

    def release(self, subject: str, time: float) -> None:
        """Apply an operator's release of a subject. Raises BrokenChangelogError."""
        if subjects.partition(subject) != self.number:
            return  # limits and outcomes look for releases whenever they count
        window = self._windows.get(subject)
        if window is None:
            if subject not in self._raw:
                return  # whoever opens the window will look for releases
            window = self._window(subject)
        if window is not None and window.after < time:
            window.release(time)
            self._changed.add(subject)

    def snapshot(self) -> Batch:
        """What is to be written in one transaction, with all that follows from the envelopes counted so far."""
        written = [(changelog.window_key(subject), self._encoded(subject)) for subject in self._changed]
        written += [(changelog.limit_key(subject), value) for subject, value in self.limits.take_changed()]
        written += [(changelog.outcome_key(subject), value) for subject, value in self.outcomes.take_changed()]
        for identity in self._changed_hosts:
            host = self._hosts.get(identity)
            written.append((changelog.host_key(*identity), changelog.encode(host) if host else None))
        written.append((changelog.NEXT_OFFSET, changelog.encode(NextOffset(changelog.VERSION, self.next))))
        ended = [decisions.key(limits.CAUSE, subject) for subject in self.limits.over]
        batch = Batch(written, list(self._decisions.values()), self._dead, self.next, ended)
        self._changed = set()
        self._changed_hosts = set()
        self.limits.over = set()
        self._decisions = {}
        self._dead = []
        return batch

    def sweep(self, now: float, limit: int) -> None:
        """Look at up to `limit` windows of each kind: idle ones go, quiet ones become bytes."""
        self.limits.sweep(now, limit)
        self.outcomes.sweep(now, limit)
        if not self._to_sweep:
            self.active_accounts = self._active_seen
            self._active_seen = 0
            self._to_sweep = [*self._windows, *self._raw]
            self._sweep_hosts(now)
        for subject in self._to_sweep[-limit:]:
            self._sweep_subject(subject, now)
        del self._to_sweep[-limit:]

    def _fresh(self, head: Head, lines: list[Tally]) -> list[Tally]:
        """The tallies of events that were not counted yet. Raises ValueError if their seqs are out of order."""
        seqs = [tally.seq for tally in lines]
        if seqs != sorted(seqs):
            raise ValueError("expected seqs that do not fall")
        host = self._hosts.get((head.host, head.epoch))
        repeats = bisect_right(seqs, host.seq) if host is not None else 0
        self._totals.repeats += repeats
        return lines[repeats:] if repeats else lines

    def _count(self, tally: Tally, host: str, now: float) -> bool:
        """Count one tally; returns False for what is not counted here: a subject of another partition, or a limit or a
        result that we do not know."""
        if not (tally.messages or tally.recipients):
            return self._count_other(tally, host, now)
        time = tally.time
        if not now - PAST_SECONDS <= time <= now + FUTURE_SECONDS:
            self._totals.untimely += 1
            return True
        subject = tally.subject
        window = self._windows.get(subject) or self._window(subject)
        if window is None:
            return False
        bucket = int(time) // windows.BUCKET_SECONDS
        index = window.count(bucket, tally.messages, tally.recipients, host, tally.beside)
        if index < 0:
            self._totals.untimely += 1
            return True
        self._changed.add(subject)
        if window.may_cross(index):
            decision = self._judge.judge(subject, window, index, time, now)
            if decision is not None:
                self._decisions[subject] = decision
        return True

    def _count_other(self, tally: Tally, host: str, now: float) -> bool:
        """Count what is no mail sent: what a limit counted, or what the mail log told."""
        if not (tally.increment or tally.results):
            return True
        is_limit = tally.increment > 0
        shelf = self.limits if is_limit else self.outcomes
        if not shelf.accepts(tally):
            return False
        if not now - PAST_SECONDS <= tally.time <= now + FUTURE_SECONDS:
            self._totals.untimely += 1
            return True
        if not shelf.has_room(tally.subject):
            self._totals.left_out += 1
            return True
        try:
            if is_limit:
                self._count_limit(tally, host, now)
            else:
                self._count_outcome(tally)
        except ValueError as error:
            raise BrokenChangelogError(f"window of {tally.subject}: {error}") from error
        return True

    def _count_limit(self, tally: Tally, host: str, now: float) -> None:
        decision = self.limits.count(tally, host, now)
        if decision is not None:
            self._decisions[tally.subject] = decision

    def _count_outcome(self, tally: Tally) -> None:
        if self.outcomes.count(tally):
            self._totals.results[tally.result] += tally.results
        else:
            self._totals.untimely += 1

    def _restore(self, key: bytes, value: bytes) -> None:
        """Take in a record that is no window."""
        if key == changelog.NEXT_OFFSET:
            self.next = self.written = changelog.decode_next(value).offset
        elif key.startswith(b"h:"):
            host, _, epoch = key[2:].decode().rpartition(":")
            self._hosts[host, epoch] = changelog.decode_host(value)
        else:
            self._totals.foreign_keys += 1

    def _opened(self, subject: str, is_active: bool) -> None:
        if subjects.is_account(subject):
            self.accounts += 1
            self.active_accounts += is_active

    def _window(self, subject: str) -> Window | None:
        """The window of a subject that was not touched yet, or None for a subject that has none here."""
        raw = self._raw.pop(subject, None)
        limits = self._judge.detector.limits(subject)
        if raw is not None:
            try:
                window = windows.decode(raw, limits)
            except ValueError as error:
                raise BrokenChangelogError(f"window of {subject}: {error}") from error
        elif subjects.partition(subject) != self.number:
            return None
        else:
            window = Window(limits)
            self._opened(subject, True)
        released = self._judge.operators.released(subject)
        if released > window.after:
            window.release(released)
        self._windows[subject] = window
        return window

    def _advance(self, identity: tuple[str, str], counted: list[Tally], now: float) -> None:
        """Move the record of a host's epoch over the tallies that were counted."""
        former = self._hosts.get(identity)
        newest = min(max(tally.time for tally in counted), now + FUTURE_SECONDS)
        if former is not None and former.newest > newest:
            newest = former.newest
        self._hosts[identity] = Host(changelog.VERSION, counted[-1].seq, newest)
        self._changed_hosts.add(identity)
        name, epoch = identity
        last = self._epochs.get(name)
        if last == epoch:
            return
        self._epochs[name] = epoch
        if last is not None:
            self._followed.add((name, last))
        if identity in self._followed:
            self._totals.alternating += 1
            self._totals.alternating_hosts.add(name)

    def _bury(self, offset: int, value: bytes | None, error: str) -> None:
        origin = (topics.TALLIES, self.number, offset)
        self._dead.append((dead_letters.key(origin), dead_letters.encode(origin, None, value, error, "streams")))
        self._totals.dead += 1

    def _encoded(self, subject: str) -> bytes | None:
        window = self._windows.get(subject)
        return window.encode() if window is not None else self._raw.get(subject)

    def _sweep_subject(self, subject: str, now: float) -> None:
        window = self._windows.get(subject)
        if window is not None:
            newest, until = window.newest, window.until
        elif (raw := self._raw.get(subject)) is not None:
            head = records.decode_head(raw)  # it was looked at when it was restored
            newest, until = head.newest, head.until
        else:
            return
        if newest <= windows.bucket_of(now) - windows.RING and until <= now:
            self._raw.pop(subject, None)
            self._windows.pop(subject, None)
            self._changed.add(subject)
            self.accounts -= subjects.is_account(subject)
            return
        if subjects.is_account(subject) and newest >= windows.bucket_of(now - ACTIVE_SECONDS):
            self._active_seen += 1
        quiet = newest < windows.bucket_of(now - QUIET_SECONDS)
        if window is not None and quiet and subject not in self._changed:
            self._raw[subject] = window.encode()
            del self._windows[subject]

    def _sweep_hosts(self, now: float) -> None:
        for identity, host in list(self._hosts.items()):
            if host.newest < now - HOST_SECONDS:
                del self._hosts[identity]
                self._changed_hosts.add(identity)
                self._followed.discard(identity)
