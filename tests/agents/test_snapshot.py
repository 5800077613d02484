"""The snapshot on disk: round trips, crashes, disks that refuse."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from agents import snapshot
from agents.follower import Record
from agents.knowledge import Position
from agents.snapshot import Snapshot
from fleet.process import wait_until
from tests.agents.test_knowledge import FRANK, IVAN, PARTITION, blocked, lifted, said
from tests.agents.test_segments import file_size_limit
from weir import topics

FOREVER = 4_000_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "decisions.snapshot"


@contextmanager
def opened(path: Path) -> Iterator[Snapshot]:
    one = Snapshot(path)
    list(one.load())
    one.start()
    yield one
    one.close()


def loaded(path: Path) -> list[Record]:
    """Without the time of receipt, which a snapshot does not keep."""
    return [record._replace(received=record.time) for record in Snapshot(path).load()]


def kept(record: Record) -> Record:
    return record._replace(received=record.time)


def test_round_trip(path: Path) -> None:
    records = [blocked(3, FRANK), said(0, "block", IVAN), said(1, "release", "sasl_username:ümlaut"), lifted(4, FRANK)]
    assert loaded(path) == []
    with opened(path) as one:
        one.add(records[:2])
        one.add(records[2:])
    assert loaded(path) == [kept(record) for record in records]
    with opened(path) as one:
        assert one.positions == {
            (topics.DECISIONS, PARTITION): Position(4, 904.0),
            (topics.OPERATORS, 0): Position(1, 901.0),
        }
        one.add([blocked(5, IVAN)])
    assert loaded(path)[-1] == kept(blocked(5, IVAN))


def test_rewriting_leaves_out_what_is_replaced_or_over(path: Path) -> None:
    with opened(path) as one:
        one.add(
            [blocked(0, FRANK, FOREVER), blocked(1, IVAN, FOREVER), blocked(2, "sasl_username:old"), lifted(3, IVAN)]
        )
        one.add([said(0, "allow", FRANK), said(1, "release", FRANK), blocked(4, FRANK, FOREVER - 1)])
        one.add([Record(topics.DECISIONS, PARTITION, 9, b"", None, 999.0, 999.0)])
        wait_until(
            lambda: one.positions.get((topics.DECISIONS, PARTITION)) == Position(9, 999.0), 5, "the records on disk"
        )
        one.rewrite()
        wait_until(lambda: len(loaded(path)) == 2, 5, "the new file")
        positions = dict(one.positions)
        one.add([blocked(10, IVAN, FOREVER)])
    assert loaded(path) == [
        kept(said(1, "release", FRANK)._replace(partition=0)),
        kept(blocked(4, FRANK, FOREVER - 1)),
        kept(blocked(10, IVAN, FOREVER)),
    ]
    with opened(path) as one:
        assert one.positions == {**positions, (topics.DECISIONS, PARTITION): Position(10, 999.0)}, (
            "as far as it ever knew"
        )


def test_it_is_rewritten_when_it_has_grown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "_GROWTH", 5000)
    with opened(path) as one:
        for offset in range(200):
            one.add([blocked(offset, FRANK, FOREVER)])
        wait_until(lambda: not one._waiting, 5, "all to be written")
    assert path.stat().st_size < 10_000
    assert loaded(path)[-1] == kept(blocked(199, FRANK, FOREVER))


def test_an_end_cut_off_anywhere_loses_that_end_only(path: Path) -> None:
    records = [blocked(number, f"sasl_username:u{number}", FOREVER) for number in range(3)]
    with opened(path) as one:
        one.add(records)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[0], len(whole), 7):
        path.write_bytes(whole[:cut])
        survivors = [kept(record) for record, end in zip(records, ends[1:], strict=True) if end <= cut]
        with structlog.testing.capture_logs():
            with opened(path) as one:
                assert one.positions.get((topics.DECISIONS, PARTITION), Position(-1, 0)).offset == len(survivors) - 1
                one.add([blocked(7, FRANK, FOREVER)])
            assert loaded(path) == [*survivors, kept(blocked(7, FRANK, FOREVER))]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b'{"version":99,"positions":[]}\n{"x":1}\n', b"[]\n", b"\xff\n"])
def test_a_file_that_is_none_of_ours_is_replaced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with structlog.testing.capture_logs() as logs, opened(path) as one:
        one.add([blocked(0, FRANK, FOREVER)])
    assert logs[0]["event"] == "snapshot of decisions cannot be used"
    assert loaded(path) == [kept(blocked(0, FRANK, FOREVER))]


def test_a_crash_while_rewriting_leaves_the_old_file(path: Path) -> None:
    with opened(path) as one:
        one.add([blocked(0, FRANK, FOREVER)])
    path.with_suffix(".tmp").write_bytes(path.read_bytes()[:40])
    with opened(path):
        pass
    assert loaded(path) == [kept(blocked(0, FRANK, FOREVER))]


def test_a_disk_that_refuses_for_a_while(path: Path) -> None:
    with structlog.testing.capture_logs() as logs, opened(path) as one:
        one.add([blocked(0, FRANK, FOREVER)])
        wait_until(lambda: not one._waiting, 5, "the first record on disk")
        with file_size_limit(path.stat().st_size + 100):
            one.add([blocked(1, IVAN, FOREVER)])
            wait_until(lambda: logs, 5, "the failure to be told")
            one.add([lifted(2, FRANK)])
        wait_until(lambda: not one._waiting, 5, "the rest on disk")
    assert [entry["event"] for entry in logs] == ["snapshot of decisions cannot be written"]
    assert loaded(path) == [
        kept(record) for record in (blocked(0, FRANK, FOREVER), blocked(1, IVAN, FOREVER), lifted(2, FRANK))
    ]


def test_one_with_a_hole_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_WAITING", 3)
    with structlog.testing.capture_logs() as logs, opened(path) as one:
        one.add([blocked(0, FRANK, FOREVER)])
        wait_until(lambda: not one._waiting, 5, "the first record on disk")
        with file_size_limit(path.stat().st_size + 100):
            one.add([blocked(number, FRANK, FOREVER) for number in range(1, 6)])
            wait_until(lambda: not path.exists(), 5, "the snapshot to be removed")
        one.add([blocked(9, IVAN, FOREVER)])
    assert [entry["log_level"] for entry in logs] == ["warning", "error"]
    assert not path.exists()


def test_the_file_can_be_read_by_people(path: Path) -> None:
    with opened(path) as one:
        one.add([blocked(0, FRANK)])
    head, line = map(json.loads, path.read_text().splitlines())
    assert head == {"version": 1, "positions": []}
    assert (line["topic"], line["key"]) == (topics.DECISIONS, f"burst {FRANK}")
    assert json.loads(line["value"])["evidence"]["count"] == 61
    assert os.listdir(path.parent) == [path.name]
