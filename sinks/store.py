"""The history's store: ClickHouse's server (`sinks.clickhouse`), or its engine in our process (`sinks.embedded`).

Invariants: both take the same SQL, written for ClickHouse 23 and later; whatever goes wrong is a StoreError, and after
one an insert may have happened, in part or whole. Not for several threads at once.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = Sequence[Any]
Column = Sequence[Any]
"""The values of one column, of all rows."""

_PART_BYTES = 100_000
"""Of names in one statement: its text has a bound, 256 KiB by ClickHouse's default."""
LOGIN_REFUSED = (192, 193, 194, 516)
"""ClickHouse's codes for an unknown user, a wrong or a missing password, and for all of them."""
TOO_MANY_PARTS = 252
"""ClickHouse asks for a pause: it cannot merge as fast as we insert."""


class StoreError(Exception):
    """What the store said, in one line; `code` is ClickHouse's number for it, 0 if the store was not reached."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Store(AbstractContextManager["Store"], Protocol):
    """All methods raise StoreError."""

    def query(self, sql: str) -> list[Row]:
        """The rows of a SELECT. It asks for times as numbers, dates as texts: else the two stores differ."""

    def run(self, sql: str) -> None:
        """Run a statement that gives no rows."""

    def insert(
        self,
        table: str,
        names: Sequence[str],
        columns: Sequence[Column],
        token: str = "",
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        """Insert columns, with times as whole milliseconds or (minutes) seconds since 1970.

        `token` names this very insert: a server that knows it stores it once. `sent` is called, if all goes well, when
        the rest of the work is the engine's alone: Python is free for something else.
        """

    def close(self) -> None: ...


def quoted(text: str) -> str:
    """Text as a literal of ClickHouse's SQL.

    >>> print(quoted("O'Brien\\\\"))
    'O\\'Brien\\\\'
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def in_parts(names: Iterable[str]) -> Iterator[str]:
    """Names as lists of literals, each short enough for a statement; a name is at most some hundred characters long.

    >>> list(in_parts(["b", "a"]))
    ["'a', 'b'"]
    """
    return literals_in_parts(map(quoted, sorted(names)))


def literals_in_parts(literals: Iterable[str]) -> Iterator[str]:
    """The same of literals that are made already, such as pairs."""
    part: list[str] = []
    size = 0
    for literal in literals:
        part.append(literal)
        size += len(literal.encode()) + 2
        if size > _PART_BYTES:
            yield ", ".join(part)
            part, size = [], 0
    if part:
        yield ", ".join(part)


def one_line(text: str, length: int = 300) -> str:
    """A message of ClickHouse without its stack trace and line breaks."""
    return " ".join(text.partition("Stack trace:")[0].split())[:length]


def for_logs(error: BaseException) -> str:
    """What went wrong without the literals of our SQL, which ClickHouse quotes: they are names of accounts.

    >>> for_logs(StoreError("Code: 62. Syntax error: failed at 'alice@example.org'"))
    "Code: 62. Syntax error: failed at '…'"
    """
    return re.sub(r"'(?:[^'\\]|\\.)*('|$)", "'…'", str(error))
