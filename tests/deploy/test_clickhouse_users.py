"""deploy/clickhouse/weir.xml: the sink writes, the reader only reads, and within its limits. And server.xml: by TLS.

The rights are tried in the modern engine (chdb), which has one session and no logins: there the role is its only user.
Logins are tried on the server that Debian has, which is too old for `grants`, `constraints` and `async_insert`.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from fleet.clickhouse import ClickHouse
from fleet.own import CHECKOUT
from fleet.process import free_port
from sinks import schema
from sinks.clickhouse import ClickHouse as Store
from sinks.store import StoreError
from weir.settings import History

DEPLOYED = CHECKOUT / "deploy/clickhouse/weir.xml"
SERVER = CHECKOUT / "deploy/clickhouse/server.xml"
SINK, READER = ("weir_sink", "secret-of-sink"), ("weir_reader", "secret-of-reader")
SECRETS = {
    f"CLICKHOUSE_{role}_PASSWORD_SHA256": hashlib.sha256(password.encode()).hexdigest()
    for role, password in (("SINK", SINK[1]), ("READER", READER[1]))
}

RUN = """\
import json, sys
import chdb  # takes the configuration from here on
from chdb.session import Session
session = Session(sys.argv[1])
for statement in json.load(sys.stdin):
    try:
        print(json.dumps(session.query(statement, "TSV").bytes().decode().strip()))
    except RuntimeError as error:
        print(json.dumps(f"refused: {error}"))
"""


def modern(role: str, directory: Path, *statements: str) -> list[str]:
    """What the engine answers the role to each statement: values, or `refused: …`."""
    tree = ElementTree.parse(DEPLOYED)  # noqa: S314 (a file of ours)
    users = tree.getroot().find("users")
    assert users is not None
    for user in list(users):
        if user.tag == role:
            user.tag = "default"
            user.remove(user.findall("password_sha256_hex")[0])
            ElementTree.SubElement(user, "password")
        else:
            users.remove(user)
    ElementTree.SubElement(ElementTree.SubElement(tree.getroot(), "quotas"), "default")
    profiles = tree.getroot().find("profiles")
    assert profiles is not None
    ElementTree.SubElement(profiles, "default")
    configure(directory, ElementTree.tostring(tree.getroot(), encoding="unicode"))
    done = run(directory, {}, *statements)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def configure(directory: Path, users: str) -> None:
    """Write the engine's configuration, with these users."""
    (directory / "users.xml").write_text(users)
    config = f"<clickhouse><users_config>{directory}/users.xml</users_config></clickhouse>"
    (directory / "config.xml").write_text(config)


