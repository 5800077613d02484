"""A person is taken out of the history: all about an account goes; an address is replaced by a name that tells nothing.

Invariants: other subjects' events, sums and decisions keep their numbers; what is forgotten is found nowhere in the
history, but for what people wrote as a reason about somebody else.
"""

import secrets

from sinks.store import Store, quoted
from weir import subjects

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
    counts = {table: _delete(store, table, f"sasl_username = {name}") for table in ("events", "minutes", "days")}
    counts["addresses"] = sum(
        _update(store, "events", f"{column} = ''", f"lower({column}) = {name}") for column in ("sender", "recipient")
    )
    return counts


def _forget_client(store: Store, subject: str) -> dict[str, int]:
    """Accounts' sums lie beside it, so it is given a name that no other client has."""
    name = quoted(subjects.value(subject))
    instead = quoted(f"forgotten {secrets.token_hex(6)}")
    changed = _update(
        store, "events", f"client = {instead}, client_address = {instead}, client_name = ''", f"client = {name}"
    )
    old = f"SELECT * FROM minutes FINAL WHERE client = {name}"  # noqa: S608 (a text in quotes)
    store.run(f"INSERT INTO minutes SELECT * REPLACE ({instead} AS client) FROM ({old})")  # noqa: S608
    return {"events": changed, "minutes": _delete(store, "minutes", f"client = {name}")}


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
