"""Counters over a restart: what is whole comes back, what is broken is told and changes nothing else."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents import state as module
from agents.state import State, StateInUseError
from weir.rules.counters import Counter, Counters
from weir.rules.needs import Limit

NOW = 1_700_000_000.0
LIMIT = Limit("rate", "sender", 10.0, 600.0, "R", "0" * 16)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def counted(number: int) -> Counters:
    counters = Counters()
    for key in range(number):
        counters.count(LIMIT, f"user{key} é\n", key, {}, NOW)
    return counters


def kept(directory: Path, counters: Counters) -> None:
    State(directory, counters).close()


def restored(directory: Path) -> set[Counter]:
    counters = Counters()
    state = State(directory, counters)
    state.restore(NOW)
    found = set(counters.dump(NOW))
    state._lock.close()
    return found


@pytest.mark.parametrize("number", [0, 1, module.SLICE, module.SLICE * 3 + 1])
def test_what_was_kept_comes_back(tmp_path: Path, number: int, logs: list[Any]) -> None:
    counters = counted(number)
    kept(tmp_path, counters)
    assert restored(tmp_path) == set(counters.dump(NOW))
    assert {entry["log_level"] for entry in logs} == {"info"}


def test_without_a_file_it_begins_empty_and_says_nothing(tmp_path: Path, logs: list[Any]) -> None:
    assert restored(tmp_path / "new" / "folder") == set()
    assert logs == []


@given(cut=st.integers(0, 10_000), put=st.binary(max_size=20), skip=st.integers(0, 50))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_damaged_file_never_prevents_a_start(tmp_path: Path, cut: int, put: bytes, skip: int) -> None:
    counters = counted(20)
    kept(tmp_path, counters)
    path = tmp_path / "counters"
    whole = path.read_bytes()
    cut %= len(whole)
    damaged = whole[:cut] + put + whole[cut + skip :]
    path.write_bytes(damaged)
    expected = counters.dump(NOW) if damaged.startswith(whole) else ()
    assert restored(tmp_path) == set(expected)


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_file_that_lacks_its_end_is_told(tmp_path: Path, lines: int, logs: list[Any]) -> None:
    kept(tmp_path, counted(20))
    path = tmp_path / "counters"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    assert restored(tmp_path) == set()
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_requests_are_counted_while_the_file_is_written(tmp_path: Path) -> None:
    counters = counted(module.SLICE * 20)

    async def client() -> int:
        state = State(tmp_path, counters)
        keeping = asyncio.create_task(state.keep())
        turns = 0
        while not (tmp_path / "counters").exists():
            counters.count(LIMIT, f"other{turns}", 1, {}, NOW)
            turns += 1
            await asyncio.sleep(0)
        keeping.cancel()
        state.close()
        return turns

    assert asyncio.run(client()) >= 20
    assert restored(tmp_path) == set(counters.dump(NOW))


def test_a_stop_while_the_disk_is_slow_keeps_the_newest_counters(
    tmp_path: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    fsync, replace = os.fsync, Path.replace
    replaced: list[Path] = []

    def slow(descriptor: int) -> None:
        fsync(descriptor)
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            go_on.wait(10)

    def told(path: Path, target: Path) -> Path:
        replaced.append(path)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(Path, "replace", told)
    counters = counted(1)

    async def client() -> None:
        state = State(tmp_path, counters)
        keeping = asyncio.create_task(state.keep())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        counters.count(LIMIT, "later", 7, {}, NOW)
        keeping.cancel()
        await asyncio.wait([keeping])
        state.close()
        go_on.set()

    asyncio.run(client())  # ends when its threads have
    assert len(replaced) == 1, "a write that was cancelled replaces nothing"
    assert logs == []
    assert restored(tmp_path) == set(counters.dump(NOW))


def test_a_disk_that_refuses_is_told_once(tmp_path: Path, logs: list[Any]) -> None:
    (tmp_path / "counters.new").mkdir()  # nothing can be written in its place
    state = State(tmp_path, counted(1))

    async def client() -> None:
        for _ in range(3):
            await state._write_slowly()

    asyncio.run(client())
    assert [entry["log_level"] for entry in logs] == ["error"]
    (tmp_path / "counters.new").rmdir()
    state.close()
    assert len(restored(tmp_path)) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    state = State(tmp_path, Counters())
    with pytest.raises(StateInUseError, match=str(tmp_path)):
        State(tmp_path, Counters())
    state.close()
    State(tmp_path, Counters()).close()
