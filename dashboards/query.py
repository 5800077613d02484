"""Queries as Grafana's ClickHouse data source takes them, and what it makes of their macros.

Invariants: a query names no database (the data source has one) and bounds the first column of its table's key; time
series of mail cover whole intervals only, so that the last bar is never one that is still being filled.

The query's fields and macros: github.com/grafana/clickhouse-datasource, src/types/sql.ts and pkg/macros/macros.go.
"""

import re
from collections.abc import Sequence
from typing import Any

PLUGIN = "grafana-clickhouse-datasource"
PLUGIN_VERSION = "4.0.0"
"""Form of queries and settings: what has no version is read as the older form."""
UID = "weir-clickhouse"
SOURCE = {"type": PLUGIN, "uid": UID}

CHOSEN_HOSTS = "$__conditionalAll(host IN (${host:singlequote}), $host)"
"""The hosts of the variable `host`; true for all of them."""


def _within(start: str, end: str) -> str:
    return f"minute >= {start} AND minute < {end}"


WHOLE_INTERVALS = _within(
    "toStartOfInterval($__fromTime, INTERVAL $__interval_s second)",
    "toStartOfInterval($__toTime, INTERVAL $__interval_s second)",
)
CHOSEN_TIME = _within("$__fromTime", "$__toTime")
LAST_MINUTES = _within("toStartOfMinute($__toTime) - INTERVAL 5 MINUTE", "toStartOfMinute($__toTime)")
"""The last five whole minutes of the chosen time."""
LAST_DAY = _within("$__toTime - INTERVAL 1 DAY", "$__toTime")
CHOSEN_HOURS = "hour >= toStartOfHour($__fromTime) AND hour < $__toTime"
"""All hours that the chosen time has a part of."""

_FORMATS = {"timeSeries": 0, "table": 1}
_TIME_INTERVAL = re.compile(r"\$__timeInterval\(([^()]*)\)")


def target(sql: str, kind: str) -> dict[str, Any]:
    """A panel's query; `kind` is `timeSeries` (the first column a time, in order) or `table`."""
    return {
        "refId": "A",
        "datasource": SOURCE,
        "pluginVersion": PLUGIN_VERSION,
        "editorType": "sql",
        "queryType": kind,
        "format": _FORMATS[kind],
        "rawSql": sql,
    }


def expand(sql: str, start: int, end: int, interval_seconds: int = 60, hosts: Sequence[str] = ()) -> str:
    """The query as ClickHouse gets it: from `start` to `end`, Unix seconds; no hosts are all of them.

    Knows the macros that our queries use. Raises ValueError for any other.
    """
    for macro, value in {
        "$__fromTime": f"toDateTime({start})",
        "$__toTime": f"toDateTime({end})",
        "$__interval_s": str(interval_seconds),
    }.items():
        sql = sql.replace(macro, value)
    sql = _TIME_INTERVAL.sub(rf"toStartOfInterval(toDateTime(\1), INTERVAL {interval_seconds} second)", sql)
    if "$" in sql.replace(CHOSEN_HOSTS, ""):
        raise ValueError(f"expected macros that are known, got {sql!r}")
    return sql.replace(CHOSEN_HOSTS, f"host IN ({', '.join(map(_quoted, hosts))})" if hosts else "1=1")


def _quoted(text: str) -> str:
    """As Grafana's format `singlequote` does it."""
    return "'" + text.replace("'", r"\'") + "'"
