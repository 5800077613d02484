"""The spool with its threads."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import segment, segments, spool
from agents.segments import Position
from agents.spool import Spool
from fleet.process import wait_until
from tests.agents.test_segments import file_size_limit
from weir.events import Heartbeat, Request


def request(text: str = "", time: float = 0.0) -> Request:
    return Request(seq=0, time=time, protocol_state="RCPT", recipient=text)


def written(opened: Spool) -> list[tuple[int, str]]:
    """Seq and recipient of all events in the files."""
    return [(event.seq, event.recipient) for event in opened.recent(0.0) if isinstance(event, Request)]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("first boot\n")
    monkeypatch.setenv(segments.BOOT_ID_PATH, str(boot_id))
    return tmp_path / "spool"


@pytest.fixture
def opened(directory: Path) -> Iterator[Spool]:
    opened = Spool(directory, "mx1", 2**30)
    opened.open()
    yield opened
    opened.close()


def test_events_get_rising_seqs_and_reach_the_file_within_moments(opened: Spool) -> None:
    events = [request(str(number)) for number in range(100)]
    for event in events:
        opened.append(event)
    assert [event.seq for event in events] == list(range(1, 101))
    wait_until(lambda: len(written(opened)) == 100, 5.0, "the events in the file")
    assert written(opened) == [(event.seq, event.recipient) for event in events]


def test_the_reader_is_woken_by_a_write(opened: Spool) -> None:
    assert not opened.wait(0.0)
    opened.append(request())
    assert opened.wait(5.0)
    assert opened.read(Position(0, 0), 1000).data


def test_all_is_on_disk_within_seconds(opened: Spool, directory: Path) -> None:
    opened.append(request())
    wait_until(lambda: opened.synced[1] > 0, 5.0, "a sync")
    name, length = opened.synced
    assert (directory / name).stat().st_size == length


def test_after_close_the_epoch_goes_on_with_all_events(directory: Path) -> None:
    first = Spool(directory, "mx1", 2**30)
    first.open()
    for number in range(50):
        first.append(request(str(number)))
    first.close()
    (directory.parent / "boot_id").write_text("second boot\n")
    second = Spool(directory, "mx1", 2**30)
    second.open()
    assert second.epoch == first.epoch
    assert len(written(second)) == 50
    event = request()
    second.append(event)
    assert event.seq == 51
    second.close()


def test_recent_gives_events_by_their_own_time(opened: Spool) -> None:
    for number in range(10):
        opened.append(request(time=float(number)))
    wait_until(lambda: len(written(opened)) == 10, 5.0, "the events in the file")
    assert [event.time for event in opened.recent(7.0)] == [7.0, 8.0, 9.0]


def test_a_damaged_line_is_left_out_of_what_is_recalled(directory: Path) -> None:
    first = Spool(directory, "mx1", 2**30)
    first.open()
    for number in range(3):
        first.append(request(str(number)))
    first.close()
    (path,) = directory.glob("*.jsonl")
    path.write_bytes(path.read_bytes().replace(b'"recipient":"1"', b'"recipient":\xff1"'))
    second = Spool(directory, "mx1", 2**30)
    second.open()
    assert [recipient for _, recipient in written(second)] == ["0", "2"]
    second.close()


@pytest.mark.parametrize("text", ["x" * (segment.MAX_LINE + 1), "\udc80"], ids=["too long", "no text"])
def test_an_event_that_cannot_be_kept_leaves_a_gap_and_is_counted(opened: Spool, text: str) -> None:
    for recipient in ("before", text, "after"):
        opened.append(request(recipient))
    wait_until(lambda: len(written(opened)) == 2, 5.0, "the events in the file")
    assert written(opened) == [(1, "before"), (3, "after")]
    assert opened.dropped == 1


def test_a_full_disk_keeps_events_in_memory_up_to_its_bound(opened: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MEMORY_BYTES", 10_000)
    with file_size_limit(0):
        for number in range(1000):
            opened.append(request(str(number)))
        wait_until(lambda: opened.dropped > 0, 5.0, "events that are dropped")
        assert written(opened) == []
        assert opened.unacknowledged_bytes > 10_000
    wait_until(lambda: len(written(opened)) == 1000 - opened.dropped, 5.0, "the events in the file")
    event = request("after")
    opened.append(event)
    wait_until(lambda: written(opened)[-1] == (1001, "after"), 5.0, "the event after the gap")
    assert [seq for seq, _ in written(opened)[:-1]] == list(range(1, 1001 - opened.dropped))


def test_a_slow_sync_holds_back_no_write(opened: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    syncing, go_on = threading.Event(), threading.Event()
    sync = os.fsync

    def slow_sync(descriptor: int) -> None:
        syncing.set()
        go_on.wait(30.0)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_sync)
    opened.append(request("first"))
    assert syncing.wait(5.0)
    try:
        opened.append(request("second"))
        wait_until(lambda: len(written(opened)) == 2, 5.0, "the second event while the sync hangs")
        assert opened.synced == ("", 0)
    finally:
        go_on.set()


def test_a_process_that_is_killed_loses_at_most_its_last_moments(directory: Path) -> None:
    """The child tells each seq a little after it appended it: what was told long enough ago is in the file."""
    code = (
        "import sys, time; from pathlib import Path; from agents.spool import Spool; from weir.events import Request\n"
        "opened = Spool(Path(sys.argv[1]), 'mx1', 2**30); opened.open()\n"
        "while True:\n"
        "    event = Request(seq=0, time=time.time(), protocol_state='RCPT')\n"
        "    opened.append(event); time.sleep(0.001); print(event.seq, flush=True)\n"
    )
    last_seq = 0
    epochs = set()
    for told in (30, 100, 10):
        child = subprocess.Popen([sys.executable, "-c", code, directory], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        first = int(child.stdout.readline())
        assert first > last_seq
        seqs = [int(child.stdout.readline()) for _ in range(told)]
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        survivor = Spool(directory, "mx1", 2**30)
        survivor.open()
        epochs.add(survivor.epoch)
        kept = [seq for seq, _ in written(survivor)]
        assert kept == list(range(1, len(kept) + 1))
        assert kept[-1] >= seqs[-1] - 1000 * spool.WRITE_SECONDS * 20
        last_seq = kept[-1]
        survivor.close()
    assert len(epochs) == 1


def test_the_head_names_host_and_epoch(opened: Spool, directory: Path) -> None:
    opened.append(request())
    (path,) = wait_until(lambda: list(directory.glob("*.jsonl")), 5.0, "a segment")
    head = json.loads(path.read_bytes().splitlines()[0])
    assert (head["host"], head["epoch"]) == ("mx1", opened.epoch)


def test_append_takes_every_kind_of_event(opened: Spool) -> None:
    event = Heartbeat(seq=0, time=1.0, version="1", host="mx1")
    opened.append(event)
    wait_until(lambda: list(opened.recent(0.0)) == [event], 5.0, "the heartbeat")
