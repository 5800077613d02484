"""A person is taken out of the history: all about an account goes; an address gets a name that tells nothing.

Invariants: other subjects' events and decisions stay, and their sums as far as events are left (older ones of an
address go with it); what is forgotten is found nowhere in the history, but for what people wrote as a reason about
somebody else. An attempt that failed is made good by the next one, though sums beside an account may still count it.
"""

import secrets
import time

import msgspec

from sinks import rollups
from sinks.rollups import Touched
from sinks.store import Store, in_parts, literals_in_parts, quoted
from weir import subjects

_FORGOTTEN = "forgotten"
_IS_FORGOTTEN = f"startsWith(client, '{_FORGOTTEN} ')"
_SUMMED_AGAIN = 2 * 86400
"""Seconds: of minutes before that no event comes any more that would make them anew."""
_DONE = "SETTINGS mutations_sync = 2"
"""Return when it is done, on all replicas."""


def forget(store: Store, subject: str, default_realm: str = "") -> dict[str, int]:
    """Remove a subject, an account also where limits leave out its realm; returns how many rows of which kind held it.
    Raises StoreError: then forget once more."""
    told = f"subject = {quoted(subject)}"
    beside = f"has(beside, {quoted(subject)})"
    if subjects.is_client(subject):
        counts = _forget_client(store, subject)
    else:
        counts = _forget_account(store, subject) if subjects.is_account(subject) else _forget_uid(store, subject)
    for table in ("decisions", "words"):
        counts[table] = _delete(store, table, told)
    for part in in_parts(_limits_of(store, subject, default_realm)):
        counts["decisions"] += _delete(store, "decisions", f"subject IN ({part})")
    kept = f"beside = arrayFilter(x -> x != {quoted(subject)}, beside)"
    counts["evidence"] = _update(store, "decisions", kept, beside)
    named = " OR ".join(f"positionCaseInsensitive(details, {text}) > 0" for text in _in_details(subject))
    counts["details"] = _update(store, "events", "details = ''", f"({named})")
    if not subjects.is_uid(subject):
        said = f"positionCaseInsensitive(text, {quoted(_in_texts(subject))}) > 0"
        counts["texts"] = _update(store, "events", "text = ''", said)
    return counts


def _in_texts(subject: str) -> str:
    """How a remote server may name it; of an IPv6 client the network."""
    return subjects.value(subject).removesuffix(":/64")


def _in_details(subject: str) -> tuple[str, str]:
    """How its name stands in the JSON of details, as literals: alone, or as the end of a limit's key."""
    text = msgspec.json.encode(subjects.value(subject)).decode()
    return quoted(text), quoted(f"={text[1:]}")


def _limits_of(store: Store, subject: str, default_realm: str) -> list[str]:
    """Limits that were keyed by its name, whatever the item, and have decisions."""
    name = subjects.value(subject)
    short = name.removesuffix(f"@{default_realm.lower()}")
    narrow = "" if name.endswith("/64") else f"AND positionCaseInsensitiveUTF8(subject, {quoted(short)}) > 0"
    found = store.query(f"SELECT DISTINCT subject FROM decisions WHERE startsWith(subject, 'limit:') {narrow}")  # noqa: S608
    return [
        limit
        for (limit,) in found
        if subjects.owner(limit, default_realm) == subject or limit.partition("=")[2].lower() == name
    ]


def _forget_account(store: Store, subject: str) -> dict[str, int]:
    """Sums of its hosts and clients have more events than are left, and a smaller sum would lose: they go too."""
    name = quoted(subjects.value(subject))
    own = f"sasl_username = {name}"
    clients = [client for (client,) in store.query(f"SELECT DISTINCT client FROM minutes FINAL WHERE {own}")]  # noqa: S608
    minutes = _minutes(store, "minutes", own)
    outcomes = _touched_by_outcomes(store, own)
    tables = ("events", "minutes", "account_hours", "days", "outcomes", "account_outcomes")
    counts = {table: _delete(store, table, own) for table in tables}
    _delete_minutes(store, "host_minutes", minutes)
    hours: set[tuple[int, str]] = set()
    for part in in_parts(clients):
        hours |= _pairs(store, "toStartOfHour(minute)", "client", "minutes", f"client IN ({part})")
        _delete(store, "client_hours", f"client IN ({part})")
    _delete_outcomes(store, outcomes)
    rollups.make(store, outcomes._replace(minutes=minutes, client_hours=hours))
    counts["addresses"] = sum(
        _update(store, "events", f"{column} = ''", f"lower({column}) = {name}") for column in ("sender", "recipient")
    )
    return counts


