"""Writes the dashboard and its data source as files for Grafana's provisioning.

Invariant: no file holds a password; the data source names the environment variable that Grafana reads.

The form: https://grafana.com/docs/grafana/latest/administration/provisioning/.
"""

import json
from pathlib import Path
from typing import Any

from dashboards import fleet
from dashboards.source import data_source
from weir.settings import Settings
from weir.settings_checks import GRAFANA_CLICKHOUSE_PASSWORD


def export(settings: Settings, directory: Path) -> list[Path]:
    """Write all files below `directory`, which is made if missing, and return them. Raises OSError."""
    dashboards = directory.absolute() / "dashboards"
    files = {
        dashboards / f"{fleet.UID}.json": json.dumps(fleet.dashboard(), indent=2) + "\n",
        directory / "provisioning" / "dashboards" / "weir.yaml": _yaml("providers", _provider(dashboards)),
        directory / "provisioning" / "datasources" / "weir.yaml": _yaml("datasources", _source(settings)),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)


def _provider(dashboards: Path) -> dict[str, Any]:
    return {
        "name": "weir",
        "type": "file",
        "folder": fleet.FOLDER,
        "folderUid": fleet.FOLDER_UID,
        "disableDeletion": True,
        "allowUiUpdates": False,
        "options": {"path": _literal(str(dashboards))},
    }


def _source(settings: Settings) -> dict[str, Any]:
    wanted = data_source(settings)
    values = {name: _literal(value) if isinstance(value, str) else value for name, value in wanted["jsonData"].items()}
    secret = {"password": f"${GRAFANA_CLICKHOUSE_PASSWORD}"}
    return wanted | {"jsonData": values, "secureJsonData": secret, "editable": False}


def _literal(text: str) -> str:
    """Grafana replaces $NAME in values by the environment's; a doubled $ is a plain one."""
    return text.replace("$", "$$")


def _yaml(key: str, entry: dict[str, Any]) -> str:
    """A file with one entry. Scalars are written as JSON, which YAML reads as it is."""
    first, *lines = _lines(entry)
    return "\n".join(["apiVersion: 1", f"{key}:", f"  - {first}", *(f"    {line}" for line in lines)]) + "\n"


def _lines(entry: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in entry.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {line}" for line in _lines(value))]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines
