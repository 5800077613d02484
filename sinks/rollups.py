"""Roll-ups: sums made anew, from the events themselves, of whatever a batch touches.

    events ─▶ minutes (minute, account, client, host) ─┬▶ host_minutes (minute, host)
              of requests                              ├▶ client_hours (hour, client)
                                                       └▶ account_hours (hour, account) ─▶ days (day, account)
    events ─▶ outcomes (hour, account, client, uid,  ──┬▶ host_outcomes (minute, host)
              of the mail log   what, minute, host)    ├▶ client_outcomes (hour, client)
                                                       └▶ account_outcomes (hour, account)

The hour of an outcome is that of the message's submission, its minute that of the event: a bounce that comes late
corrects an older hour, and is found by its own minute.

Invariants: a row's version is the number of events it covers (of outcomes the count, which grows with it), so of two
sinks that made it the one that saw more wins; making a row again does no harm; a minute whose events may be partly gone
already is not touched.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

from sinks.rows import MAIL_LOG, Events
from sinks.store import Store, in_parts, literals_in_parts, quoted

_HOUR, _DAY = 3600, 86400
_SPARE_DAYS = 2
"""A minute is made anew only so long before its events go."""

_SUMMED = "messages, recipients, bytes, attempted_messages, attempted_recipients"
_SUMS = "sum(messages), sum(recipients), sum(bytes), sum(attempted_messages), sum(attempted_recipients)"
_ALL_SUMS = f"sum(events), {_SUMS}, sum(refused), sum(blocked)"
_OUTCOME = "multiIf(kind = 'delivery', status, kind = 'login', if(failed = '', 'login', 'login_failed'), kind)"
_REASON = """multiIf(
    kind = 'delivery', if(status = 'bounced' AND bounce = '', 'other', bounce), kind = 'login', failed,
    kind = 'rejected', if(decision = '', '', 'weir'), unasked, 'unasked', '')"""
"""What Weir refused is told apart from what else is rejected."""


class Touched(NamedTuple):
    """What must be made anew: by Unix time of its start, and name."""

    minutes: set[tuple[int, str]]
    """Of hosts."""
    account_hours: set[tuple[int, str]]
    client_hours: set[tuple[int, str]]
    outcomes: set[tuple[int, str]]
    """Minutes of hosts whose mail log told something."""
    account_outcomes: set[tuple[int, str]]
    """Hours of submission."""
    client_outcomes: set[tuple[int, str]]


def nothing() -> Touched:
    return Touched(set(), set(), set(), set(), set(), set())


def touch(touched: Touched, batch: Iterable[Events], keep_days: int, now: float) -> int:
    """Add what the batch touches, repeats too: an earlier sink may have died before its roll-ups.

    Returns how many events are too old for it, or more than a day ahead of us.
    """
    oldest, newest = now - (keep_days - _SPARE_DAYS) * _DAY, now + _DAY
    late = 0
    requests: list[Events] = []
    told: list[Events] = []
    """By the mail log."""
    for one in batch:
        minutes = set(one.columns["minute"])
        events = one
        if min(minutes) < oldest or max(minutes) > newest:
            places = [place for place, minute in enumerate(one.columns["minute"]) if oldest <= minute <= newest]
            events = one.only(places)
            late += len(one) - len(events)
        kinds = set(events.columns["kind"])
        if not MAIL_LOG.isdisjoint(kinds):
            told.append(events.only([place for place, kind in enumerate(events.columns["kind"]) if kind in MAIL_LOG]))
        if not MAIL_LOG.issuperset(kinds):
            requests.append(events)
    _touch_minutes(touched.minutes, requests)
    _touch_hours(touched.account_hours, requests, "minute", "sasl_username")
    _touch_hours(touched.client_hours, requests, "minute", "client")
    _touch_minutes(touched.outcomes, told)
    _touch_hours(touched.account_outcomes, told, "submitted", "sasl_username")
    _touch_hours(touched.client_outcomes, told, "submitted", "client")
    return late


def _touch_minutes(touched: set[tuple[int, str]], found: Iterable[Events]) -> None:
    for events in found:
        touched.update((minute, events.head.host) for minute in set(events.columns["minute"]))


def _touch_hours(touched: set[tuple[int, str]], found: Iterable[Events], time: str, name: str) -> None:
    """The hours of the column `time` with the names of the other: each name once an hour, before it becomes a pair."""
    names: defaultdict[int, set[str]] = defaultdict(set)
    for events in found:
        times = events.column(time)
        hours = {second // _HOUR * _HOUR for second in set(times)}
        if len(hours) == 1:
            names[hours.pop()].update(events.column(name))
        else:
            for second, text in zip(times, events.column(name), strict=True):
                names[second // _HOUR * _HOUR].add(text)
    touched.update((hour, text) for hour, texts in names.items() for text in texts)


def make(store: Store, touched: Touched) -> None:
    """Make the rows anew, each table after the one it is made from. Raises StoreError: then all is to be repeated."""
    for hour, minutes, hosts in _by_hour(touched.minutes):
        store.run(_minutes(hour, minutes, hosts))
        store.run(_host_minutes(hour, minutes, hosts))
    for hour, clients in _by_start(touched.client_hours):
        store.run(_client_hours(hour, clients))
    for hour, accounts in _by_start(touched.account_hours):
        store.run(_account_hours(hour, accounts))
    for day, accounts in _by_start({(hour // _DAY * _DAY, account) for hour, account in touched.account_hours}):
        store.run(_days(day, accounts))
    for hour, minutes, hosts in _by_hour(touched.outcomes):
        store.run(_outcomes(hour, minutes, hosts))
        store.run(_host_outcomes(hour, minutes, hosts))
    for table, name, hours in (
        ("client_outcomes", "client", touched.client_outcomes),
        ("account_outcomes", "sasl_username", touched.account_outcomes),
    ):
        named = sorted((hour, text) for hour, text in hours if text)
        for pairs in literals_in_parts(f"({hour}, {quoted(text)})" for hour, text in named):
            store.run(_outcomes_of(table, name, named[0][0], pairs))


def _by_hour(touched: Set[tuple[int, str]]) -> Iterator[tuple[int, str, str]]:
    """Each hour with its minutes, and its hosts as lists of literals."""
    for hour in sorted({minute // _HOUR * _HOUR for minute, _ in touched}):
        some = [(minute, host) for minute, host in touched if minute // _HOUR * _HOUR == hour]
        minutes = ", ".join(map(str, sorted({minute for minute, _ in some})))
        for _, hosts in _by_start({(hour, host) for _, host in some}):
            yield hour, minutes, hosts


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


def _outcomes(hour: int, minutes: str, hosts: str) -> str:
    return f"""
        INSERT INTO outcomes (hour, sasl_username, client, uid, outcome, reason, minute, host, count)
        SELECT toStartOfHour(submitted) AS hour, sasl_username, client, uid,
            {_OUTCOME} AS outcome, {_REASON} AS reason, minute, host, sum(if(kind = 'login', tries, 1))
        FROM events FINAL
        WHERE {_of_hour(hour)} AND toUInt32(minute) IN ({minutes}) AND host IN ({hosts})
            AND kind IN ('submitted', 'delivery', 'rejected', 'login')
        GROUP BY hour, sasl_username, client, uid, outcome, reason, minute, host
    """  # noqa: S608


def _host_outcomes(hour: int, minutes: str, hosts: str) -> str:
    return f"""
        INSERT INTO host_outcomes (minute, host, outcome, reason, count)
        SELECT minute, host, outcome, reason, sum(count)
        FROM outcomes FINAL
        WHERE {_of_hour(hour)} AND toUInt32(minute) IN ({minutes}) AND host IN ({hosts})
        GROUP BY minute, host, outcome, reason
    """  # noqa: S608


def _outcomes_of(table: str, name: str, first: int, pairs: str) -> str:
    """Of accounts or clients; what became of the messages of an hour may stand under any later one.

    All hours at once: retries touch each of the last days, and an insert for each would make too many parts.
    """
    return f"""
        INSERT INTO {table} (hour, {name}, outcome, reason, count)
        SELECT hour, {name}, outcome, reason, sum(count)
        FROM outcomes FINAL
        WHERE toStartOfHour(minute) >= toDateTime({first}, 'UTC') AND (hour, {name}) IN ({pairs})
        GROUP BY hour, {name}, outcome, reason
    """  # noqa: S608


def _of_hour(hour: int) -> str:
    """Events or minutes of an hour, in the words of their tables' keys."""
    return f"toStartOfHour(minute) = toDateTime({hour}, 'UTC')"
