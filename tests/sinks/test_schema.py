"""The history's tables over releases."""

from pathlib import Path

import pytest

from sinks import decision_rows, rows, schema
from sinks.embedded import Embedded
from tests.sinks.conftest import KEEP_DAYS
from tests.sinks.made import event, events, insert, rows_of


def test_applied_twice_it_changes_nothing(store: Embedded) -> None:
    before = store.query("SELECT name, engine_full FROM system.tables WHERE database = 'weir' ORDER BY name")
    schema.migrate(store, KEEP_DAYS)
    after = store.query("SELECT name, engine_full FROM system.tables WHERE database = 'weir' ORDER BY name")
    assert after == before
    ((versions,),) = store.query("SELECT count() FROM schema_versions")
    assert versions == 1


def test_how_long_events_are_kept_follows_the_setting(store: Embedded) -> None:
    schema.migrate(store, 7)
    ((engine,),) = store.query("SELECT engine_full FROM system.tables WHERE name = 'events' AND database = 'weir'")
    assert "TTL minute + toIntervalDay(7)" in engine
    schema.migrate(store, 9)
    ((engine,),) = store.query("SELECT engine_full FROM system.tables WHERE name = 'events' AND database = 'weir'")
    assert "TTL minute + toIntervalDay(9)" in engine


def test_a_newer_schema_is_not_touched(store: Embedded) -> None:
    schema.record(store, 99, KEEP_DAYS)
    with pytest.raises(schema.SchemaError, match="schema version 99 and this weir knows versions up to 2"):
        schema.migrate(store, KEEP_DAYS)


def test_a_column_that_a_newer_release_added_is_filled_by_its_default(store: Embedded) -> None:
    store.run("ALTER TABLE events ADD COLUMN country LowCardinality(String) DEFAULT 'unknown'")
    insert(store, "events", rows.EVENT, rows_of(events([event(1)])))
    assert list(map(list, store.query("SELECT seq, country FROM events FINAL"))) == [[1, "unknown"]]


def test_each_column_that_we_write_is_in_the_schema(store: Embedded) -> None:
    for table, columns in (
        ("events", rows.EVENT),
        ("decisions", decision_rows.DECISION),
        ("words", decision_rows.WORD),
    ):
        found = store.query(f"SELECT name FROM system.columns WHERE table = '{table}' AND database = 'weir'")
        assert {name for (name,) in found} == set(columns)


def test_rows_beyond_their_days_go(store: Embedded) -> None:
    schema.migrate(store, 3)
    old, new = rows_of(events([event(1, time=1_600_000_000.0)])), rows_of(events([event(2, time=4_000_000_000.0)]))
    insert(store, "events", rows.EVENT, [*old, *new])
    store.run("OPTIMIZE TABLE events FINAL")
    assert list(map(list, store.query("SELECT seq FROM events FINAL"))) == [[2]]


def test_a_history_is_opened_again(tmp_path: Path) -> None:
    with Embedded(tmp_path / "history", "weir") as first:
        schema.migrate(first, KEEP_DAYS)
        insert(first, "events", rows.EVENT, rows_of(events([event(1)])))
    with Embedded(tmp_path / "history", "weir") as second:
        schema.migrate(second, KEEP_DAYS)
        assert list(map(list, second.query("SELECT seq FROM events FINAL"))) == [[1]]
