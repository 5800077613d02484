"""`weir dashboards push`, against a server that keeps state as Grafana's HTTP API describes it."""

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dashboards import fleet, publish, query, source
from fleet.process import free_port
from tests.dashboards.grafana import TOKEN, VIEWER, Grafana
from weir import cli
from weir.settings import Settings

ALL_WRITES = ["POST /folders", "POST /datasources", "POST /dashboards/db"]
PASSWORD = "pass-of-clickhouse"


@pytest.fixture
def grafana(monkeypatch: pytest.MonkeyPatch) -> Iterator[Grafana]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "WEIR_GRAFANA_CLICKHOUSE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WEIR_GRAFANA_TOKEN", TOKEN)
    with Grafana() as started:
        yield started


class Push:
    """One run of the command with these settings."""

    def __init__(self, directory: Path, url: str, settings: str = "") -> None:
        path = directory / "weir.toml"
        path.write_text(f'[grafana]\nurl = "{url}"\n{settings}')
        ran = CliRunner().invoke(cli.app, ["--config", str(path), "dashboards", "push"])
        if ran.exception and not isinstance(ran.exception, SystemExit):
            raise ran.exception
        self.code, self.out, self.err = ran.exit_code, ran.stdout, ran.stderr
        assert PASSWORD not in self.out + self.err
        assert TOKEN not in self.out + self.err

    @property
    def changes(self) -> list[str]:
        assert (self.code, self.err) == (0, "")
        return [line.rpartition(": ")[2] for line in self.out.splitlines()]


def test_the_first_push_makes_all(grafana: Grafana, tmp_path: Path) -> None:
    assert Push(tmp_path, grafana.url).changes == ["created"] * 3
    assert grafana.writes == ALL_WRITES
    assert grafana.folders["weir"]["title"] == "Weir"
    assert grafana.sources["weir-clickhouse"]["jsonData"]["host"] == "127.0.0.1"
    assert grafana.dashboards["weir-fleet"]["meta"]["folderUid"] == "weir"
    assert grafana.dashboards["weir-fleet"]["dashboard"]["panels"] == fleet.dashboard()["panels"]


def test_a_second_push_changes_nothing(grafana: Grafana, tmp_path: Path) -> None:
    Push(tmp_path, grafana.url)
    before = copy.deepcopy((grafana.folders, grafana.sources, grafana.dashboards))
    grafana.writes.clear()
    ran = Push(tmp_path, grafana.url)
    assert ran.out == (
        "folder Weir: unchanged\ndata source Weir history: unchanged\ndashboard Weir: fleet: unchanged\n"
    )
    assert grafana.writes == []
    assert before == (grafana.folders, grafana.sources, grafana.dashboards)


def test_grafana_below_a_path(grafana: Grafana, tmp_path: Path) -> None:
    with Grafana("/monitoring/grafana") as below:
        assert Push(tmp_path, f"{below.url}/").changes == ["created"] * 3
        assert Push(tmp_path, below.url).changes == ["unchanged"] * 3


def test_a_dashboard_that_somebody_changed_is_made_ours_again(grafana: Grafana, tmp_path: Path) -> None:
    Push(tmp_path, grafana.url)
    stored = grafana.dashboards["weir-fleet"]["dashboard"]
    stored["panels"][0]["title"] = "Mine"
    assert Push(tmp_path, grafana.url).changes == ["unchanged", "unchanged", "updated"]
    assert grafana.dashboards["weir-fleet"]["dashboard"]["panels"] == fleet.dashboard()["panels"]
    assert grafana.dashboards["weir-fleet"]["dashboard"]["version"] == 2


@pytest.mark.parametrize("change", ["more panels", "less panels"])
def test_another_number_of_panels_is_a_change(grafana: Grafana, tmp_path: Path, change: str) -> None:
    Push(tmp_path, grafana.url)
    panels = grafana.dashboards["weir-fleet"]["dashboard"]["panels"]
    if change == "more panels":
        panels.append(panels[0])
    else:
        panels.pop()
    assert Push(tmp_path, grafana.url).changes == ["unchanged", "unchanged", "updated"]


def test_a_dashboard_in_another_folder_is_moved_back(grafana: Grafana, tmp_path: Path) -> None:
    Push(tmp_path, grafana.url)
    grafana.dashboards["weir-fleet"]["meta"]["folderUid"] = ""
    assert Push(tmp_path, grafana.url).changes == ["unchanged", "unchanged", "updated"]
    assert grafana.dashboards["weir-fleet"]["meta"]["folderUid"] == "weir"


def test_what_grafana_adds_is_no_change(grafana: Grafana, tmp_path: Path) -> None:
    Push(tmp_path, grafana.url)
    stored = grafana.dashboards["weir-fleet"]["dashboard"]
    stored["weekStart"] = ""
    stored["panels"][0]["transparent"] = False
    assert Push(tmp_path, grafana.url).changes == ["unchanged"] * 3


