"""Decisions and operators' words as rows of the history.

Invariants: as of `sinks.rows`.
"""

from datetime import UTC, date, datetime

from sinks.rows import MOST, Row, milliseconds
from weir.decisions import Decision
from weir.operators import EVERYTHING, Word

DECISION = (
    *("day", "id", "change", "subject", "cause", "action", "since", "until", "after", "decided"),
    *("shadow", "why_shadow", "who", "counter", "count", "threshold", "seconds", "crossed", "hosts", "beside"),
)
WORD = ("day", "time", "subject", "word", "id", "who", "reason", "until", "action")


def decision(record: Decision) -> Row:
    evidence = record.evidence
    since = milliseconds(record.since)
    return (
        _day(since),
        record.id,
        min(max(record.change, 0), MOST),
        record.subject,
        record.cause,
        record.action,
        since,
        milliseconds(record.until),
        milliseconds(record.after),
        milliseconds(record.decided),
        int(record.shadow),
        record.why_shadow,
        record.who,
        evidence.counter,
        _number(evidence.count),
        _number(evidence.threshold),
        min(max(evidence.seconds, 0), MOST),
        milliseconds(evidence.time),
        evidence.hosts,
        evidence.beside,
    )


def word(record: Word, time: float) -> Row:
    """An operator's word; `time` is the broker's, Unix seconds."""
    said = milliseconds(time)
    return (
        _day(said),
        said,
        record.subject,
        record.word,
        record.id,
        record.who,
        record.reason,
        milliseconds(record.until),
        record.action,
    )


def ended(subject: str, time: float, who: str, offset: int) -> Row:
    """The end of an operator's standing word (of a pause, the subject is `*`): a record without a value."""
    said = milliseconds(time)
    verb = "resume" if subject == EVERYTHING else "end"
    return (_day(said), said, subject, verb, f"{offset}@{said}", who, "", 0, "")


def _number(count: int) -> int:
    return min(max(count, 0), 2**62)


def _day(milliseconds: int) -> date:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()
