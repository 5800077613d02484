"""`weir dashboards`: bring Grafana's dashboards to Grafana, or write them as files for its provisioning.

Invariant: the token and ClickHouse's password come from the environment and are never printed.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from weir.cli import options, output
from weir.cli.output import REFUSED, UNREACHABLE, USAGE, CommandError
from weir.settings_checks import GRAFANA_CLICKHOUSE_PASSWORD, GRAFANA_TOKEN

app = typer.Typer(no_args_is_help=True, help="Bring the dashboards to Grafana.")


@app.command()
def push(context: typer.Context) -> None:
    """Bring folder, data source and dashboards to Grafana; what is there already stays as it is."""
    settings = options.settings(context)
    token = os.environ.get(GRAFANA_TOKEN, "")
    if not token:
        raise CommandError(f"{GRAFANA_TOKEN}: expected the token of a Grafana service account, got nothing", USAGE)
    publish = _part("dashboards.publish")
    try:
        for pushed in publish.push(settings, token, os.environ.get(GRAFANA_CLICKHOUSE_PASSWORD, "")):
            output.say(f"{pushed.what}: {pushed.change}")
    except publish.RefusedError as error:
        raise CommandError(str(error), REFUSED) from None
    except publish.UnreachableError as error:
        raise CommandError(str(error), UNREACHABLE) from None
    except publish.NotDoneError as error:
        raise CommandError(str(error)) from None


@app.command()
def export(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made if it is missing; files in it are replaced.")],
) -> None:
    """Write dashboards and data source as files that Grafana reads at its start (provisioning)."""
    settings = options.settings(context)
    try:
        for path in _part("dashboards.export").export(settings, directory):
            output.say(str(path))
    except OSError as error:
        raise CommandError(f"{error.filename}: {error.strerror}") from None


def _part(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("dashboards", "weir"):
            raise  # ours: a fault, not something to install
        raise CommandError(f"{package} is not installed: install Weir with its extra 'dashboards'") from None
