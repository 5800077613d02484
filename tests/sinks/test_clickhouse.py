"""The history in a real server, over the wire: Debian's, or the one that WEIR_TEST_CLICKHOUSE names."""

import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.clickhouse import ClickHouse as Server
from fleet.clickhouse import Given, given_or_own
from fleet.own import CHECKOUT
from fleet.process import free_port
from sinks import rollups, rows
from sinks.clickhouse import ClickHouse
from sinks.identity import Identity, ask
from sinks.store import LOGIN_REFUSED, StoreError
from tests.fleet.conftest import directory
from tests.sinks.conftest import KEEP_DAYS
from tests.sinks.made import NOON, Way, event, events, insert, login, rejected, rows_of
from tests.sinks.test_rollups import outcomes
from tests.sinks.test_rows import ODD
from weir.settings import History

__all__ = ["directory"]

pytestmark = pytest.mark.fleet

MIDNIGHT = 1_790_035_200.0


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server | Given]:
    with given_or_own(directory / "clickhouse") as started:
        yield started


@pytest.fixture
def history(server: Server | Given) -> History:
    return server.history(f"weir_test{random.randrange(10**9)}")


@pytest.fixture
def store(history: History) -> Iterator[ClickHouse]:
    with ClickHouse(history) as opened:
        yield opened


def test_rows_come_back_as_they_were(store: ClickHouse) -> None:
    texts = [ODD, "x" * 1_000_000, ""]
    made = [rows_of(events([event(seq, sender=text, clock_offset=0.5)]))[0] for seq, text in enumerate(texts)]
    insert(store, "events", rows.EVENT, made, "token")
    found = store.query("SELECT seq, sender, toUInt32(minute), clock_offset FROM events FINAL ORDER BY seq")
    assert [list(row) for row in found] == [[seq, text, NOON - 60, 0.5] for seq, text in enumerate(texts)]


def test_a_batch_over_midnight_is_completed_and_summed(store: ClickHouse) -> None:
    batch = [events([event(seq, time=MIDNIGHT + seq - 50) for seq in range(100)])]
    later = [row for row in rows_of(batch[0]) if row[0] >= MIDNIGHT]
    insert(store, "events", rows.EVENT, later)
    answer = ask(store, Identity().divide(batch))
    assert [seq for one in answer.missing for seq in one.seqs] == list(range(50))
    insert(store, "events", rows.EVENT, rows_of(*answer.missing))
    touched = rollups.nothing()
    rollups.touch(touched, batch, KEEP_DAYS, NOON)
    rollups.make(store, touched)
    rollups.make(store, touched)
    days = store.query("SELECT toString(day), events, messages FROM days FINAL ORDER BY day")
    assert [list(row) for row in days] == [["2026-09-21", 50, 50], ["2026-09-22", 50, 50]]


def test_what_the_mail_log_tells_is_stored_and_summed(store: ClickHouse) -> None:
    way = Way(1).submitted(uid=33).delivery("sent").delivery("bounced", NOON + 7200, bounce="rate", text="no")
    batch = [events([*way.events, event(4), rejected(5), login(6, failed="credentials", tries=4)])]
    made = rows.together(batch)
    store.insert("events", tuple(made), list(made.values()))
    insert(store, "events", rows.REQUEST, [row[: len(rows.REQUEST)] for row in rows_of(events([event(7)]))])
    found = store.query("SELECT uid, text, tries, message_id FROM events FINAL ORDER BY seq")
    assert [list(row) for row in found] == [
        [33, "", 0, "<1@a.example>"],
        [-1, "", 0, "<1@a.example>"],
        [-1, "no", 0, "<1@a.example>"],
        *([-1, "", 0, ""], [-1, "", 0, ""], [-1, "", 4, ""], [-1, "", 0, ""]),
    ]
    touched = rollups.nothing()
    rollups.touch(touched, batch, KEEP_DAYS, NOON)
    rollups.make(store, touched)
    rollups.make(store, touched)
    hour, alice = int(NOON) // 3600 * 3600, "alice@example.org"
    assert outcomes(store) == [
        [hour, alice, "bounced", "rate", 1],
        [hour, alice, "login_failed", "credentials", 4],
        [hour, alice, "sent", "", 1],
        [hour, alice, "submitted", "", 1],
    ]
    assert [row[2:] for row in outcomes(store, "client_outcomes", "client")] == [
        *(["bounced", "rate", 1], ["login_failed", "credentials", 4]),
        *(["rejected", "", 1], ["sent", "", 1], ["submitted", "", 1]),
    ]


def test_what_the_server_says_is_one_line_with_its_code(store: ClickHouse) -> None:
    with pytest.raises(StoreError, match="nosuch") as raised:
        store.query("SELECT * FROM nosuch")
    assert raised.value.code == 60
    assert "\n" not in str(raised.value)
    assert list(map(list, store.query("SELECT 1"))) == [[1]]  # it goes on after that


def test_a_wrong_password_and_a_server_that_is_away(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_CLICKHOUSE_PASSWORD", "no secret")
    with ClickHouse(history) as wrong, pytest.raises(StoreError) as raised:
        wrong.query("SELECT 1")
    assert raised.value.code in LOGIN_REFUSED
    assert "no secret" not in str(raised.value)
    with ClickHouse(History(server=f"127.0.0.1:{free_port()}")) as away, pytest.raises(StoreError) as refused:
        away.query("SELECT 1")
    assert refused.value.code == 0


def test_a_server_that_does_not_answer_is_given_up(history: History) -> None:
    """It takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sinks.clickhouse._CONNECT_SECONDS", 0.2)
        patch.setattr("sinks.clickhouse._ANSWER_SECONDS", 0.2)
        start = time.monotonic()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with ClickHouse(History(server=address)) as store, pytest.raises(StoreError):
            store.query("SELECT 1")
        assert time.monotonic() - start < 5


def test_a_sink_whose_login_is_refused_ends_with_one_clear_line(history: History, tmp_path: Path) -> None:
    config = tmp_path / "weir.toml"
    config.write_text(f'[history]\nserver = "{history.server}"\ndatabase = "{history.database}"\nmetrics = ""\n')
    done = subprocess.run(
        [sys.executable, "-m", "weir.cli", "--config", str(config), "sink"],
        cwd=CHECKOUT,
        env={**os.environ, "WEIR_CLICKHOUSE_PASSWORD": "no secret"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("weir: the history refuses our login: ")
    assert "no secret" not in done.stderr
    assert done.stderr.count("\n") == 1
