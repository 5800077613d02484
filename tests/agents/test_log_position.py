"""The mail log's position in the spool: with the events of the lines before it, or not at all."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import segment, segments
from agents.segments import Position, Segments
from agents.spool import Spool
from weir.events import Request


@pytest.fixture(autouse=True)
def boot_id(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("boot") / "boot_id"
    path.write_text("first boot\n")
    monkeypatch.setenv(segments.BOOT_ID_PATH, str(path))
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def opened(directory: Path) -> Iterator[Segments]:
    spool = Segments(directory, "mx1", 2**30)
    spool.open()
    yield spool
    spool.release()


def event(seq: int) -> bytes:
    return json.dumps({"seq": seq}).encode()


def batch(seq: int, position: int, events: int) -> bytes:
    """A position, and events that get the seqs after `seq`."""
    record = {"kind": "position", "seq": seq, "events": events, "position": {"at": position}}
    lines = [json.dumps(record, separators=(",", ":")).encode(), *(event(seq + n) for n in range(1, events + 1))]
    return b"\n".join(lines)


def content(directory: Path) -> list[bytes]:
    return [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def seqs(spool: Segments) -> list[int]:
    chunk = spool.read(Position(0, 0), 2**20)
    return [json.loads(line)["seq"] for line in chunk.data.splitlines() if not line.startswith(segment.POSITION)]


def restarted(directory: Path) -> Segments:
    spool = Segments(directory, "mx1", 2**30)
    spool.open()
    spool.release()
    return spool


def test_without_a_mail_log_the_files_are_as_before(opened: Segments, directory: Path) -> None:
    opened.write([event(1)])
    head, line = content(directory)
    assert json.loads(head).keys() == {"version", "host", "epoch", "first_seq", "boot_id"}
    assert line == event(1)
    assert opened.log_position is None


def test_the_position_is_there_again_after_a_start(opened: Segments, directory: Path) -> None:
    opened.write([batch(0, 10, 2), event(3), batch(3, 20, 0), event(4)])
    opened.release()
    assert restarted(directory).log_position == b'{"at":20}'


def test_a_new_segment_begins_with_the_newest_position(opened: Segments, directory: Path) -> None:
    opened.write([batch(0, 10, 1)])
    opened.close(2)
    for seq in (2, 3):
        again = Segments(directory, "mx1", 2**30)
        again.open()
        assert again.log_position == b'{"at":10}'
        again.write([event(seq)])
        again.close(seq + 1)
    newest = max(directory.glob("*.jsonl")).read_bytes().splitlines()
    assert json.loads(newest[0])["position"] == {"at": 10}


def test_a_segment_that_begins_with_a_position_knows_its_first_seq(opened: Segments, directory: Path) -> None:
    opened.write([batch(7, 10, 1)])
    assert json.loads(content(directory)[0])["first_seq"] == 8


def test_after_a_position_alone_the_epoch_goes_on_behind_the_last_seq_given(opened: Segments, directory: Path) -> None:
    opened.write([event(1), batch(5, 10, 0)])
    opened.release()
    again = restarted(directory)
    assert (again.epoch, again.next_seq) == (opened.epoch, 6)


def test_positions_are_no_dropped_events(opened: Segments) -> None:
    opened._max_bytes = 1
    opened._segment_bytes = 1
    opened.write([batch(0, 10, 2)])
    opened.write([event(3)])
    assert opened.dropped == 2


@settings(max_examples=200, deadline=None)
@given(lost=st.integers(0, 400), before=st.lists(st.integers(0, 3), max_size=3), events=st.integers(0, 3))
def test_wherever_a_write_ends_position_and_events_are_both_there_or_neither(
    tmp_path_factory: pytest.TempPathFactory, lost: int, before: list[int], events: int
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    spool = Segments(directory, "mx1", 2**30)
    spool.open()
    seq = 1
    spool.write([event(seq)])
    for number, count in enumerate(before):
        spool.write([batch(seq, number, count)])
        seq += count
    (path,) = directory.glob("*.jsonl")
    length = path.stat().st_size
    spool.write([batch(seq, 99, events)])
    spool.release()
    written = path.stat().st_size
    with path.open("r+b") as file:  # killed within the last write
        file.truncate(max(length, written - lost))
    again = restarted(directory)
    newest = f'{{"at":{len(before) - 1}}}'.encode() if before else None
    assert again.epoch == spool.epoch
    if again.log_position == b'{"at":99}':
        assert seqs(again) == list(range(1, seq + events + 1))
    else:
        assert lost > 0
        assert again.log_position == newest
        assert seqs(again) == list(range(1, seq + 1))
    assert again.next_seq == len(seqs(again)) + 1
    following = Segments(directory, "mx1", 2**30)
    following.open()
    following.write([event(following.next_seq)])
    following.release()
    kept = [line for line in content(directory) if not line.startswith((segment.POSITION, b'{"version"'))]
    assert [json.loads(line)["seq"] for line in kept] == list(range(1, again.next_seq + 1))
    shutil.rmtree(directory)


def test_the_spool_keeps_events_and_position_together(directory: Path) -> None:
    spool = Spool(directory, "mx1", 2**30)
    spool.open()
    spool.append(Request(seq=0, time=0.0, protocol_state="RCPT"))
    too_long = Request(seq=0, time=0.0, protocol_state="x" * segment.MAX_LINE)
    kept = [Request(seq=0, time=9.0, protocol_state="RCPT") for _ in range(2)]
    spool.append_with_position([kept[0], too_long, kept[1]], b'{"version":1}')
    spool.close()
    assert spool.dropped == 1
    lines = [json.loads(line) for line in content(directory)[1:]]
    assert [(line["kind"], line["seq"]) for line in lines] == [
        ("request", 1),
        ("position", 1),
        ("request", 2),
        ("request", 4),
    ]
    again = Spool(directory, "mx1", 2**30)
    again.open()
    assert again.log_position == b'{"version":1}'
    assert [event.seq for event in again.recent(1.0)] == [2, 4]
    again.close()
