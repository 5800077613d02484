"""The spool's files: against a plain list, over crashes, power losses and clean stops; and what breaks them."""

import json
import os
import resource
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import segment, segments
from agents.segments import Position, Segments, SpoolInUseError

Open = Callable[..., Segments]


def event_line(seq: int, text: str = "") -> bytes:
    return json.dumps({"seq": seq, "text": text}).encode()


def lines_of(spool: Segments, start: Position | None = None, limit: int = 1000) -> list[tuple[str, int]]:
    """All that can be read from `start` (or else from the position acknowledged): epoch and seq of each line."""
    found = []
    chunk = spool.read(start or spool.acknowledged, limit)
    while chunk.data:
        found += [(chunk.epoch, json.loads(line)["seq"]) for line in chunk.data.splitlines()]
        chunk = spool.read(chunk.end, limit)
    return found


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"))


@pytest.fixture
def boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "boot_id"
    path.write_text("first boot\n")
    monkeypatch.setenv(segments.BOOT_ID_PATH, str(path))
    return path


@pytest.fixture
def opened(tmp_path: Path, boot_id: Path) -> Iterator[Open]:
    every: list[Segments] = []

    def open_spool(host: str = "mx1", max_bytes: int = 2**30) -> Segments:
        spool = Segments(tmp_path / "spool", host, max_bytes)
        spool.open()
        every.append(spool)
        return spool

    yield open_spool
    for spool in every:
        spool.release()


