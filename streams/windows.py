"""Windows: how much a subject sent in each five seconds of the last two hours, and the sums of its minute and its hour.

Invariants
- Mail goes into the bucket of its own time, so sums and sets are the same in whatever order it comes: a bucket at least
  RING older than the newest is left out, whenever it arrives.
- A window ends with a bucket: the minute is that bucket and the 11 before it, the hour it and the 719 before it. The
  ring holds the hour and one hour more, for mail that comes late.
- What was before the subject's newest release (`after`) is forgotten and never counted again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from streams import records

BUCKET_SECONDS = 5
MINUTE = 60 // BUCKET_SECONDS
HOUR = 3600 // BUCKET_SECONDS
RING = 2 * HOUR
KEPT = 32
"""Hosts and subjects beside that are kept as evidence: the newest, ties by name."""


def bucket_of(time: float) -> int:
    """The bucket that holds a time in Unix seconds."""
    return int(time) // BUCKET_SECONDS


class Limits(NamedTuple):
    """What a subject may send; more is too much."""

    minute_messages: float
    minute_recipients: float
    hour_messages: float
    hour_recipients: float


class Sums(NamedTuple):
    """Sums of the windows that end with one bucket."""

    bucket: int
    minute_messages: int
    minute_recipients: int
    hour_messages: int
    hour_recipients: int


class _Sums:
    """Sums of the minute and the hour that end with one bucket, moved forward over a ring; a start is the index of the
    oldest bucket that is still in the window."""

    __slots__ = (
        "hour_messages",
        "hour_recipients",
        "hour_start",
        "minute_messages",
        "minute_recipients",
        "minute_start",
    )

    def __init__(self) -> None:
        self.minute_start = self.minute_messages = self.minute_recipients = 0
        self.hour_start = self.hour_messages = self.hour_recipients = 0

    def place(self, ring: "Window", end: int, bucket: int) -> None:
        """Sum up what the windows that end with `bucket` hold before index `end`."""
        self.minute_start = start = bisect_right(ring.buckets, bucket - MINUTE)
        self.minute_messages = sum(ring.messages[start:end])
        self.minute_recipients = sum(ring.recipients[start:end])
        self.hour_start = start = bisect_right(ring.buckets, bucket - HOUR)
        self.hour_messages = sum(ring.messages[start:end])
        self.hour_recipients = sum(ring.recipients[start:end])

    def move(self, ring: "Window", end: int, bucket: int) -> None:
        """Take out what is before index `end` and not in the windows that end with `bucket`."""
        buckets = ring.buckets
        start, oldest = self.minute_start, bucket - MINUTE
        while start < end and buckets[start] <= oldest:
            self.minute_messages -= ring.messages[start]
            self.minute_recipients -= ring.recipients[start]
            start += 1
        self.minute_start = start
        start, oldest = self.hour_start, bucket - HOUR
        while start < end and buckets[start] <= oldest:
            self.hour_messages -= ring.messages[start]
            self.hour_recipients -= ring.recipients[start]
            start += 1
        self.hour_start = start

    def add(self, messages: int, recipients: int) -> None:
        self.minute_messages += messages
        self.minute_recipients += recipients
        self.hour_messages += messages
        self.hour_recipients += recipients


class Window:
    """The state of one subject."""

    __slots__ = (
        "after",
        "beside",
        "buckets",
        "change",
        "floor",
        "hosts",
        "limits",
        "messages",
        "recipients",
        "since",
        "sums",
        "until",
        "why_shadow",
    )

    def __init__(self, limits: Limits | None = None) -> None:
        self.buckets: list[int] = []
        """Buckets with mail, rising; `messages` and `recipients` lie beside them."""
        self.messages: list[int] = []
        self.recipients: list[int] = []
        self.hosts: dict[str, int] = {}
        """Mail host → the newest bucket that it was seen in; so for `beside`."""
        self.beside: dict[str, int] = {}
        self.after = 0.0
        """Time of the newest release."""
        self.floor = 0
        """End of the block before the present one: what lies before it starts no block."""
        self.since = 0
        """The present or last block, in force while since <= time < until; Unix seconds."""
        self.until = 0
        self.change = 0
        self.why_shadow = ""
        self.limits = limits
        """None: never judged."""
        self.sums = _Sums()
        """Of the windows that end with the newest bucket; not in the record."""

    @property
    def newest(self) -> int:
        return self.buckets[-1] if self.buckets else 0

    def count(self, bucket: int, messages: int, recipients: int, host: str, beside: str) -> int:
        """Count mail in its bucket; returns the bucket's index, or -1 if it is too old to count."""
        buckets = self.buckets
        newest = buckets[-1] if buckets else -1
        if bucket < newest:
            return self._count_late(bucket, messages, recipients, host, beside)
        if bucket > newest:
            if bucket * BUCKET_SECONDS < self.after:
                return -1
            self._open(bucket)
        self.messages[-1] += messages
        self.recipients[-1] += recipients
        self.sums.add(messages, recipients)
        self.hosts[host] = bucket
        if beside:
            self.beside[beside] = bucket
        return len(buckets) - 1

    def may_cross(self, index: int) -> bool:
        """Whether mail just counted in the bucket at `index` can begin, move or change a block: it came late, or the
        newest windows hold more than they may and no block covers them (or one that is a shadow)."""
        limits = self.limits
        if limits is None:
            return False
        if index < len(self.buckets) - 1:
            return True
        sums = self.sums
        return (
            sums.minute_messages > limits.minute_messages
            or sums.minute_recipients > limits.minute_recipients
            or sums.hour_messages > limits.hour_messages
            or sums.hour_recipients > limits.hour_recipients
        ) and (self.buckets[-1] * BUCKET_SECONDS >= self.until or self.why_shadow != "")

    def sums_from(self, index: int) -> Iterator[Sums]:
        """Sums of the windows that end with the bucket at `index`, and with each later one that holds mail."""
        buckets = self.buckets
        sums = _Sums()
        sums.place(self, index, buckets[index])
        for end in range(index, len(buckets)):
            bucket = buckets[end]
            sums.move(self, end, bucket)
            sums.add(self.messages[end], self.recipients[end])
            yield Sums(bucket, sums.minute_messages, sums.minute_recipients, sums.hour_messages, sums.hour_recipients)

    def release(self, time: float) -> None:
        """Forget all buckets that begin before `time`, and the block that followed from them."""
        self.after = time
        self._drop(bisect_left(self.buckets, time / BUCKET_SECONDS))
        self.floor = self.since = self.until = self.change = 0
        self.why_shadow = ""
        self.sums.place(self, len(self.buckets), self.newest)

    def seen(self, values: dict[str, int], since_bucket: int) -> list[str]:
        """The newest of `hosts` or `beside` that were seen in a bucket or later, by name, at most KEPT."""
        return sorted(value for value, bucket in newest(values).items() if bucket >= since_bucket)

    def encode(self) -> bytes:
        """The record of the changelog."""
        self.hosts = newest(self.hosts)
        self.beside = newest(self.beside)
        return records.encode(
            records.Record(
                records.VERSION,
                self.newest,
                self.until,
                self.buckets,
                self.messages,
                self.recipients,
                self.hosts,
                self.beside,
                self.after,
                self.floor,
                self.since,
                self.change,
                self.why_shadow,
            )
        )

    def _open(self, bucket: int) -> None:
        """Begin a bucket newer than all; what leaves the windows or the ring by that goes."""
        buckets = self.buckets
        self.sums.move(self, len(buckets), bucket)
        oldest = bucket - RING
        if buckets and buckets[0] <= oldest:
            self._drop(bisect_right(buckets, oldest))
        buckets.append(bucket)
        self.messages.append(0)
        self.recipients.append(0)

    def _drop(self, number: int) -> None:
        """Drop the oldest buckets, which are in no window any more."""
        del self.buckets[:number], self.messages[:number], self.recipients[:number]
        self.sums.minute_start -= number
        self.sums.hour_start -= number

    def _count_late(self, bucket: int, messages: int, recipients: int, host: str, beside: str) -> int:
        if bucket <= self.buckets[-1] - RING or bucket * BUCKET_SECONDS < self.after:
            return -1
        index = bisect_left(self.buckets, bucket)
        if self.buckets[index] != bucket:
            self.buckets.insert(index, bucket)
            self.messages.insert(index, 0)
            self.recipients.insert(index, 0)
        self.messages[index] += messages
        self.recipients[index] += recipients
        self.hosts[host] = max(bucket, self.hosts.get(host, 0))
        if beside:
            self.beside[beside] = max(bucket, self.beside.get(beside, 0))
        self.sums.place(self, len(self.buckets), self.newest)
        return index


def newest(values: dict[str, int]) -> dict[str, int]:
    """The KEPT newest of name → bucket."""
    if len(values) <= KEPT:
        return values
    ranked = sorted(values.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return dict(ranked[:KEPT])


def decode(value: bytes, limits: Limits | None = None) -> Window:
    """The window of a record. Raises ValueError for what is none of a version that we know."""
    record = records.decode(value)
    window = Window(limits)
    window.buckets, window.messages, window.recipients = record.buckets, record.messages, record.recipients
    window.hosts, window.beside = record.hosts, record.beside
    window.after, window.floor = record.after, record.floor
    window.since, window.until = record.since, record.until
    window.change, window.why_shadow = record.change, record.why_shadow
    window.sums.place(window, len(window.buckets), window.newest)
    return window
