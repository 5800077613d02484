"""`weir dashboards export`: files for Grafana's provisioning."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dashboards import fleet
from dashboards.export import export
from weir import cli, settings_file
from weir.settings import Grafana, Settings

SOURCE_KEYS = {
    *("name", "type", "access", "orgId", "uid", "url", "user", "database", "basicAuth", "basicAuthUser"),
    *("withCredentials", "isDefault", "jsonData", "secureJsonData", "version", "editable"),
}
"""Keys of a data source in https://grafana.com/docs/grafana/latest/administration/provisioning/."""
PROVIDER_KEYS = {
    *("name", "orgId", "type", "disableDeletion", "updateIntervalSeconds", "allowUiUpdates", "folder", "folderUid"),
    "options",
}
"""Keys of a dashboards' provider in the same place."""


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def run(*arguments: str) -> tuple[int, str, str]:
    ran = CliRunner().invoke(cli.app, ["dashboards", "export", *arguments])
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.stdout, ran.stderr


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(settings_file.ENVIRONMENT, raising=False)
    monkeypatch.setattr(settings_file, "DEFAULT", tmp_path / "none.toml")


def test_the_command_writes_three_files_and_names_them(tmp_path: Path) -> None:
    code, out, err = run(str(tmp_path / "out"))
    assert (code, err) == (0, "")
    written = sorted(str(path) for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert sorted(out.split()) == written
    assert [Path(path).relative_to(tmp_path / "out").as_posix() for path in written] == [
        "dashboards/weir-fleet.json",
        "provisioning/dashboards/weir.yaml",
        "provisioning/datasources/weir.yaml",
    ]
    assert run(str(tmp_path / "out")) == (0, out, "")


def test_the_dashboard_is_the_one_that_is_pushed(tmp_path: Path) -> None:
    export(Settings(), tmp_path)
    assert json.loads((tmp_path / "dashboards/weir-fleet.json").read_text()) == fleet.dashboard()


def test_the_provider_names_the_folder_of_the_dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export(Settings(), Path("relative"))
    document = load(tmp_path / "relative/provisioning/dashboards/weir.yaml")
    assert set(document) == {"apiVersion", "providers"}
    (provider,) = document["providers"]
    assert set(provider) <= PROVIDER_KEYS
    assert (provider["type"], provider["folder"], provider["folderUid"]) == ("file", "Weir", "weir")
    assert (Path(provider["options"]["path"]) / "weir-fleet.json").is_file()
    assert Path(provider["options"]["path"]).is_absolute()


def test_the_data_source_has_our_settings_and_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_GRAFANA_CLICKHOUSE_PASSWORD", "hunter2")
    settings = Settings(grafana=Grafana(clickhouse="[::1]:8443", clickhouse_protocol="http", clickhouse_secure=True))
    export(settings, tmp_path)
    document = load(tmp_path / "provisioning/datasources/weir.yaml")
    assert document == {
        "apiVersion": 1,
        "datasources": [
            {
                "uid": "weir-clickhouse",
                "name": "Weir history",
                "type": "grafana-clickhouse-datasource",
                "access": "proxy",
                "jsonData": {
                    "version": "4.0.0",
                    "host": "::1",
                    "port": 8443,
                    "protocol": "http",
                    "secure": True,
                    "username": "weir_reader",
                    "defaultDatabase": "weir",
                },
                "secureJsonData": {"password": "$WEIR_GRAFANA_CLICKHOUSE_PASSWORD"},
                "editable": False,
            }
        ],
    }
    assert set(document["datasources"][0]) <= SOURCE_KEYS
    assert all("hunter2" not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_dollar_is_no_variable(tmp_path: Path) -> None:
    export(Settings(grafana=Grafana(clickhouse_user='a$HOME"ü: #')), tmp_path)
    document = load(tmp_path / "provisioning/datasources/weir.yaml")
    assert document["datasources"][0]["jsonData"]["username"] == 'a$$HOME"ü: #'


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = run(str(tmp_path / "file"))
    assert (code, out) == (1, "")
    assert err == f"weir: {tmp_path}/file/dashboards: Not a directory\n"
