"""Roll-ups: sums made anew, from the events themselves, of whatever a batch touches.

    events ─▶ minutes (minute, account, client, host) ─┬▶ host_minutes (minute, host)
                                                       ├▶ client_hours (hour, client)
                                                       └▶ account_hours (hour, account) ─▶ days (day, account)

Invariants: a row's version is the number of events it covers, so of two sinks that made it the one that saw more wins;
making a row again does no harm; a minute whose events may be partly gone already is not touched.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from sinks.rows import CLIENT, MINUTE, SASL_USERNAME, Events
from sinks.store import Store, in_parts

_HOUR, _DAY = 3600, 86400
_SPARE_DAYS = 2
"""A minute is made anew only so long before its events go."""

_SUMMED = "messages, recipients, bytes, attempted_messages, attempted_recipients"
_SUMS = "sum(messages), sum(recipients), sum(bytes), sum(attempted_messages), sum(attempted_recipients)"
_ALL_SUMS = f"sum(events), {_SUMS}, sum(refused), sum(blocked)"


class Touched(NamedTuple):
    """What must be made anew: by Unix time of its start, and name."""

    minutes: set[tuple[int, str]]
    """Of hosts."""
    account_hours: set[tuple[int, str]]
    client_hours: set[tuple[int, str]]


def nothing() -> Touched:
    return Touched(set(), set(), set())


def touch(touched: Touched, batch: Iterable[Events], keep_days: int, now: float) -> int:
    """Add what the batch touches, repeats too: an earlier sink may have died before its roll-ups.

    Returns how many events are too old for it, or more than a day ahead of us.
    """
    oldest, newest = now - (keep_days - _SPARE_DAYS) * _DAY, now + _DAY
    late = 0
    for events in batch:
        minutes = events.columns[MINUTE]
        accounts, clients = events.columns[SASL_USERNAME], events.columns[CLIENT]
        if min(minutes) < oldest or max(minutes) > newest:
            places = [place for place, minute in enumerate(minutes) if oldest <= minute <= newest]
            late += len(events) - len(places)
            minutes, accounts, clients = (
                [column[place] for place in places] for column in (minutes, accounts, clients)
            )
        hours = [minute // _HOUR * _HOUR for minute in minutes]
        touched.minutes.update((minute, events.head.host) for minute in set(minutes))
        touched.account_hours.update(zip(hours, accounts, strict=True))
        touched.client_hours.update(zip(hours, clients, strict=True))
    return late


def make(store: Store, touched: Touched) -> None:
    """Make the rows anew, each table after the one it is made from. Raises StoreError: then all is to be repeated."""
    for hour in sorted({minute // _HOUR * _HOUR for minute, _ in touched.minutes}):
        some = [(minute, host) for minute, host in touched.minutes if minute // _HOUR * _HOUR == hour]
        minutes = ", ".join(map(str, sorted({minute for minute, _ in some})))
        for _, hosts in _by_start({(hour, host) for _, host in some}):
            store.run(_minutes(hour, minutes, hosts))
            store.run(_host_minutes(hour, minutes, hosts))
    for hour, clients in _by_start(touched.client_hours):
        store.run(_client_hours(hour, clients))
    for hour, accounts in _by_start(touched.account_hours):
        store.run(_account_hours(hour, accounts))
    for day, accounts in _by_start({(hour // _DAY * _DAY, account) for hour, account in touched.account_hours}):
        store.run(_days(day, accounts))


def _by_start(touched: Set[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Each start with its names as lists of literals; no name is left out."""
    names: defaultdict[int, list[str]] = defaultdict(list)
    for start, name in touched:
        if name:
            names[start].append(name)
    for start in sorted(names):
        for part in in_parts(names[start]):
            yield start, part


def _minutes(hour: int, minutes: str, hosts: str) -> str:
    return f"""
        INSERT INTO minutes (minute, sasl_username, client, host, events, {_SUMMED}, refused, blocked)
        SELECT minute, sasl_username, client, host, count(), {_SUMS}, sum(refused), countIf(refused AND decision != '')
        FROM events FINAL
        WHERE {_of_hour(hour)} AND toUInt32(minute) IN ({minutes}) AND host IN ({hosts}) AND kind = 'request'
        GROUP BY minute, sasl_username, client, host
    """  # noqa: S608 (numbers, and texts in quotes; so below)


def _host_minutes(hour: int, minutes: str, hosts: str) -> str:
    return f"""
        INSERT INTO host_minutes (minute, host, events, {_SUMMED}, refused, blocked)
        SELECT minute, host, {_ALL_SUMS}
        FROM minutes FINAL
        WHERE {_of_hour(hour)} AND toUInt32(minute) IN ({minutes}) AND host IN ({hosts})
        GROUP BY minute, host
    """  # noqa: S608


def _account_hours(hour: int, accounts: str) -> str:
    return f"""
        INSERT INTO account_hours (hour, sasl_username, events, {_SUMMED}, refused, blocked, clients, hosts)
        SELECT toStartOfHour(minute) AS hour, sasl_username, {_ALL_SUMS}, uniqExactState(client), uniqExactState(host)
        FROM minutes FINAL
        WHERE {_of_hour(hour)} AND sasl_username IN ({accounts})
        GROUP BY hour, sasl_username
    """  # noqa: S608


def _client_hours(hour: int, clients: str) -> str:
    return f"""
        INSERT INTO client_hours (hour, client, events, {_SUMMED}, refused, blocked, accounts, hosts)
        SELECT toStartOfHour(minute) AS hour, client, {_ALL_SUMS},
            uniqExactStateIf(sasl_username, sasl_username != ''), uniqExactState(host)
        FROM minutes FINAL
        WHERE {_of_hour(hour)} AND client IN ({clients})
        GROUP BY hour, client
    """  # noqa: S608


def _days(day: int, accounts: str) -> str:
    return f"""
        INSERT INTO days (day, sasl_username, events, {_SUMMED}, refused, blocked, clients, hosts)
        SELECT toDate(hour) AS day, sasl_username, {_ALL_SUMS}, uniqExactMerge(clients), uniqExactMerge(hosts)
        FROM account_hours FINAL
        WHERE hour >= toDateTime({day}, 'UTC') AND hour < toDateTime({day + _DAY}, 'UTC')
            AND sasl_username IN ({accounts})
        GROUP BY day, sasl_username
    """  # noqa: S608


def _of_hour(hour: int) -> str:
    """Events or minutes of an hour, in the words of their tables' keys."""
    return f"toStartOfHour(minute) = toDateTime({hour}, 'UTC')"
