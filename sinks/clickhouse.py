"""A history in ClickHouse's server, over its native protocol.

Invariants: one connection, made when it is needed and given up after any error; an insert is one block, so of
each partition it is stored whole or not at all.
"""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

from clickhouse_driver import Client
from clickhouse_driver.errors import Error, ServerException

from sinks.store import Column, Row, Store, StoreError, one_line
from weir.settings import History
from weir.settings_checks import CLICKHOUSE_PASSWORD

logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)  # what it tells comes to us as an exception too

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 60
_ACCESS_DENIED = 497
_INSERT = {"async_insert": 0, "insert_deduplication_token": "", "max_partitions_per_insert_block": 0}
"""Settings of an insert, given if the server knows them: stored when it returns, once for each token, of any days."""


class _Client(Client):  # type: ignore[misc]  # the driver has no types
    """The driver's, which also says when all of an insert is sent."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sent: Callable[[], None] = _nothing

    def receive_end_of_insert_query(self) -> Any:
        self.sent()
        return super().receive_end_of_insert_query()


def _nothing() -> None:
    pass


class ClickHouse(Store):
    def __init__(self, history: History, answer_seconds: int = 0) -> None:
        host, _, port = history.server.rpartition(":")
        self._arguments: dict[str, Any] = {
            "host": host.strip("[]"),
            "port": int(port),
            "database": history.database,
            "user": history.user,
            "password": os.environ.get(CLICKHOUSE_PASSWORD, ""),
            "secure": history.secure,
            "connect_timeout": _CONNECT_SECONDS,
            "send_receive_timeout": answer_seconds or _ANSWER_SECONDS,
            "client_name": "weir",
        }
        if history.ca_location:
            self._arguments["ca_certs"] = history.ca_location
        self._client: _Client | None = None
        self._known: set[str] = set()
        """Settings that this server knows."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def create_database(self) -> None:
        """Create the database if it is missing; who must not is told nothing before the tables are asked for."""
        client = Client(**{**self._arguments, "database": ""})
        try:
            client.execute(f"CREATE DATABASE IF NOT EXISTS {self._arguments['database']}")
        except ServerException as error:
            if error.code != _ACCESS_DENIED:
                raise StoreError(one_line(error.message), error.code) from None
        except (Error, OSError, EOFError) as error:
            raise StoreError(one_line(str(error) or type(error).__name__)) from None
        finally:
            client.disconnect()

    def query(self, sql: str) -> list[Row]:
        found: list[Row] = self._asked(lambda client: client.execute(sql))
        return found

    def run(self, sql: str) -> None:
        self._asked(lambda client: client.execute(sql))

    def insert(
        self,
        table: str,
        names: Sequence[str],
        columns: Sequence[Column],
        token: str = "",
        sent: Callable[[], None] = _nothing,
    ) -> None:
        sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES"
        wanted = _INSERT | {"insert_deduplication_token": token}

        def send(client: _Client) -> None:
            client.sent = sent
            settings = {name: value for name, value in wanted.items() if name in self._known and value != ""}
            client.execute(sql, columns, columnar=True, settings=settings)

        self._asked(send)

    def close(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client = None

    def _asked(self, ask: Callable[[_Client], Any]) -> Any:
        try:
            if self._client is None:
                self._client = _Client(**self._arguments)
                names = ", ".join(f"'{name}'" for name in _INSERT)
                known = self._client.execute(f"SELECT name FROM system.settings WHERE name IN ({names})")  # noqa: S608 (our own names)
                self._known = {name for (name,) in known}
            return ask(self._client)
        except ServerException as error:
            self.close()
            raise StoreError(one_line(error.message), error.code) from None
        except (Error, OSError, EOFError) as error:
            self.close()
            raise StoreError(one_line(str(error) or type(error).__name__)) from None