def run(directory: Path, secrets: Mapping[str, str], *statements: str) -> subprocess.CompletedProcess[str]:
    """Run the statements in an engine with `config.xml` and data in this folder."""
    return subprocess.run(
        [sys.executable, "-c", RUN, f"{directory}/data?config-file={directory}/config.xml"],
        cwd=directory,
        env={**os.environ, **secrets},
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history that the sink made and wrote to."""
    directory = tmp_path_factory.mktemp("history")
    made = ["CREATE DATABASE IF NOT EXISTS weir", "USE weir", schema.RECORD]
    made += [statement for _, statements in schema.statements() for statement in statements]
    work = [
        "ALTER TABLE days MODIFY TTL day + INTERVAL 13 MONTH",
        "ALTER TABLE days DELETE WHERE messages = 0",
        "INSERT INTO words (subject) VALUES ('a')",
        "SELECT value FROM system.settings WHERE name = 'async_insert'",
    ]
    answers = modern("weir_sink", directory, *made, *work)
    assert [answer for answer in answers if answer.startswith("refused")] == []
    assert answers[-1] == "0"
    return directory


def test_the_sink_may_do_nothing_else(history: Path) -> None:
    refused = modern(
        "weir_sink",
        history,
        "DROP DATABASE weir",
        "CREATE DATABASE other",
        "CREATE USER mallory",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    )
    assert all("ACCESS_DENIED" in answer for answer in refused), refused


def test_the_reader_reads(history: Path) -> None:
    read = modern("weir_reader", history, "SELECT subject FROM weir.words FINAL", "SELECT 1 SETTINGS max_threads = 1")
    assert read == ["a", "1"]


def test_the_reader_changes_nothing_and_keeps_to_its_limits(history: Path) -> None:
    statements = {
        "INSERT INTO weir.words (subject) VALUES ('b')": "ACCESS_DENIED",
        "DROP TABLE weir.words": "ACCESS_DENIED",
        "ALTER TABLE weir.words DELETE WHERE 1": "ACCESS_DENIED",
        "CREATE TABLE weir.more (a UInt8) ENGINE = Memory": "ACCESS_DENIED",
        "SET readonly = 0": "READONLY",
        "SELECT 1 SETTINGS max_memory_usage = 3000000000": "SETTING_CONSTRAINT_VIOLATION",
        "SELECT 1 SETTINGS max_execution_time = 3000": "SETTING_CONSTRAINT_VIOLATION",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')": "ACCESS_DENIED",
    }
    answers = modern("weir_reader", history, *statements)
    assert [answer for answer, why in zip(answers, statements.values(), strict=True) if f"({why})" not in answer] == []


def test_without_the_hashes_the_server_does_not_start(tmp_path: Path) -> None:
    ours = "<default><password/><networks><ip>::/0</ip></networks><profile>default</profile></default></users>"
    text = DEPLOYED.read_text().replace("</profiles>", "<default/></profiles>").replace("</users>", ours)
    configure(tmp_path, text.replace("</clickhouse>", "<quotas><default/></quotas></clickhouse>"))
    assert run(tmp_path, SECRETS, "SELECT 1").returncode == 0
    for missing in SECRETS:
        some = {name: value for name, value in SECRETS.items() if name != missing}
        assert run(tmp_path, some, "SELECT 1").returncode != 0


@pytest.mark.fleet
def test_both_log_in_with_their_passwords(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, password in SECRETS.items():
        monkeypatch.setenv(name, password)
    users = directory / "clickhouse/users.d"
    users.mkdir(parents=True)
    unknown = r"<constraints>.*</constraints>|<async_insert>0</async_insert>"
    text = re.sub(unknown, "", DEPLOYED.read_text(), flags=re.DOTALL)
    (users / "weir.xml").write_text(text.replace("clickhouse>", "yandex>"))
    with ClickHouse(directory / "clickhouse") as server:

        def execute(login: tuple[str, str], statement: str) -> object:
            client = Client("127.0.0.1", server.port, user=login[0], password=login[1])
            try:
                return client.execute(statement)
            finally:
                client.disconnect()

        execute(SINK, "CREATE DATABASE weir")
        execute(SINK, "CREATE TABLE weir.words (subject String) ENGINE = Log")
        execute(SINK, "INSERT INTO weir.words SELECT 'a'")
        assert execute(READER, "SELECT subject FROM weir.words") == [("a",)]
        for statement in ("INSERT INTO weir.words SELECT 'b'", "DROP TABLE weir.words"):
            with pytest.raises(ServerException, match="readonly"):
                execute(READER, statement)
        with pytest.raises(ServerException, match="password"):
            execute((READER[0], "wrong"), "SELECT 1")


@pytest.mark.fleet
def test_the_server_is_reached_by_tls_and_known_by_its_certificate(directory: Path) -> None:
    place, port = directory / "tls", free_port()
    (place / "config.d").mkdir(parents=True)
    for name in ("server", "other"):
        files = ["-keyout", f"{place}/{name}.key", "-out", f"{place}/{name}.crt"]
        subject = ["-subj", "/CN=clickhouse", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:3072", "-nodes", *subject, *files],
            capture_output=True,
            check=True,
        )
    text = SERVER.read_text().replace("/etc/clickhouse-server", str(place)).replace("9440<", f"{port}<")
    text = text.replace("<listen_host>::", "<listen_host>127.0.0.1").replace("clickhouse>", "yandex>")
    (place / "config.d/server.xml").write_text(text)
    with ClickHouse(place):

        def known_by(certificate: str) -> History:
            address = f"127.0.0.1:{port}"
            return History(server=address, database="default", secure=True, ca_location=str(place / certificate))

        with Store(known_by("server.crt")) as store:
            assert store.query("SELECT 1") == [(1,)]
        with Store(known_by("other.crt")) as store, pytest.raises(StoreError, match="certificate"):
            store.query("SELECT 1")