class Disk:
    """What a power loss leaves: of each file that its directory was synced with, its length at its last fsync."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: set[str] = set()
        self.lengths: dict[str, int] = {}

    def sync(self, path: Path) -> None:
        """Stands in for an fsync."""
        if path == self.directory:
            self.entries = {file.name for file in files(path)}
        else:
            self.lengths[path.name] = path.stat().st_size

    def length(self, path: Path) -> int:
        return self.lengths.get(path.name, 0) if path.name in self.entries else 0

    def lose_power(self, share: float) -> None:
        """Keep what was synced, and of the rest all but for `share`, counted in bytes."""
        sizes = {path: path.stat().st_size for path in files(self.directory)}
        unsynced = {path: max(0, size - self.length(path)) for path, size in sizes.items()}
        left = int((1 - share) * sum(unsynced.values()))
        for path, size in unsynced.items():
            if left < size:
                os.truncate(path, self.length(path) + left)
            if path.stat().st_size == 0:
                path.unlink()
            left = max(0, left - size)
        for path in files(self.directory):
            self.lengths[path.name] = path.stat().st_size
        self.entries = {path.name for path in files(self.directory)}


class Model:
    """A spool that is written, read, acknowledged and broken at will.

    `written` holds for each epoch what was written; `kept`, how many of these must come out; `synced`, how many of the
    present epoch a power loss leaves; `counted`, what came out, each seq once, as streams count it.
    """

    def __init__(self, directory: Path, boot_id: Path, disk: Disk) -> None:
        self.directory = directory
        self.boot_id = boot_id
        self.disk = disk
        self.boots = 0
        self.texts = 0
        self.written: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self.kept: defaultdict[str, int] = defaultdict(int)
        self.synced = 0
        self.counted: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
        self.epochs: list[str] = []
        self.position = Position(0, 0)
        self.ends = [self.position]
        self.boot()
        self.start()

    def write(self, lengths: list[int], dropped: int) -> None:
        self.seq += dropped  # in memory, before
        lines = []
        for length in lengths:
            self.texts += 1
            text = f"{self.texts} " + "x" * length
            lines.append(event_line(self.seq, text))
            self.written[self.spool.epoch].append((self.seq, text))
            self.seq += 1
        assert self.spool.write(lines) == len(lines)
        self.kept[self.spool.epoch] = len(self.written[self.spool.epoch])
        self.wrote = True

    def read(self, limits: list[int]) -> None:
        for limit in limits:
            self.read_chunk(limit)

    def read_chunk(self, limit: int) -> bool:
        chunk = self.spool.read(self.position, limit)
        self.position = chunk.end
        counted = self.counted[chunk.epoch]
        for line in chunk.data.splitlines():
            record = json.loads(line)
            found = (record["seq"], record["text"])
            if not counted or found[0] > counted[-1][0]:
                counted.append(found)
            else:
                assert found in counted, "one seq for two events"
        if chunk.data:
            self.ends.append(chunk.end)
        return bool(chunk.data)

    def acknowledge(self, number: int, save: bool, expire: bool) -> None:
        before = self.spool.acknowledged
        position = self.ends[-1 - number % len(self.ends)]
        self.spool.acknowledge(position)
        assert self.spool.acknowledged == max(before, position)
        if save:
            self.spool.save_position()
        if expire:
            self.spool.expire(time.time() + segments.KEEP_SECONDS + 60)

    def sync(self) -> None:
        self.spool.sync()
        self.synced = len(self.written[self.spool.epoch])
        name, length = self.spool.synced
        if name:
            assert self.disk.length(self.directory / name) >= length
            for path in files(self.directory):
                assert path.name >= name or self.disk.length(path) == path.stat().st_size

    def stop_and_start(self, reboot: bool) -> None:
        before, wrote = (self.spool.epoch, self.seq), self.wrote
        self.spool.close(self.seq)
        self.synced = len(self.written[self.spool.epoch])
        if reboot:
            self.boot()
        self.start()
        assert not wrote or (self.spool.epoch, self.spool.next_seq) == before

    def kill_and_start(self, share: float) -> None:
        epoch, wrote = self.spool.epoch, self.wrote
        self.spool.release()
        if wrote:  # killed amid a write
            line = event_line(self.seq, "half")
            with files(self.directory)[-1].open("ab") as file:
                file.write(line[: int(share * (len(line) - 1))])
        self.start()
        assert not wrote or self.spool.epoch == epoch

    def lose_power_and_start(self, share: float, position_lost: bool) -> None:
        epoch, wrote = self.spool.epoch, self.wrote
        self.kept[epoch] = self.synced
        self.spool.release()
        self.disk.lose_power(share)
        if position_lost:
            (self.directory / "position.json").write_bytes(b"")
        self.boot()
        self.start()
        assert not wrote or self.spool.epoch != epoch

    def finish(self) -> None:
        """A last start; all that is left is read."""
        self.spool.release()
        self.start()
        while self.read_chunk(400):
            pass
        for epoch, lines in self.written.items():
            counted = self.counted[epoch]
            assert counted == lines[: len(counted)], "a hole, or another order"
            assert len(counted) >= self.kept[epoch], "lost although it was on disk"

    def boot(self) -> None:
        self.boots += 1
        self.boot_id.write_text(f"boot {self.boots}\n")

    def start(self) -> None:
        self.spool = Segments(self.directory, "mx1", 2**30)
        self.spool.open()
        self.seq = self.spool.next_seq
        self.position = self.spool.acknowledged
        self.ends = [self.position]
        self.wrote = False
        if self.spool.epoch in self.epochs:
            assert self.spool.epoch == self.epochs[-1]
            assert all(seq < self.seq for seq, _ in self.written[self.spool.epoch]), "a seq given twice"
        else:
            assert self.seq == 1
            self.epochs.append(self.spool.epoch)
            self.synced = 0


Operation = tuple[str, tuple[object, ...]]


def operation(name: str, *arguments: st.SearchStrategy[object]) -> st.SearchStrategy[Operation]:
    return st.tuples(st.just(name), st.tuples(*arguments))


SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
WRITE = operation("write", st.lists(st.integers(0, 120), min_size=1, max_size=8), st.integers(0, 1))
READ = operation("read", st.lists(st.integers(1, 500), min_size=1, max_size=8))
ACKNOWLEDGE = operation("acknowledge", st.integers(0, 7), st.booleans(), st.booleans())
SYNC = operation("sync")
BREAK = st.one_of(
    operation("stop_and_start", st.booleans()),
    operation("kill_and_start", SHARES),
    operation("lose_power_and_start", SHARES, st.booleans()),
)


@settings(max_examples=120, deadline=None)
@given(operations=st.lists(st.one_of(WRITE, READ, ACKNOWLEDGE, SYNC, BREAK), min_size=15, max_size=60))
def test_whatever_happens_each_epoch_comes_out_whole_and_in_order(operations: list[Operation]) -> None:
    with tempfile.TemporaryDirectory(prefix="weir-") as folder, pytest.MonkeyPatch.context() as patch:
        disk = Disk(Path(folder) / "spool")
        patch.setattr(segments, "SEGMENT_BYTES", 1500)
        patch.setattr(segments, "sync", disk.sync)
        patch.setenv(segments.BOOT_ID_PATH, str(Path(folder) / "boot_id"))
        model = Model(disk.directory, Path(folder) / "boot_id", disk)
        try:
            for name, arguments in operations:
                getattr(model, name)(*arguments)
            model.finish()
        finally:
            model.spool.release()


def test_a_segment_is_a_head_and_the_lines_as_they_were_written(opened: Open) -> None:
    spool = opened()
    spool.write([event_line(1, "a"), event_line(2, "b")])
    (path,) = files(spool.directory)
    head, *lines = path.read_bytes().splitlines()
    assert json.loads(head) == {
        "version": 1,
        "host": "mx1",
        "epoch": spool.epoch,
        "first_seq": 1,
        "boot_id": "first boot",
    }
    assert lines == [event_line(1, "a"), event_line(2, "b")]


def test_a_second_process_is_refused(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(SpoolInUseError, match="in use by another process"):
        Segments(tmp_path / "spool", "mx1", 2**30).open()


@pytest.mark.parametrize("damage", ["host", "head", "last line", "boot id", "clean mark"])
def test_a_new_epoch_begins_where_the_end_cannot_be_trusted(opened: Open, boot_id: Path, damage: str) -> None:
    first = opened()
    first.write([event_line(1), event_line(2)])
    first.release()
    (path,) = files(first.directory)
    if damage == "head":
        path.write_bytes(b"\0" * 40 + path.read_bytes()[40:])
    elif damage == "last line":
        path.write_bytes(path.read_bytes()[:-10] + b"\0" * 9 + b"\n")
    elif damage == "boot id":
        boot_id.write_text("second boot\n")
    elif damage == "clean mark":
        boot_id.write_text("second boot\n")
        (first.directory / "clean.json").write_bytes(b'{"version":1,"segment":1,"length":17,"next_seq":3}')
    second = opened("mx2" if damage == "host" else "mx1")
    assert second.epoch != first.epoch
    assert second.next_seq == 1


def test_lines_of_a_segment_without_a_head_are_counted_as_dropped(opened: Open) -> None:
    first = opened()
    first.write([event_line(1), event_line(2)])
    first.release()
    (path,) = files(first.directory)
    path.write_bytes(b"{}" + path.read_bytes()[2:])
    second = opened()
    second.write([event_line(1)])
    assert lines_of(second) == [(second.epoch, 1)]
    assert second.dropped == 3  # the head counts as one: what it was cannot be told


def test_over_the_bound_the_oldest_go_and_are_counted(opened: Open) -> None:
    spool = opened(max_bytes=40_000)
    for seq in range(1, 1001):
        assert spool.write([event_line(seq, "x" * 80)]) == 1
    left = lines_of(spool)
    assert sum(path.stat().st_size for path in files(spool.directory)) <= 40_000
    assert [seq for _, seq in left] == list(range(1001 - len(left), 1001))
    assert spool.dropped == 1000 - len(left)
    assert spool.dropped > 0


def test_what_was_acknowledged_goes_over_the_bound_without_being_counted(opened: Open) -> None:
    spool = opened(max_bytes=40_000)
    position = spool.acknowledged
    for seq in range(1, 1001):
        spool.write([event_line(seq, "x" * 80)])
        position = spool.read(position, 1000).end
        spool.acknowledge(position)
    assert spool.dropped == 0
    assert spool.unacknowledged_bytes == 0


def test_a_reader_in_a_segment_that_goes_goes_on_with_the_next(opened: Open) -> None:
    spool = opened(max_bytes=40_000)
    spool.write([event_line(1, "x" * 80), event_line(2, "x" * 80)])
    position = spool.read(Position(0, 0), 120).end
    for seq in range(3, 1001):
        spool.write([event_line(seq, "x" * 80)])
    assert lines_of(spool, position) == lines_of(spool)


def test_acknowledged_segments_stay_an_hour(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 300)
    spool = opened()
    for seq in range(1, 11):
        spool.write([event_line(seq, "x" * 80)])
    written = files(spool.directory)
    for path in written:
        os.utime(path, (0, 0))  # written long ago, as when Kafka was away for long
    now = time.time()
    spool.expire(now + 2 * segments.KEEP_SECONDS)
    assert files(spool.directory) == written  # nothing is acknowledged
    spool.acknowledge(Position(int(written[3].stem), 200))
    spool.expire(now + segments.KEEP_SECONDS - 60)
    assert files(spool.directory) == written
    spool.expire(now + segments.KEEP_SECONDS + 60)
    assert files(spool.directory) == written[3:]


def test_lines_since_are_those_of_segments_touched_since(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 1)
    spool = opened()
    for seq in range(1, 4):
        spool.write([event_line(seq)])
    os.utime(files(spool.directory)[0], (1000.0, 1000.0))
    assert [json.loads(line)["seq"] for line in spool.lines_since(2000.0)] == [2, 3]


def test_starts_without_events_leave_no_files(opened: Open) -> None:
    first = opened()
    first.write([event_line(1)])
    first.release()
    for _ in range(5):
        opened().release()
    assert len(files(first.directory)) == 1
    last = opened()
    assert (last.epoch, last.next_seq) == (first.epoch, 2)


def test_a_position_beyond_what_a_power_loss_left_skips_nothing_new(opened: Open, boot_id: Path) -> None:
    first = opened()
    first.write([event_line(1)])
    first.acknowledge(first.read(Position(0, 0), 1000).end)
    first.save_position(durable=True)
    first.release()
    files(first.directory)[0].unlink()
    boot_id.write_text("second boot\n")
    second = opened()
    second.write([event_line(1)])
    assert lines_of(second) == [(second.epoch, 1)]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond `size` fail, the first one after it has written in part, as on a full disk."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, ignored)


def test_what_a_refused_write_left_is_cut_off_and_the_lines_come_when_there_is_room(opened: Open) -> None:
    spool = opened()
    spool.write([event_line(1)])
    (path,) = files(spool.directory)
    before = path.read_bytes()
    lines = [event_line(seq) for seq in range(2, 10)]
    with file_size_limit(len(before) + len(lines[0]) + 5):
        assert spool.write(lines) == 0
        assert isinstance(spool.error, OSError)
        assert path.read_bytes() == before
    assert spool.write(lines) == len(lines)
    assert spool.error is None
    assert [seq for _, seq in lines_of(spool)] == list(range(1, 10))


def test_after_a_failed_sync_the_next_start_begins_a_new_epoch(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened()
    first.write([event_line(1)])

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            first.sync()
    assert first.synced == ("", 0)
    first.write([event_line(2)])
    first.sync()
    assert first.synced == (files(first.directory)[-1].name, files(first.directory)[-1].stat().st_size)
    first.close(3)
    second = opened()
    assert second.epoch != first.epoch
    assert lines_of(second, Position(0, 0)) == [(first.epoch, 1), (first.epoch, 2)]


def test_a_line_of_damage_without_end_is_given_in_bites(opened: Open) -> None:
    first = opened()
    first.write([event_line(1), event_line(2)])
    first.release()
    (path,) = files(first.directory)
    head, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + event_line(1) + b"\n" + b"\0" * 200_000 + b"\n" + event_line(2) + b"\n")
    second = opened()
    pieces = []
    chunk = second.read(Position(0, 0), 1000)
    while chunk.data:
        pieces.append(chunk.data)
        chunk = second.read(chunk.end, 1000)
    assert b"".join(pieces) == path.read_bytes()[len(head) :]
    assert pieces[0] == event_line(1) + b"\n"
    assert max(map(len, pieces)) <= segment.MAX_LINE + 1
