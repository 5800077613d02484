"""The history for those who read it only: the command line, tests.

Invariant: the same SQL, whether a server answers or the sink that holds the history itself.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from sinks.clickhouse import ClickHouse
from sinks.store import Row, StoreError
from weir.settings import History

_ANSWER_SECONDS = 60
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a sink on loopback is behind no proxy


class Reader(Protocol):
    def query(self, sql: str) -> list[Row]:
        """The rows of a SELECT, which asks for times as numbers and dates as texts. Raises StoreError."""


@contextmanager
def reader(history: History) -> Iterator[Reader]:
    """The history that the settings name."""
    if history.server:
        with ClickHouse(history) as server:
            yield server
    else:
        yield _Sink(history.listen)


class _Sink:
    """A sink that answers queries over HTTP."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/?default_format=JSONCompact"

    def query(self, sql: str) -> list[Row]:
        try:
            with _opener.open(self._url, sql.encode(), timeout=_ANSWER_SECONDS) as answer:
                rows: list[Row] = json.load(answer)["data"]
                return rows
        except urllib.error.HTTPError as error:
            raise StoreError(error.read().decode(errors="replace").strip(), 1) from None
        except (OSError, ValueError) as error:
            raise StoreError(f"no sink answers at {self._url.partition('/?')[0]}: {error}") from None
