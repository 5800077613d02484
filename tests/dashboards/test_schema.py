"""The dashboard's JSON by Grafana's own schema: the models that grafana-foundation-sdk generates from it."""

import json
from collections import Counter
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import fleet
from dashboards.panels import COLUMNS


@pytest.fixture(scope="module", autouse=True)
def _models() -> None:
    plugins.register_default_plugins()


def lost(ours: Any, theirs: Any, path: str = "$") -> list[str]:
    """Where `theirs` lacks something of ours, or has it otherwise."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            place
            for key, value in ours.items()
            for place in (lost(value, theirs[key], f"{path}.{key}") if key in theirs else [f"{path}.{key}"])
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            place
            for index, (one, other) in enumerate(zip(ours, theirs, strict=True))
            for place in lost(one, other, f"{path}[{index}]")
        ]
    return [] if ours == theirs else [path]


def read(document: Any) -> Any:
    """The document as the models hold it."""
    return json.loads(json.dumps(Dashboard.from_json(document), cls=JSONEncoder))


def test_the_models_know_all_that_we_wrote() -> None:
    document = json.loads(json.dumps(fleet.dashboard()))
    assert lost(document, read(document)) == []


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("", "foldr"),
        ("panels.0", "titel"),
        ("panels.0.options", "colour"),
        ("panels.0.fieldConfig.defaults", "units"),
        ("panels.6.fieldConfig.defaults.custom", "fill"),
        ("panels.11.options", "cell"),
        ("templating.list.0", "many"),
    ],
)
def test_a_key_that_the_models_do_not_know_is_found(path: str, key: str) -> None:
    document = json.loads(json.dumps(fleet.dashboard()))
    place = document
    for step in filter(None, path.split(".")):
        place = place[int(step)] if step.isdecimal() else place[step]
    place[key] = 1
    assert [one.rpartition(".")[2] for one in lost(document, read(document))] == [key]


def test_panels_fill_the_rows_and_do_not_overlap() -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for panel in fleet.dashboard()["panels"]:
        place = panel["gridPos"]
        for y in range(place["y"], place["y"] + place["h"]):
            cells.update((x, y) for x in range(place["x"], place["x"] + place["w"]))
    assert set(cells.values()) == {1}
    assert {x for x, _ in cells} == set(range(COLUMNS))
    assert len(cells) == COLUMNS * (max(y for _, y in cells) + 1)


def test_ids_and_titles_are_unique_and_every_panel_explains_itself() -> None:
    panels = fleet.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert len(panel["description"]) > 60
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_query_reads_merged_rows_and_no_events() -> None:
    for _, sql in fleet.queries():
        words = sql.split()
        tables = [(words[at + 1], words[at + 2]) for at, word in enumerate(words[:-2]) if word == "FROM"]
        named = [(name, final) for name, final in tables if not name.startswith("(")]
        assert named
        sums = {"host_minutes", "host_outcomes", "account_hours", "client_hours"}
        assert {name for name, _ in named} <= {*sums, "decisions", "words"}
        assert {final for _, final in named} == {"FINAL"}