def test_other_settings_update_the_data_source_and_keep_what_others_added(grafana: Grafana, tmp_path: Path) -> None:
    Push(tmp_path, grafana.url)
    grafana.sources["weir-clickhouse"]["jsonData"]["queryTimeout"] = "30"
    changed = 'clickhouse = "ch.example.org:9440"\nclickhouse_secure = true\n'
    assert Push(tmp_path, grafana.url, changed).changes == ["unchanged", "updated", "unchanged"]
    (stored,) = grafana.sources.values()
    assert stored["jsonData"] == {
        "version": "4.0.0",
        "host": "ch.example.org",
        "port": 9440,
        "protocol": "native",
        "secure": True,
        "username": "weir_reader",
        "defaultDatabase": "weir",
        "queryTimeout": "30",
    }
    assert Push(tmp_path, grafana.url, changed).changes == ["unchanged"] * 3


def test_a_password_is_written_and_kept(grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_GRAFANA_CLICKHOUSE_PASSWORD", PASSWORD)
    Push(tmp_path, grafana.url)
    assert grafana.secrets == {"weir-clickhouse": {"password": PASSWORD}}
    monkeypatch.setenv("WEIR_GRAFANA_CLICKHOUSE_PASSWORD", f"new {PASSWORD}")
    assert Push(tmp_path, grafana.url).changes == ["unchanged", "updated", "unchanged"]
    monkeypatch.delenv("WEIR_GRAFANA_CLICKHOUSE_PASSWORD")
    assert Push(tmp_path, grafana.url).changes == ["unchanged"] * 3
    assert Push(tmp_path, grafana.url, 'clickhouse_user = "reader"').changes == ["unchanged", "updated", "unchanged"]
    assert grafana.secrets == {"weir-clickhouse": {"password": f"new {PASSWORD}"}}
    assert PASSWORD not in json.dumps(grafana.sources)


class TestErrors:
    """One line on stderr, and the exit code."""

    def test_no_token(self, grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WEIR_GRAFANA_TOKEN")
        ran = Push(tmp_path, grafana.url)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err == "weir: WEIR_GRAFANA_TOKEN: expected the token of a Grafana service account, got nothing\n"

    def test_a_package_that_is_not_installed(
        self, grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delitem(sys.modules, publish.__name__)
        monkeypatch.setitem(sys.modules, "grafana_api.grafana_api", None)
        ran = Push(tmp_path, grafana.url)
        expected = "weir: grafana_api is not installed: install Weir with its extra 'dashboards'\n"
        assert (ran.code, ran.err) == (1, expected)

    def test_a_wrong_token(self, grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEIR_GRAFANA_TOKEN", "wrong")
        ran = Push(tmp_path, grafana.url)
        assert (ran.code, ran.err) == (4, f"weir: Grafana at {grafana.url} answers: Unauthorized\n")

    def test_a_token_that_may_not_write(
        self, grafana: Grafana, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEIR_GRAFANA_TOKEN", VIEWER)
        ran = Push(tmp_path, grafana.url)
        assert ran.code == 4
        assert "additional permissions" in ran.err
        assert ran.err.count("\n") == 1

    def test_nobody_there(self, grafana: Grafana, tmp_path: Path) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        ran = Push(tmp_path, url)
        assert ran.code == 3
        assert ran.err.startswith(f"weir: Grafana at {url} cannot be reached: ")
        assert ran.err.count("\n") == 1

    def test_a_name_that_another_data_source_has(self, grafana: Grafana, tmp_path: Path) -> None:
        grafana.sources["other"] = {"uid": "other", "name": source.NAME}
        ran = Push(tmp_path, grafana.url)
        assert (ran.code, ran.out) == (1, "folder Weir: created\n")
        assert "data source with the same name already exists" in ran.err

    @pytest.mark.parametrize(
        ("status", "body", "told"),
        [
            (200, b"<html>Sign in</html>", "expected Grafana, got an answer that is no JSON"),
            (200, b"[]", "expected Grafana, got an answer of another form"),
            (200, b"7", "expected Grafana, got an answer of another form"),
            (500, b'{"message": "database is locked"}', "Server Error 500: database is locked"),
            (502, b"<html>no message from upstream</html>", "expected Grafana, got an answer of another form"),
            (400, b'{"message": "Cannot save provisioned dashboard"}', "Cannot save provisioned dashboard"),
        ],
    )
    def test_a_strange_answer(self, grafana: Grafana, tmp_path: Path, status: int, body: bytes, told: str) -> None:
        grafana.answer = status, body
        ran = Push(tmp_path, grafana.url)
        assert ran.code == 1
        assert told in ran.err
        assert ran.err.count("\n") == 1


def test_the_source_of_the_dashboard_is_the_one_that_is_pushed() -> None:
    wanted = source.data_source(Settings())
    assert (wanted["uid"], wanted["type"]) == (query.UID, query.PLUGIN)
    assert {panel["datasource"]["uid"] for panel in fleet.dashboard()["panels"]} == {query.UID}
