"""Roll-ups: sums for each minute and for each day, made anew from the events themselves whenever a minute is touched.

Invariants: a row's version is the number of events it covers, so of two sinks that made it the one that saw more wins;
making a row again does no harm; a minute whose events may be partly gone already is not touched.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from sinks.rows import MINUTE, SASL_USERNAME, Events
from sinks.store import Store, quoted

T = TypeVar("T")

_AT_ONCE = 500
"""Hosts and minutes, or accounts, in one statement: its text has a bound, 256 KiB by ClickHouse's default."""
_DAY = 86400
_SPARE_DAYS = 2
"""A minute is made anew only so long before its events go."""

_SUMS = "sum(messages), sum(recipients), sum(bytes), sum(attempted_messages), sum(attempted_recipients)"
_SUMMED = "messages, recipients, bytes, attempted_messages, attempted_recipients"


class Touched(NamedTuple):
    """What must be made anew."""

    minutes: set[tuple[int, str]]
    """Start of the minute, Unix seconds, and host."""
    days: set[tuple[int, str]]
    """Start of the day and account."""


def nothing() -> Touched:
    return Touched(set(), set())


def touch(touched: Touched, batch: Iterable[Events], keep_days: int, now: float) -> int:
    """Add what the batch touches, repeats too: an earlier sink may have died before its roll-ups.

    Returns how many events are too old for it.
    """
    oldest = now - (keep_days - _SPARE_DAYS) * _DAY
    late = 0
    for events in batch:
        host = events.head.host
        for row in events.rows:
            minute = row[MINUTE]
            if minute < oldest:
                late += 1
                continue
            touched.minutes.add((minute, host))
            if row[SASL_USERNAME]:
                touched.days.add((minute // _DAY * _DAY, row[SASL_USERNAME]))
    return late


def make(store: Store, touched: Touched) -> None:
    """Make the rows anew; the days from the minutes. Raises StoreError: then all is to be made again."""
    for some in _parts(sorted(touched.minutes)):
        store.run(_minutes(some))
    for day in sorted({day for day, _ in touched.days}):
        for accounts in _parts(sorted(account for start, account in touched.days if start == day)):
            store.run(_days(day, accounts))


def _parts(whole: Sequence[T]) -> Iterable[Sequence[T]]:
    return (whole[start : start + _AT_ONCE] for start in range(0, len(whole), _AT_ONCE))


def _minutes(touched: Sequence[tuple[int, str]]) -> str:
    first, last = touched[0][0], touched[-1][0]
    pairs = ", ".join(f"({minute}, {quoted(host)})" for minute, host in touched)
    return f"""
        INSERT INTO minutes (minute, sasl_username, client, host, events, {_SUMMED}, refused, blocked)
        SELECT minute, sasl_username, client, host, count(), {_SUMS}, sum(refused), countIf(refused AND decision != '')
        FROM events FINAL
        WHERE minute BETWEEN toDateTime({first}, 'UTC') AND toDateTime({last}, 'UTC')
            AND (toUInt32(minute), host) IN ({pairs}) AND kind = 'request'
        GROUP BY minute, sasl_username, client, host
    """  # noqa: S608 (numbers, and texts in quotes)


def _days(day: int, accounts: Sequence[str]) -> str:
    names = ", ".join(map(quoted, accounts))
    return f"""
        INSERT INTO days (day, sasl_username, events, {_SUMMED}, refused, blocked, clients, hosts)
        SELECT toDate(minute) AS day, sasl_username, sum(events), {_SUMS}, sum(refused), sum(blocked),
            uniqExact(client), uniqExact(host)
        FROM minutes FINAL
        WHERE minute >= toDateTime({day}, 'UTC') AND minute < toDateTime({day + _DAY}, 'UTC')
            AND sasl_username IN ({names})
        GROUP BY day, sasl_username
    """  # noqa: S608 (numbers, and texts in quotes)
