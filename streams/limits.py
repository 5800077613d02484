"""Limits over the fleet: what each limit of a rule has counted on all hosts, and until when it is exhausted.

    a bucket is a twelfth of the limit's seconds; its window is the present bucket and the 12 before it, so it holds all
    of the last `seconds`, and nothing older than 13 twelfths of them

    exhausted    the window's sum has reached the maximum; until enough of its oldest buckets have left it
    published    when a limit becomes exhausted, and whenever what was said of its end no longer holds
    removed      its decision, when the window is empty: so weir.decisions grows no longer than limits are counted

Invariants
- The sum that is judged at a time follows from the facts counted and that time alone, in whatever order they came.
- What was before the newest release of the limit, or of the account or client that it is keyed by, counts no more.
- A decision is in force while the window's sum as counted is at or above the maximum: no longer, and no shorter.
- Pure: the clock comes in as a value.
"""

from bisect import bisect_left

from streams import records
from streams.shelf import Shelf
from streams.windows import KEPT, newest
from weir import decisions, limits, subjects
from weir.decisions import Decision, Evidence
from weir.operators import Operators
from weir.tallies import Tally

BUCKETS = 13
"""Of a window, the present one and those before it."""


class LimitWindow:
    """What one limit has counted for one key. Buckets are numbered from the epoch, each `seconds` / 12 long."""

    __slots__ = ("after", "buckets", "change", "hosts", "maximum", "seconds", "since", "sums", "until", "what")

    def __init__(self, maximum: float, seconds: float, what: str) -> None:
        self.maximum = maximum
        self.seconds = seconds
        self.what = what
        self.buckets: list[int] = []
        """Rising; `sums` lies beside it."""
        self.sums: list[int] = []
        self.hosts: dict[str, int] = {}
        """Mail host → the newest bucket that it was seen in."""
        self.after = 0.0
        """Time of the newest release."""
        self.since = 0.0
        """The last decision: in force while since <= time < until."""
        self.until = 0.0
        self.change = 0

    def bucket_of(self, time: float) -> int:
        return int(time * 12 // self.seconds)

    def start_of(self, bucket: int) -> float:
        """Unix seconds."""
        return bucket * self.seconds / 12

    @property
    def empty_from(self) -> float:
        """When all that was counted has left the window, Unix seconds; 0 if it is empty."""
        return self.start_of(self.buckets[-1] + BUCKETS) if self.buckets else 0.0

    @property
    def ends(self) -> float:
        """When it is empty and nothing is decided any more, Unix seconds."""
        return max(self.empty_from, self.until)

    @property
    def newest_end(self) -> float:
        return self.start_of(self.buckets[-1] + 1) if self.buckets else 0.0

    def count(self, time: float, increment: int, host: str, now: float) -> bool:
        """Count what happened at `time`; False if that has left the window, or lies before the release."""
        self._leave(self.bucket_of(now) - BUCKETS)
        bucket = self.bucket_of(time)
        if bucket <= self.bucket_of(now) - BUCKETS or self.start_of(bucket) < self.after:
            return False
        index = bisect_left(self.buckets, bucket)
        if index == len(self.buckets) or self.buckets[index] != bucket:
            self.buckets.insert(index, bucket)
            self.sums.insert(index, 0)
        self.sums[index] += increment
        self.hosts[host] = max(bucket, self.hosts.get(host, 0))
        return True

    def exhausted_until(self) -> float:
        """When the window's sum is below the maximum again, Unix seconds; 0 if it is now."""
        total = sum(self.sums)
        until = 0.0
        for bucket, each in zip(self.buckets, self.sums, strict=True):
            if total < self.maximum:
                break
            total -= each
            until = self.start_of(bucket + BUCKETS)
        return until

    def sum_at(self, now: float) -> int:
        """What the window holds at a time that may be later than the last count."""
        first = self.bucket_of(now) - BUCKETS
        return sum(each for bucket, each in zip(self.buckets, self.sums, strict=True) if bucket > first)

    def release(self, time: float) -> None:
        """Forget all buckets that begin before `time`, and what was decided by them."""
        self.after = time
        self._leave(max((bucket for bucket in self.buckets if self.start_of(bucket) < time), default=-1))
        self.since = self.until = 0.0
        self.change = 0

    def _leave(self, last: int) -> None:
        """Drop the buckets up to this one."""
        if self.buckets and self.buckets[0] <= last:
            number = bisect_left(self.buckets, last + 1)
            del self.buckets[:number], self.sums[:number]

    def encode(self) -> bytes:
        """The record of the changelog."""
        self.hosts = newest(self.hosts)
        return records.encode_limit(
            records.LimitRecord(
                records.LIMIT_VERSION,
                self.empty_from,
                self.until,
                self.what,
                self.maximum,
                self.seconds,
                self.buckets,
                self.sums,
                self.hosts,
                self.after,
                self.since,
                self.change,
            )
        )


def decode(value: bytes) -> LimitWindow:
    """The window of a record. Raises ValueError for what is none of a version that we know."""
    record = records.decode_limit(value)
    window = LimitWindow(record.maximum, record.seconds, record.what)
    window.buckets, window.sums, window.hosts = record.buckets, record.sums, record.hosts
    window.after, window.since, window.until, window.change = record.after, record.since, record.until, record.change
    return window


class LimitWindows(Shelf[LimitWindow]):
    """The windows of all limits in one partition."""

    def __init__(self, number: int, operators: Operators, default_realm: str) -> None:
        super().__init__(decode, _ends)
        self.over: set[str] = set()
        """Subjects whose decision is to be removed."""
        self._number = number
        self._operators = operators
        self._default_realm = default_realm

    def accepts(self, tally: Tally) -> bool:
        """Whether this tally of a limit makes sense here."""
        return (
            subjects.is_limit(tally.subject)
            and tally.seconds >= limits.MIN_SECONDS
            and tally.maximum > 0
            and subjects.partition(tally.subject) == self._number
        )

    def count(self, tally: Tally, host: str, now: float) -> Decision | None:
        """Count a tally that is accepted and has room. Raises ValueError for a changelog's record without sense."""
        subject = tally.subject
        window = self.get(subject, lambda: LimitWindow(tally.maximum, tally.seconds, tally.what))
        owner = subjects.owner(subject, self._default_realm)
        released = max(self._operators.released(subject), self._operators.released(owner))
        if released > window.after:
            window.release(released)
            self.changed.add(subject)
        if not window.count(tally.time, tally.increment, host, now):
            return None
        self.changed.add(subject)
        until = window.exhausted_until()
        if until <= max(now, window.until) or self._operators.allow(owner, now):
            return None
        self.over.discard(subject)
        return _decision(subject, window, until, tally.time, now)

    def _sweep(self, subject: str, now: float) -> None:
        was_decided = self._was_decided(subject)
        super()._sweep(subject, now)
        if was_decided and subject not in self:
            self.over.add(subject)

    def _was_decided(self, subject: str) -> bool:
        window = self._windows.get(subject)
        if window is not None:
            return window.until > 0
        raw = self._raw.get(subject)
        return raw is not None and records.decode_limit_head(raw).until > 0


def _ends(raw: bytes) -> float:
    head = records.decode_limit_head(raw)
    return max(head.ends, head.until)


def _decision(subject: str, window: LimitWindow, until: float, time: float, now: float) -> Decision:
    """That the limit is exhausted until then; noted in the window."""
    if window.until <= now:
        window.since, window.change = window.start_of(window.bucket_of(now)), 0
    else:
        window.change += 1
    window.until = until
    return Decision(
        version=decisions.VERSION,
        id=decisions.decision_id(subject, limits.CAUSE, window.since),
        subject=subject,
        cause=limits.CAUSE,
        action="",
        evidence=Evidence(
            counter=window.what,
            count=sum(window.sums),
            threshold=int(window.maximum),
            seconds=int(window.seconds),
            time=time,
            hosts=sorted(newest(window.hosts))[:KEPT],
        ),
        since=window.since,
        until=until,
        after=window.after,
        change=window.change,
        decided=now,
    )