def _forget_uid(store: Store, subject: str) -> dict[str, int]:
    own = f"uid = {int(subjects.value(subject))}"
    outcomes = _touched_by_outcomes(store, own)
    counts = {table: _delete(store, table, own) for table in ("events", "outcomes")}
    _delete_outcomes(store, outcomes)
    rollups.make(store, outcomes)
    return counts


def _minutes(store: Store, table: str, own: str) -> set[tuple[int, str]]:
    """Its minutes and hosts that events may still come to."""
    late = f"minute >= toDateTime({int(time.time()) - _SUMMED_AGAIN}, 'UTC')"
    return _pairs(store, "minute", "host", table, f"{own} AND {late}")


def _touched_by_outcomes(store: Store, own: str) -> Touched:
    """What is to be made anew once its outcomes are gone."""
    clients = _pairs(store, "hour", "client", "outcomes", f"{own} AND client != ''")
    return rollups.nothing()._replace(outcomes=_minutes(store, "outcomes", own), client_outcomes=clients)


def _delete_outcomes(store: Store, touched: Touched) -> None:
    _delete_minutes(store, "host_outcomes", touched.outcomes)
    named = (f"({hour}, {quoted(client)})" for hour, client in sorted(touched.client_outcomes))
    for part in literals_in_parts(named):
        _delete(store, "client_outcomes", f"(toUInt32(hour), client) IN ({part})")


def _delete_minutes(store: Store, table: str, minutes: set[tuple[int, str]]) -> None:
    for host in sorted({host for _, host in minutes}):
        some = ", ".join(str(minute) for minute, at in sorted(minutes) if at == host)
        _delete(store, table, f"host = {quoted(host)} AND toUInt32(minute) IN ({some})")


def _forget_client(store: Store, subject: str) -> dict[str, int]:
    """Accounts' events and sums lie beside it: they are written anew under the new name, then those with the old go."""
    old = f"client = {quoted(subjects.value(subject))}"
    new = quoted(f"{_FORGOTTEN} {secrets.token_hex(6)}")
    halfway = f"(host, epoch, seq) IN (SELECT host, epoch, seq FROM events WHERE {old})"  # noqa: S608 (in quotes; so below)
    _delete(store, "events", f"{_IS_FORGOTTEN} AND {halfway}")  # of an attempt that failed
    unnamed = "'' AS client_name, '' AS helo_name, if(kind = 'request', '', details) AS details"
    renamed = f"* REPLACE ({new} AS client, {new} AS client_address, {unnamed})"
    store.run(f"INSERT INTO events SELECT {renamed} FROM (SELECT * FROM events FINAL WHERE {old})")  # noqa: S608
    tables = ("events", "minutes", "client_hours", "outcomes", "client_outcomes")
    counts = {table: _delete(store, table, old) for table in tables}
    # As many events as before make the same version: of two such rows the later one stays.
    minutes = _pairs(store, "minute", "host", "events", _IS_FORGOTTEN)
    hours = _pairs(store, "toStartOfHour(minute)", "sasl_username", "events", _IS_FORGOTTEN)
    rollups.make(store, rollups.nothing()._replace(minutes=minutes, account_hours=hours, outcomes=minutes))
    return counts


def _pairs(store: Store, start: str, name: str, table: str, which: str) -> set[tuple[int, str]]:
    rows = store.query(f"SELECT DISTINCT toUInt32({start}), {name} FROM {table} FINAL WHERE {which}")  # noqa: S608
    return {(int(begin), text) for begin, text in rows}


def _delete(store: Store, table: str, which: str) -> int:
    count = _count(store, table, which)
    if count:
        store.run(f"ALTER TABLE {table} DELETE WHERE {which} {_DONE}")
    return count


def _update(store: Store, table: str, change: str, which: str) -> int:
    count = _count(store, table, which)
    if count:
        store.run(f"ALTER TABLE {table} UPDATE {change} WHERE {which} {_DONE}")
    return count


def _count(store: Store, table: str, which: str) -> int:
    ((count,),) = store.query(f"SELECT count() FROM {table} WHERE {which}")  # noqa: S608 (texts in quotes)
    return int(count)
