"""A person is taken out of the history: all about an account goes; an address is replaced by a name that tells nothing.

Invariants: other subjects' events, sums and decisions keep their numbers (but for sums of minutes whose events are gone
already: those of an address go with it); what is forgotten is found nowhere in the
history, but for what people wrote as a reason about somebody else.
"""

import secrets

from sinks import rollups
from sinks.rollups import Touched
from sinks.store import Store, quoted
from weir import subjects

_FORGOTTEN = "forgotten"
_IS_FORGOTTEN = f"startsWith(client, '{_FORGOTTEN} ')"
_DONE = "SETTINGS mutations_sync = 2"
"""Return when it is done, on all replicas."""


def forget(store: Store, subject: str) -> dict[str, int]:
    """Remove a subject; returns how many rows of which kind held it. Raises StoreError: then forget once more."""
    told = f"subject = {quoted(subject)}"
    beside = f"has(beside, {quoted(subject)})"
    counts = _forget_account(store, subject) if subjects.is_account(subject) else _forget_client(store, subject)
    for table in ("decisions", "words"):
        counts[table] = _delete(store, table, told)
    kept = f"beside = arrayFilter(x -> x != {quoted(subject)}, beside)"
    counts["evidence"] = _update(store, "decisions", kept, beside)
    return counts


def _forget_account(store: Store, subject: str) -> dict[str, int]:
    name = quoted(subjects.value(subject))
    tables = ("events", "minutes", "account_hours", "days")
    counts = {table: _delete(store, table, f"sasl_username = {name}") for table in tables}
    counts["addresses"] = sum(
        _update(store, "events", f"{column} = ''", f"lower({column}) = {name}") for column in ("sender", "recipient")
    )
    return counts


def _forget_client(store: Store, subject: str) -> dict[str, int]:
    """Accounts' events and sums lie beside it: they are written anew under the new name, then those with the old go."""
    old = f"client = {quoted(subjects.value(subject))}"
    new = quoted(f"{_FORGOTTEN} {secrets.token_hex(6)}")
    halfway = f"(host, epoch, seq) IN (SELECT host, epoch, seq FROM events WHERE {old})"  # noqa: S608 (in quotes; so below)
    _delete(store, "events", f"{_IS_FORGOTTEN} AND {halfway}")  # of an attempt that failed
    renamed = f"* REPLACE ({new} AS client, {new} AS client_address, '' AS client_name, '' AS helo_name)"
    store.run(f"INSERT INTO events SELECT {renamed} FROM (SELECT * FROM events FINAL WHERE {old})")  # noqa: S608
    touched = store.query(f"SELECT DISTINCT toUInt32(minute), host FROM events FINAL WHERE {_IS_FORGOTTEN}")  # noqa: S608
    counts = {"events": _delete(store, "events", old)}
    rollups.make(store, Touched({(int(minute), host) for minute, host in touched}, set(), set()))
    return counts | {table: _delete(store, table, old) for table in ("minutes", "client_hours")}


def _delete(store: Store, table: str, which: str) -> int:
    count = _count(store, table, which)
    store.run(f"ALTER TABLE {table} DELETE WHERE {which} {_DONE}")
    return count


def _update(store: Store, table: str, change: str, which: str) -> int:
    count = _count(store, table, which)
    store.run(f"ALTER TABLE {table} UPDATE {change} WHERE {which} {_DONE}")
    return count


def _count(store: Store, table: str, which: str) -> int:
    ((count,),) = store.query(f"SELECT count() FROM {table} FINAL WHERE {which}")  # noqa: S608 (texts in quotes)
    return int(count)
