"""The rules that settings ask for: the first ones, others, none, and such as cannot be used."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agents.rulebook import Rulebook, look_at_own
from weir.settings import OwnRule, Rules

NOT_RELOADED = "rules not reloaded, the former ones stay"


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def rules(path: Path, text: str) -> Rules:
    path.write_text(text)
    return Rules(files=[str(path)], dns=False)


def test_no_files_are_no_engine() -> None:
    book = Rulebook()
    assert book.engine(Rules()) is None
    assert asyncio.run(book.reload(None, Rules())) is None


def test_the_same_files_are_read_again_by_the_same_engine(tmp_path: Path, logs: list[Any]) -> None:
    book = Rulebook()
    asked = rules(tmp_path / "a.cf", "id=A; action=OK\n")
    engine = book.engine(asked)
    assert engine is not None
    rules(tmp_path / "a.cf", "id=B; action=OK\n")
    assert asyncio.run(book.reload(engine, asked)) is engine
    assert [rule.id for rule in engine.ruleset.rules] == ["B"]
    assert [entry["event"] for entry in logs] == ["rules reloaded"]


def test_other_files_are_another_engine_and_the_first_ones_too(tmp_path: Path, logs: list[Any]) -> None:
    book = Rulebook()
    first = asyncio.run(book.reload(None, rules(tmp_path / "a.cf", "id=A; action=OK\n")))
    assert first is not None
    second = asyncio.run(book.reload(first, rules(tmp_path / "b.cf", "id=B; action=OK\n")))
    assert second is not None
    assert [engine.ruleset.rules[0].id for engine in (first, second)] == ["A", "B"]
    assert [entry["event"] for entry in logs] == ["other rule files are in use"] * 2


def test_files_that_cannot_be_used_change_nothing(tmp_path: Path, logs: list[Any]) -> None:
    book = Rulebook()
    good = rules(tmp_path / "a.cf", "id=A; action=OK\n")
    engine = book.engine(good)
    bad = rules(tmp_path / "b.cf", "id=B; action=OK\nid=C; size==many; action=OK\n")
    assert asyncio.run(book.reload(engine, bad)) is engine
    assert asyncio.run(book.reload(engine, Rules(files=[str(tmp_path / "missing.cf")], dns=False))) is engine
    assert [entry["event"] for entry in logs] == [NOT_RELOADED] * 2
    assert logs[0]["errors"][0].startswith(f"{tmp_path}/b.cf:2:")
    assert asyncio.run(book.reload(engine, good)) is engine, "they were never in use"
    assert logs[-1]["event"] == "rules reloaded"


def test_none_any_more_is_told_once(tmp_path: Path, logs: list[Any]) -> None:
    book = Rulebook()
    engine = book.engine(rules(tmp_path / "a.cf", "id=A; action=OK\n"))
    engine = asyncio.run(book.reload(engine, Rules()))
    assert asyncio.run(book.reload(engine, Rules())) is None
    assert [entry["event"] for entry in logs] == ["no rules are in use any more"]


def test_a_resolver_stays_until_a_restart(tmp_path: Path) -> None:
    book = Rulebook()
    (tmp_path / "a.cf").write_text("id=A; action=OK\n")
    old = Rules(files=[str(tmp_path / "a.cf")], resolver="127.0.0.1:53")
    new = Rules(files=[str(tmp_path / "a.cf")], resolver="127.0.0.2:53")
    assert not book.needs_restart(old, new)
    book.engine(old)
    assert book.needs_restart(old, new)
    assert not book.needs_restart(old, old)


def test_settings_of_rules_that_are_not_there_are_told(tmp_path: Path, logs: list[Any]) -> None:
    engine = Rulebook().engine(rules(tmp_path / "a.cf", "id=TWO; action=OK\n"))
    look_at_own(engine, Rules(own={"TWO": OwnRule()}))
    look_at_own(None, Rules(own={"TOW": OwnRule()}))
    assert not logs
    look_at_own(engine, Rules(own={"TOW": OwnRule()}))
    assert [entry["ids"] for entry in logs] == [["TOW"]]
