"""A history without a server: ClickHouse's engine in this process (chdb), with its data in a directory.

Invariants: one process at a time has the directory; a query of others can only read, and reads nothing but tables.
"""

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from chdb.session import Session

from sinks.store import Column, Row, Store, StoreError, one_line

_QUERY_SECONDS = 10
"""Of others' queries: inserts wait for them."""
_encoder = msgspec.json.Encoder()


class _Answer(msgspec.Struct):
    data: list[list[Any]]


_decoder = msgspec.json.Decoder(_Answer)


class Embedded(Store):
    """Takes calls from several threads, one after another, as the engine does. Raises StoreError if it is in use."""

    def __init__(self, path: Path, database: str) -> None:
        self._lock = threading.Lock()
        path.mkdir(mode=0o750, parents=True, exist_ok=True)
        try:
            self._session = Session(str(path))
        except Exception as error:  # chdb raises RuntimeError and its own, of no common kind
            raise StoreError(f"cannot open the history in {path}: {one_line(str(error))}") from None
        self._milliseconds: dict[str, frozenset[str]] = {}
        """Table → its columns that hold milliseconds, which JSON gives as fractions of seconds."""
        self.run(f"CREATE DATABASE IF NOT EXISTS {database}")
        self.run(f"USE {database}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def query(self, sql: str) -> list[Row]:
        answer = self._ask(sql, "JSONCompact")
        try:
            return list(_decoder.decode(answer).data) if answer else []
        except msgspec.DecodeError as error:
            raise StoreError(f"an answer that is none: {error}") from None

    def run(self, sql: str) -> None:
        self._ask(sql, "JSONCompact")

    def insert(
        self,
        table: str,
        names: Sequence[str],
        columns: Sequence[Column],
        token: str = "",
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        exact = self._in_milliseconds(table)
        made = [
            [value / 1000 for value in column] if name in exact else column
            for name, column in zip(names, columns, strict=True)
        ]
        sql = f"INSERT INTO {table} ({', '.join(names)}) SETTINGS async_insert=0, max_partitions_per_insert_block=0"
        with self._lock:
            try:
                inserter = self._session.send_insert(sql, "JSONCompactEachRow")
                inserter.append(_encoder.encode_lines(zip(*made, strict=True)))
                sent()
                inserter.finish()
            except Exception as error:
                raise _error(error) from None

    def read(self, sql: str, form: str) -> bytes:
        """The answer to a query of anybody's, in one of ClickHouse's output formats. Raises StoreError."""
        query = sql.strip().rstrip(";")
        if ";" in query:  # the engine would go on to a second statement
            raise StoreError("expected one query, without ';' in it (in a text, write char(59))")
        # In brackets a query cannot choose its own output, which may be a file.
        return self._ask(f"SELECT * FROM (\n{query}\n) SETTINGS readonly=1, max_execution_time={_QUERY_SECONDS}", form)  # noqa: S608

    def close(self) -> None:
        with self._lock:
            self._session.close()

    def _ask(self, sql: str, form: str) -> bytes:
        with self._lock:
            try:
                answer: bytes = self._session.query(sql, form).bytes()
            except Exception as error:
                # What the failed query has given so far would stand before the next answer (chdb 26.9).
                self._session.query("SELECT 1", form)
                raise _error(error) from None
            return answer

    def _in_milliseconds(self, table: str) -> frozenset[str]:
        if table not in self._milliseconds:
            found = self.query(
                "SELECT name FROM system.columns WHERE database = currentDatabase() "  # noqa: S608 (a table of ours)
                f"AND table = '{table}' AND type LIKE 'DateTime64%'"
            )
            self._milliseconds[table] = frozenset(name for (name,) in found)
        return self._milliseconds[table]


def _error(error: Exception) -> StoreError:
    """chdb's errors have ClickHouse's number in their text only."""
    text = str(error)
    number = re.search(r"Code: (\d+)", text)
    return StoreError(one_line(text), int(number[1]) if number else 0)
