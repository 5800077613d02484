"""Queries over HTTP of a history without a server."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.process import free_port
from sinks import rows
from sinks.embedded import Embedded
from sinks.query_server import QueryServer
from sinks.reader import reader
from sinks.store import StoreError
from tests.sinks.made import event, events, insert, rows_of
from weir.settings import History


@pytest.fixture
def address(store: Embedded) -> Iterator[str]:
    insert(store, "events", rows.EVENT, rows_of(events([event(1), event(2)])))
    address = f"127.0.0.1:{free_port()}"
    server = QueryServer(address, store)
    yield address
    server.stop()


def get(url: str, body: bytes | None = None) -> str:
    with urllib.request.urlopen(url, body, timeout=10) as answer:
        return str(answer.read().decode())


def test_a_query_by_either_method_in_any_format(address: str) -> None:
    query = "SELECT seq FROM events FINAL ORDER BY seq"
    assert get(f"http://{address}/?query={urllib.parse.quote(query)}") == "1\n2\n"
    found = get(f"http://{address}/?default_format=JSONCompact", query.encode() + b" ;\n")
    assert json.loads(found)["data"] == [[1], [2]]
    assert get(f"http://{address}/ping") == "Ok.\n"


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO events (seq) VALUES (1)",
        "DROP TABLE events",
        "ALTER TABLE events DELETE WHERE 1",
        "SELECT 1; DROP TABLE events",
        "SELECT 1) ; DROP TABLE events",
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
        "SELECT * FROM file('/etc/hostname', 'LineAsString') SETTINGS readonly=0",
        "SELECT 1 INTO OUTFILE '{directory}/out' FORMAT CSV",
        "SELECT 1) INTO OUTFILE '{directory}/out' FORMAT CSV --",
        "SELECT 1) SETTINGS readonly=0 --",
        "SET readonly=0",
        "nonsense",
        "",
    ],
)
def test_nothing_but_reading_tables(address: str, store: Embedded, tmp_path: Path, query: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(f"http://{address}/", query.replace("{directory}", str(tmp_path)).encode())
    with raised.value as error:
        assert error.code == 400
        assert error.read()
    assert not (tmp_path / "out").exists()
    assert list(map(list, store.query("SELECT count() FROM events FINAL"))) == [[2]]


def test_what_a_failed_query_gave_is_not_in_the_next_answer(address: str, store: Embedded) -> None:
    for _ in range(3):
        with pytest.raises(StoreError, match="Code: 395"):
            store.query("SELECT throwIf(number = 3) FROM numbers(5)")
        assert list(map(list, store.query("SELECT 7"))) == [[7]]
        with pytest.raises(urllib.error.HTTPError) as raised:
            get(f"http://{address}/", b"SELECT throwIf(number = 3) FROM numbers(5)")
        raised.value.close()
        assert get(f"http://{address}/", b"SELECT 7") == "7\n"


def test_a_query_without_its_length_or_of_too_great_a_length_is_refused(address: str) -> None:
    request = urllib.request.Request(f"http://{address}/", b"SELECT 1", {"Content-Length": "99999999999"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=10)
    raised.value.close()
    assert raised.value.code == 400


def test_the_reader_reads_and_tells_what_is_wrong(address: str) -> None:
    with reader(History(listen=address)) as history:
        assert list(map(list, history.query("SELECT seq FROM events FINAL ORDER BY seq"))) == [[1], [2]]
        with pytest.raises(StoreError, match="nosuch"):
            history.query("SELECT 1 FROM nosuch")
    with (
        reader(History(listen=f"127.0.0.1:{free_port()}")) as nobody,
        pytest.raises(StoreError, match="no sink answers"),
    ):
        nobody.query("SELECT 1")
