"""The data source: how Grafana reaches the history in ClickHouse.

Invariant: it holds no password; that goes beside it, as Grafana's `secureJsonData`.

The fields: github.com/grafana/clickhouse-datasource, pkg/plugin/settings.go.
"""

from typing import Any

from dashboards.query import PLUGIN, PLUGIN_VERSION, UID
from weir.settings import Settings

NAME = "Weir history"


def data_source(settings: Settings) -> dict[str, Any]:
    """The data source in the form of Grafana's HTTP API."""
    grafana = settings.grafana
    host, _, port = grafana.clickhouse.rpartition(":")
    return {
        "uid": UID,
        "name": NAME,
        "type": PLUGIN,
        "access": "proxy",
        "jsonData": {
            "version": PLUGIN_VERSION,
            "host": host.strip("[]"),
            "port": int(port),
            "protocol": grafana.clickhouse_protocol,
            "secure": grafana.clickhouse_secure,
            "username": grafana.clickhouse_user,
            "defaultDatabase": settings.history.database,
        },
    }
