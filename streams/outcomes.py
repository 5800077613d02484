"""Outcomes: what the mail log told of each account, client and local user, in buckets of five minutes.

    sent, deferred, bounced_* and rejected mail; logins and failed logins: the names of `weir.tallies.RESULTS`

Invariants
- A result counts in the bucket of its own time, which for mail is its submission's: a late bounce lies where its mail
  does. So the sums are the same in whatever order they come: a bucket at least RING older than the newest is left out,
  whenever it arrives.
- What was before the subject's newest release (`after`) is forgotten and never counted again.
- Pure: the clock comes in as a value.
"""

from streams import records
from streams.shelf import Shelf
from weir import subjects
from weir.operators import Operators
from weir.tallies import RESULTS, Tally

BUCKET_SECONDS = 300
RING = 25 * 3600 // BUCKET_SECONDS + 2
"""Buckets. All of the last 25 hours, beside one that is begun and one that is a minute ahead."""

_RESULTS = frozenset(RESULTS)


def bucket_of(time: float) -> int:
    """The bucket that holds a time in Unix seconds."""
    return int(time) // BUCKET_SECONDS


class OutcomeWindow:
    """What the mail log told of one subject."""

    __slots__ = ("after", "counts", "newest")

    def __init__(self) -> None:
        self.counts: dict[str, dict[int, int]] = {}
        """Result → bucket → how often, without zeros."""
        self.newest = 0
        """The newest bucket, 0 if there is none."""
        self.after = 0.0
        """Time of the newest release."""

    @property
    def ends(self) -> float:
        """When all that was counted is too old, Unix seconds."""
        return _ends(self.newest)

    @property
    def newest_end(self) -> float:
        return float((self.newest + 1) * BUCKET_SECONDS)

    def count(self, time: float, result: str, number: int) -> bool:
        """Count what happened at `time`; False if that is too old, or lies before the release."""
        bucket = bucket_of(time)
        if bucket <= self.newest - RING or bucket * BUCKET_SECONDS < self.after:
            return False
        if bucket > self.newest:
            self.newest = bucket
            self._forget(bucket - RING + 1)
        counts = self.counts.setdefault(result, {})
        counts[bucket] = counts.get(bucket, 0) + number
        return True

    def release(self, time: float) -> None:
        """Forget all buckets that begin before `time`."""
        self.after = time
        self._forget(-int(-time // BUCKET_SECONDS))
        self.newest = max((max(counts) for counts in self.counts.values()), default=0)

    def encode(self) -> bytes:
        """The record of the changelog."""
        return records.encode_outcome(
            records.OutcomeRecord(records.OUTCOME_VERSION, self.newest, self.counts, self.after)
        )

    def _forget(self, oldest: int) -> None:
        """Forget the buckets before `oldest`."""
        kept = {
            result: {bucket: number for bucket, number in counts.items() if bucket >= oldest}
            for result, counts in self.counts.items()
        }
        self.counts = {result: counts for result, counts in kept.items() if counts}


def decode(value: bytes) -> OutcomeWindow:
    """The window of a record. Raises ValueError for what is none of a version that we know."""
    record = records.decode_outcome(value)
    window = OutcomeWindow()
    window.counts, window.newest, window.after = record.counts, record.newest, record.after
    return window


class OutcomeWindows(Shelf[OutcomeWindow]):
    """The outcomes of all subjects in one partition."""

    def __init__(self, number: int, operators: Operators) -> None:
        super().__init__(decode, lambda raw: _ends(records.decode_outcome_head(raw).newest))
        self._number = number
        self._operators = operators

    def accepts(self, tally: Tally) -> bool:
        """Whether this result is one that we know, of a subject that has outcomes here."""
        subject = tally.subject
        return (
            tally.result in _RESULTS
            and (subjects.is_account(subject) or subjects.is_client(subject) or subjects.is_uid(subject))
            and subjects.partition(subject) == self._number
        )

    def count(self, tally: Tally) -> bool:
        """Count a tally that is accepted; False if it is too old, or lies before a release.

        Raises ValueError for a changelog's record that makes no sense.
        """
        subject = tally.subject
        window = self.get(subject, OutcomeWindow)
        released = self._operators.released(subject)
        if released > window.after:
            window.release(released)
            self.changed.add(subject)
        if not window.count(tally.time, tally.result, tally.results):
            return False
        self.changed.add(subject)
        return True


def _ends(newest: int) -> float:
    return float((newest + RING) * BUCKET_SECONDS)
