"""Panels of Grafana: statistics, time series and tables, as plain dictionaries in the form of Grafana's JSON.

Invariants: each panel says in its description what it shows and what to do about it; a panel has one query; places and
ids are given by `laid_out`.

The form: Grafana's schema, https://github.com/grafana/grafana-foundation-sdk (tests/dashboards read ours by it).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.query import SOURCE, target

Panel = dict[str, Any]
Step = tuple[float, str]
"""From this value on, this colour."""

GRAFANA = "11.6.0"
"""The version whose form this is."""
COLUMNS = 24
"""Width of a dashboard."""

GOOD, MIND, BAD, INFORMATION, PAST = "green", "orange", "red", "blue", "text"


def stat(title: str, description: str, sql: str, unit: str, *steps: Step, none: str = "") -> Panel:
    """One number; from each step's value on it has the step's colour. `none` is shown for no number."""
    defaults: dict[str, Any] = {
        "unit": unit,
        "decimals": 0,
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds(GOOD if steps else INFORMATION, steps),
    }
    if none:
        defaults["noValue"] = none
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto",
        "textMode": "value",
        "wideLayout": True,
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
    }
    return _panel("stat", title, description, target(sql, "table"), defaults, [], options)


def time_series(title: str, description: str, sql: str, unit: str, label: str) -> Panel:
    """Stacked bars for each value of the column `label`: where there is no row, there is nothing."""
    defaults = {
        "unit": unit,
        "min": 0,
        "displayName": f"${{__field.labels.{label}}}",
        "color": {"mode": "palette-classic-by-name"},
        "custom": {
            "drawStyle": "bars",
            "fillOpacity": 80,
            "lineWidth": 0,
            "stacking": {"mode": "normal", "group": "A"},
        },
    }
    options = {
        "legend": {"displayMode": "table", "placement": "right", "showLegend": True, "calcs": ["mean", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    panel = _panel("timeseries", title, description, target(sql, "timeSeries"), defaults, [], options)
    return panel | {"interval": "1m"}  # the history has sums for each minute


def table(title: str, description: str, sql: str, columns: Mapping[str, Mapping[str, Any]], none: str) -> Panel:
    """Rows. `columns` gives a column's own properties (`unit`, `custom.width`, …); `none` is shown for no rows."""
    defaults = {"unit": "short", "custom": {"align": "auto", "inspect": True, "filterable": True}, "noValue": none}
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": key, "value": value} for key, value in properties.items()],
        }
        for name, properties in columns.items()
    ]
    options = {"showHeader": True, "cellHeight": "sm"}
    return _panel("table", title, description, target(sql, "table"), defaults, overrides, options)


def coloured(colours: Mapping[str, str]) -> dict[str, Any]:
    """A column whose texts have colours."""
    mapped = {text: {"color": colour, "index": place} for place, (text, colour) in enumerate(colours.items())}
    return {
        "custom.cellOptions": {"type": "color-text"},
        "mappings": [{"type": "value", "options": mapped}],
    }


def marked(unit: str = "short") -> dict[str, Any]:
    """A column of numbers that stand out unless they are 0."""
    return {
        "unit": unit,
        "custom.cellOptions": {"type": "color-text"},
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds(PAST, [(1, MIND)]),
    }


def laid_out(*rows: tuple[int, *tuple[tuple[int, Panel], ...]]) -> list[Panel]:
    """Panels with their places: each row is its height and its panels, each with its width."""
    placed: list[Panel] = []
    y = 0
    for height, *row in rows:
        x = 0
        for width, panel in row:
            placed.append(panel | {"id": len(placed) + 1, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
            x += width
        y += height
    return placed


def _thresholds(below: str, steps: Sequence[Step]) -> dict[str, Any]:
    first = {"value": None, "color": below}
    return {"mode": "absolute", "steps": [first, *({"value": value, "color": colour} for value, colour in steps)]}


def _panel(
    kind: str,
    title: str,
    description: str,
    query: dict[str, Any],
    defaults: dict[str, Any],
    overrides: list[dict[str, Any]],
    options: dict[str, Any],
) -> Panel:
    return {
        "type": kind,
        "pluginVersion": GRAFANA,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "targets": [query],
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
    }
