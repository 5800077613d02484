"""ClickHouse as Debian ships it (18.16, of 2018): a real server for the native protocol, errors and restarts.

Invariants
- Port and data outlive stop(), kill() and start().
- Its history is made here from our own schema, with the types that this release lacks mapped to what is the same on the
  wire: the product has no branch for it. The SQL of queries is tested on the modern engine instead (chdb).
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from clickhouse_driver import Client
from clickhouse_driver.errors import Error

from fleet.process import Process, free_port
from sinks import schema
from sinks.clickhouse import ClickHouse as Store
from weir.settings import History

START_SECONDS = 20.0
KEEP_DAYS = 3650
"""Events of any day stay; it is written down as the history's, so that a sink with this setting changes nothing."""

_CONFIG = """\
<yandex>
    <logger><level>warning</level><console>1</console></logger>
    <listen_host>127.0.0.1</listen_host>
    <tcp_port>{port}</tcp_port>
    <path>{data}/</path>
    <tmp_path>{data}/tmp/</tmp_path>
    <users_config>{users}</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <timezone>UTC</timezone>
    <mark_cache_size>67108864</mark_cache_size>
    <uncompressed_cache_size>0</uncompressed_cache_size>
</yandex>
"""
_USERS = """\
<yandex>
    <profiles><default>
        <allow_experimental_low_cardinality_type>1</allow_experimental_low_cardinality_type>
        <max_memory_usage>2000000000</max_memory_usage>
    </default></profiles>
    <users><default>
        <password></password>
        <networks><ip>127.0.0.1</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
    </default></users>
    <quotas><default></default></quotas>
</yandex>
"""


class ClickHouse:
    """A server on 127.0.0.1 with all its files in `directory`; leaving its `with` block stops it."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._directory = directory
        config = directory / "config.xml"
        self.process = Process(
            "clickhouse",
            ["clickhouse-server", f"--config-file={config}"],
            directory / "clickhouse.log",
            cwd=directory,
        )

    def __enter__(self) -> Self:
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        users = self._directory / "users.xml"
        users.write_text(_USERS)
        data = self._directory / "data"
        (self._directory / "config.xml").write_text(_CONFIG.format(port=self.port, data=data, users=users))
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.process.running:
            self.process.terminate()

    def start(self) -> None:
        """Start the server; return when it answers. Raises RuntimeError with the log's tail if it does not come up."""
        self.process.start()
        self.process.wait_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def history(self, database: str = "weir") -> History:
        """Settings of a history of that name, whose tables are made if they are missing."""
        history = History(server=self.address, database=database, keep_days=KEEP_DAYS, metrics="")
        with Store(history) as store:
            store.create_database()
            store.run(mapped(schema.RECORD))
            ((made,),) = store.query("SELECT max(version) FROM schema_versions")
            for number, statements in schema.statements():
                if number > made:
                    for statement in statements:
                        store.run(mapped(statement))
                    schema.record(store, number, KEEP_DAYS)
        return history

    @property
    def version(self) -> str:
        client = Client("127.0.0.1", self.port)
        try:
            return str(client.execute("SELECT version()")[0][0])
        finally:
            client.disconnect()

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()  # a client would log that nobody is there
            client = Client("127.0.0.1", self.port, connect_timeout=1)
            try:
                return bool(client.execute("SELECT 1"))
            finally:
                client.disconnect()
        except (Error, OSError, EOFError):
            return False


class Given:
    """Another server, that somebody gave us to test on: a modern one, whose tables are made by the product itself."""

    def __init__(self, address: str) -> None:
        self.address = address

    def history(self, database: str) -> History:
        """Settings of a new history of that name: what was there under it goes."""
        history = History(server=self.address, database=database, keep_days=KEEP_DAYS, metrics="")
        with Store(history) as store:
            store.create_database()
            store.run(f"DROP DATABASE {database}")
        with Store(history) as store:
            store.create_database()
            schema.migrate(store, KEEP_DAYS)
        return history


@contextmanager
def given_or_own(directory: Path) -> Iterator["ClickHouse | Given"]:
    """The server that WEIR_TEST_CLICKHOUSE names, HOST:PORT, else Debian's."""
    if address := os.environ.get("WEIR_TEST_CLICKHOUSE"):
        yield Given(address)
    else:
        with ClickHouse(directory) as own:
            yield own


def mapped(statement: str) -> str:
    """A statement of the schema as this old server takes it."""
    statement = re.sub(r"DateTime64\(3, 'UTC'\)", "Int64", statement)
    statement = re.sub(r" CODEC\((?:[^()]|\([^()]*\))*\)", "", statement)
    statement = statement.replace("ADD COLUMN IF NOT EXISTS", "ADD COLUMN")
    statement = re.sub(r",\s*(?:ADD )?INDEX [^\n,]*", "", statement)
    statement = re.sub(r"\nSETTINGS [^\n]*", "", statement)
    return re.sub(r"^\s*--[^\n]*\n", "", statement, flags=re.MULTILINE)
