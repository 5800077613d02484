"""`bench history`: how long the dashboard's queries, `weir history` and `weir trace` take over a day of events
(`--rows`).

On ClickHouse's engine in this process, as a history without a server has it; also what an event costs on disk.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from benchmarks import history_load
from benchmarks.measure import show
from dashboards import fleet, query
from fleet.process import run_directory
from sinks import schema, timeline, trace
from sinks.embedded import Embedded
from sinks.store import Row
from weir import subjects

RUNS = 5
OUTCOMES = ("outcomes", "host_outcomes", "account_outcomes", "client_outcomes")


class Measured:
    """A reader that adds up what its queries read."""

    def __init__(self, store: Embedded) -> None:
        self._store = store
        self.rows_read = 0

    def query(self, sql: str) -> list[Row]:
        answer = msgspec.json.decode(self._store.read(sql, "JSONCompact"))
        self.rows_read += answer["statistics"]["rows_read"]
        rows: list[Row] = answer["data"]
        return rows


def main(number: int) -> None:
    end = int(time.time()) // 60 * 60
    with run_directory() as directory, Embedded(directory / "history", "weir") as store:
        schema.migrate(store, 30)
        began = time.perf_counter()
        history_load.fill(store, number, end)
        print(f"  {number:,} events made in {time.perf_counter() - began:.0f} s")
        _sizes(store)
        rows = [_row(store, name, ask) for name, ask in _questions(store, end)]
    show(
        f"queries over 24 h of {number:,} events, best and worst of {RUNS}",
        ("query", "best ms", "worst ms", "rows read", "rows"),
        rows,
    )


def _questions(store: Embedded, end: int) -> list[tuple[str, Callable[[Measured], Any]]]:
    start = end - history_load.DAY
    asked: list[tuple[str, Callable[[Measured], Any]]] = []
    for title, sql in fleet.queries():
        expanded = query.expand(sql, start, end, 300)
        asked.append((f"dashboard: {title}", partial(Measured.query, sql=expanded)))
    ((account, client),) = store.query("SELECT sasl_username, client FROM minutes ORDER BY cityHash64(client) LIMIT 1")
    chosen = (
        ("busiest account", subjects.sasl_username(history_load.BUSIEST)),
        ("an account", subjects.sasl_username(account)),
        ("a client", subjects.client_address(client)),
    )
    for name, subject in chosen:
        asked.append((f"weir history: {name}, sums", partial(timeline.sums, subject=subject, since=start)))
        newest = partial(timeline.entries, subject=subject, since=start, most=200)
        asked.append((f"weir history: {name}, newest 200", newest))
        outcomes = partial(timeline.outcomes, subject=subject, since=start)
        asked.append((f"weir history: {name}, outcomes", outcomes))
        asked.append((f"weir trace: {name}", partial(trace.newest, subject=subject, since=start, most=50)))
    ((message_id, queue_id),) = store.query(
        "SELECT message_id, queue_id FROM events WHERE kind = 'submitted' ORDER BY cityHash64(message_id) LIMIT 1"
    )
    for name, known in (
        ("a message id", message_id),
        ("a queue id", queue_id),
        ("what never was", "<nothing@example>"),
    ):
        asked.append((f"weir trace: {name}", partial(trace.way, name=known, since=start)))
    return asked


def _row(store: Embedded, name: str, ask: Callable[[Measured], Any]) -> tuple[str, ...]:
    times = []
    for _ in range(RUNS):
        reader = Measured(store)
        began = time.perf_counter()
        found = ask(reader)
        times.append((time.perf_counter() - began) * 1000)
    return name, f"{min(times):.0f}", f"{max(times):.0f}", f"{reader.rows_read:,}", str(len(found))


def _sizes(store: Embedded) -> None:
    for table in ("events", "minutes", "host_minutes", "account_hours", "client_hours", "days", *OUTCOMES):
        store.run(f"OPTIMIZE TABLE {table} FINAL")
    found = store.query(
        "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts "
        "WHERE active AND database = 'weir' GROUP BY table HAVING sum(rows) > 0 ORDER BY table"
    )
    show(
        "on disk",
        ("table", "rows", "MiB", "bytes a row"),
        [(table, f"{rows:,}", f"{size / 2**20:.0f}", f"{size / rows:.1f}") for table, rows, size in found],
    )
