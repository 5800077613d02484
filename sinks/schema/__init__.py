"""The history's tables: numbered files of SQL, each applied once, in their order.

Invariants: a file that has been released is never changed, and a later one only adds, so that a sink of before goes on
writing while a newer one is started; a schema newer than we know is not touched.
"""

import time
from importlib import resources

from sinks.store import Store

RECORD = """
CREATE TABLE IF NOT EXISTS schema_versions (
    version UInt32,
    keep_days UInt32,
    applied DateTime('UTC')
) ENGINE = ReplacingMergeTree
ORDER BY (version, keep_days, applied)
"""
_KEPT = {
    "events": "minute + INTERVAL {days} DAY",
    "minutes": "minute + INTERVAL {three} DAY",
    "host_minutes": "minute + INTERVAL {three} DAY",
    "account_hours": "hour + INTERVAL {three} DAY",
    "client_hours": "hour + INTERVAL {three} DAY",
    "outcomes": "minute + INTERVAL {three} DAY",
    "host_outcomes": "minute + INTERVAL {three} DAY",
    "account_outcomes": "hour + INTERVAL {three} DAY",
    "client_outcomes": "hour + INTERVAL {three} DAY",
    "days": "day + INTERVAL 13 MONTH",
    "decisions": "day + INTERVAL 13 MONTH",
    "words": "day + INTERVAL 13 MONTH",
}
"""How long rows live (ClickHouse's TTL)."""


class SchemaError(Exception):
    """The history was made by a newer release of ours."""


def statements() -> list[tuple[int, list[str]]]:
    """Each file's number and its statements."""
    found = []
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            parts = file.read_text(encoding="utf-8").split(";")
            found.append((int(file.name.partition("_")[0]), [part.strip() for part in parts if part.strip()]))
    return found


def migrate(store: Store, keep_days: int) -> None:
    """Bring the tables to our version, and to the days they are kept. Raises SchemaError and StoreError."""
    store.run(RECORD)
    version, kept = _present(store)
    known = statements()
    newest = known[-1][0]
    if version > newest:
        raise SchemaError(
            f"the history has schema version {version} and this weir knows versions up to {newest}: "
            "install the release that made it, or a newer one"
        )
    for number, parts in known:
        if number > version:
            for statement in parts:
                store.run(statement)
    if (version, kept) != (newest, keep_days):
        keep(store, keep_days)
        record(store, newest, keep_days)


def keep(store: Store, days: int) -> None:
    """Set how long rows live."""
    for table, until in _KEPT.items():
        store.run(f"ALTER TABLE {table} MODIFY TTL {until.format(days=days, three=3 * days)}")


def record(store: Store, version: int, keep_days: int) -> None:
    """Write down what the tables are now."""
    store.insert("schema_versions", ("version", "keep_days", "applied"), ([version], [keep_days], [int(time.time())]))


def _present(store: Store) -> tuple[int, int]:
    """Version and days as last written down; 0 for a new history."""
    rows = store.query("SELECT version, keep_days FROM schema_versions ORDER BY version DESC, applied DESC LIMIT 1")
    if not rows:
        return 0, 0
    version, days = rows[0]
    return int(version), int(days)
