"""Segments: the spool's files, and what of them Kafka has acknowledged. No thread of its own; `agents.spool` has them.

    0000000000000007.jsonl     a segment: the head line, then one event a line, as it goes into weir.events
    position.json              up to where Kafka has acknowledged all
    clean.json                 there only after a clean stop: how the last segment ended
    lock                       held while a process uses the directory

Invariants
- A segment is written by one run only: every start begins a new one, with a number that no file or position ever had.
- A segment's `length` ends with a whole line; nothing is read beyond it, whatever a failed write has left there.
- Seqs rise from line to line and from segment to segment of an epoch, and no seq of an epoch is ever given to two
  events that could both have left the file. So an epoch goes on over a clean stop, and over another one if the machine
  ran on (same boot id: the kernel kept what was written). Otherwise seqs of a lost end may be in Kafka already, and a
  new epoch begins.
- The position acknowledged never moves back within a run. What lies before it may be deleted, an hour later; what lies
  behind it is deleted only over the bound, oldest first, and counted.
"""

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

VERSION = 1
SEGMENT_BYTES = 16 * 1024**2
SEGMENT_SECONDS = 600.0
KEEP_SECONDS = 3600.0
MAX_LINE = 64 * 1024
"""Bytes of the longest event, without its line break."""

BOOT_ID_PATH = "WEIR_BOOT_ID_PATH"  # environment variable
_WRITE_BYTES = 256 * 1024
_SUFFIX = ".jsonl"


class SpoolInUseError(Exception):
    """Another process has the directory open."""


class Head(msgspec.Struct, kw_only=True):
    """First line of a segment."""

    version: int
    host: str
    epoch: str
    """Random id: seqs of different epochs have nothing to do with each other."""
    first_seq: int
    boot_id: str
    """Run of the kernel that kept this segment's pages; empty: what was written may be lost, trust no end."""


class Position(NamedTuple):
    """A place between two lines of the spool."""

    segment: int
    offset: int


class Chunk(NamedTuple):
    """Whole lines of one segment."""

    epoch: str
    start: Position
    data: bytes
    """Lines with their line breaks; empty: there is no more just now."""
    end: Position


class _SavedPosition(msgspec.Struct):
    version: int
    segment: int
    offset: int


class _Clean(msgspec.Struct):
    version: int
    segment: int
    length: int
    next_seq: int


class _Line(msgspec.Struct):
    seq: int


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    head: Head | None
    """None: damaged, so nothing in it can be told to belong to an epoch."""
    start: int
    """Where the first event line begins."""
    length: int
    on_disk: bool = False
    """It grows no more, and all of it is on disk."""


class Segments:
    """The spool's directory. Methods may be called from different threads; `write` and `close` from one at a time."""

    def __init__(self, directory: Path, host: str, max_bytes: int) -> None:
        self.directory = directory
        self.epoch = ""
        self.next_seq = 1
        """Of the next event when opened."""
        self.dropped = 0
        """Events that were deleted before Kafka had acknowledged them."""
        self.synced = ("", 0)
        """Name of a segment and its length known to be on disk; so are all segments before it."""
        self.error: OSError | None = None
        """Why the last write stopped early."""
        self._host = host
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._boot_id = ""
        self._lock = threading.Lock()  # guards what follows
        self._segments: dict[int, _Segment] = {}  # by rising number
        self._current: _Segment | None = None
        self._begun = 0.0  # monotonic time of the current segment's making
        self._descriptor = -1  # of the current segment, for writing
        self._bytes = 0
        self._next_number = 1
        self._acknowledged = Position(0, 0)
        self._saved = Position(0, 0)
        self._lock_descriptor = -1
        self._read_segment = 0
        self._read_descriptor = -1

    def open(self) -> None:
        """Read what is there and decide the epoch. Raises SpoolInUseError, and OSError for an unusable directory."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_directory()
        self._boot_id = _boot_id()
        for leftover in self.directory.glob("*.tmp"):
            leftover.unlink()
        self._load()
        saved = _read(self.directory / "position.json", _SavedPosition)
        if saved is not None and saved.version == VERSION:
            self._acknowledged = self._saved = Position(saved.segment, saved.offset)
        last = next(reversed(self._segments.values()), None)
        self._next_number = max(last.number if last else 0, self._acknowledged.segment) + 1
        clean = _read(self.directory / "clean.json", _Clean)
        if last is not None and last.head is not None and self._continues(last, last.head, clean):
            self.epoch = last.head.epoch
            if last.length == last.start:  # a service that dies again and again leaves no heap of empty files
                self._delete(last)
        else:
            self.epoch = secrets.token_hex(8)
            self.next_seq = 1
        (self.directory / "clean.json").unlink(missing_ok=True)
        self._sync_directory()

    def write(self, lines: Sequence[bytes]) -> int:
        """Append event lines (without line breaks), in order of seq; return how many were written, from the first.

        Fewer than given: the disk refused (full, broken). What it took of a line is cut off again; try again later.
        Deletes the oldest segments when all together are over the bound.
        """
        written = 0
        try:
            while written < len(lines):
                segment = self._segment_for(lines[written])
                count, data = _batch(lines, written)
                _write_all(self._descriptor, data, segment.length)
                with self._lock:
                    segment.length += len(data)
                    self._bytes += len(data)
                written += count
        except OSError as error:
            self.error = error
        else:
            self.error = None
        self._keep_bound()
        return written

    def sync(self) -> None:
        """Bring on disk what was written before the call. Raises OSError; then no end of this run is trusted."""
        with self._lock:
            current = self._current
            waiting = [(segment, segment.length) for segment in self._segments.values() if not segment.on_disk]
        if not waiting or (current is not None and (current.path.name, current.length) == self.synced):
            return
        try:
            if current is not None and current.path.name != self.synced[0]:
                self._sync_directory()
            for segment, length in waiting:
                _sync(segment.path)
                segment.on_disk = segment is not current
                self.synced = (segment.path.name, length)
        except OSError:
            # The kernel forgets pages that it failed to write: reading may give something else from now on.
            self._boot_id = ""
            raise

    def read(self, position: Position, limit: int) -> Chunk:
        """Lines that follow `position`, as many as fit in `limit` bytes but at least one; on over deleted segments.

        Without a line break within MAX_LINE bytes (damage) what is there is given as if it were a line. Raises
        OSError.
        """
        while True:
            with self._lock:
                segment = self._segments.get(position.segment)
                if segment is None or position.offset >= segment.length:
                    if segment is not None and segment is self._current:
                        return Chunk(self.epoch, position, b"", position)
                    segment = next((s for n, s in self._segments.items() if n > position.segment), None)
                    if segment is None:
                        return Chunk(self.epoch, position, b"", position)
                    position = Position(segment.number, segment.start)
                    continue
                start = max(position.offset, segment.start)
                length, head = segment.length, segment.head
            try:
                data = self._lines(segment, start, min(length - start, limit))
            except FileNotFoundError:  # deleted a moment ago
                position = Position(segment.number + 1, 0)
                continue
            end = Position(segment.number, start + len(data))
            if head is None or not data:  # damaged, or shorter than it was
                self.count_dropped(data.count(b"\n"))
                position = end if data else Position(segment.number, length)
                continue
            return Chunk(head.epoch, Position(segment.number, start), data, end)

    def lines_since(self, since: float) -> Iterator[bytes]:
        """Lines of the segments that were written to, or acknowledged, at or after `since` (Unix time), in order."""
        with self._lock:
            segments = list(self._segments.values())
        for segment in segments:
            left = segment.length - segment.start
            with suppress(FileNotFoundError):
                if _modified(segment.path) < since:
                    continue
                with segment.path.open("rb") as file:
                    file.seek(segment.start)
                    while left > 0 and (line := file.readline(left)):
                        left -= len(line)
                        yield line

    @property
    def acknowledged(self) -> Position:
        return self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Kafka has all before `position`."""
        with self._lock:
            before = self._acknowledged
            if position <= before:
                return
            self._acknowledged = position
            done = [s for n, s in self._segments.items() if before.segment <= n < position.segment]
        for segment in done:
            with suppress(OSError):
                os.utime(segment.path)  # the hour for which it stays begins now

    @property
    def unacknowledged_bytes(self) -> int:
        with self._lock:
            return sum(
                segment.length - max(segment.start, self._acknowledged.offset if n == self._acknowledged.segment else 0)
                for n, segment in self._segments.items()
                if n >= self._acknowledged.segment
            )

    def save_position(self, durable: bool = False) -> None:
        """Keep the position acknowledged in its file. Raises OSError."""
        position = self._acknowledged
        if position == self._saved and not durable:
            return
        _replace(self.directory / "position.json", _SavedPosition(VERSION, *position), durable)
        self._saved = position

    def expire(self, now: float) -> None:
        """Delete segments that were acknowledged an hour ago; `now` is Unix time, as files have it."""
        while True:
            with self._lock:
                segment = next(iter(self._segments.values()), None)
                if segment is None or segment.number >= self._acknowledged.segment or segment is self._current:
                    return
            with suppress(FileNotFoundError):
                if _modified(segment.path) > now - KEEP_SECONDS:
                    return
            self._delete(segment)

    def count_dropped(self, events: int) -> None:
        with self._lock:
            self.dropped += events

    def close(self, next_seq: int) -> None:
        """Bring all on disk and mark the stop as clean; `next_seq` is where the epoch goes on. Raises OSError."""
        try:
            self.save_position(durable=True)
            self.sync()
            if self._current is not None and self._boot_id:
                clean = _Clean(VERSION, self._current.number, self._current.length, next_seq)
                _replace(self.directory / "clean.json", clean, durable=True)
            self._sync_directory()
        finally:
            self.release()

    def release(self) -> None:
        """Close all files as they are, as the kernel does when a process dies."""
        for descriptor in (self._descriptor, self._read_descriptor, self._lock_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._read_descriptor = self._lock_descriptor = -1

    def _lock_directory(self) -> None:
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise SpoolInUseError(f"the spool {self.directory} is in use by another process") from None
        self._lock_descriptor = descriptor

    def _load(self) -> None:
        for path in sorted(self.directory.glob(f"*{_SUFFIX}")):
            if path.stem.isdigit():
                head, start = _read_head(path)
                length = path.stat().st_size
                self._segments[int(path.stem)] = _Segment(int(path.stem), path, head, start, length)
                self._bytes += length

    def _continues(self, last: _Segment, head: Head, clean: _Clean | None) -> bool:
        """Whether the epoch goes on after the last segment; cuts off a line that was not written whole."""
        with last.path.open("r+b") as file:
            line, end = _last_line(file.fileno(), last.start, last.length)
            if end < last.length:
                file.truncate(end)
                self._bytes -= last.length - end
                last.length = end
        if head.host != self._host:
            return False
        if clean is not None and (clean.version, clean.segment, clean.length) == (VERSION, last.number, last.length):
            self.next_seq = clean.next_seq
            for segment in self._segments.values():
                segment.on_disk = True
            return True
        if not self._boot_id or head.boot_id != self._boot_id:
            return False
        try:
            self.next_seq = msgspec.json.decode(line, type=_Line).seq + 1 if line else head.first_seq
        except msgspec.DecodeError:
            return False
        return True

    def _segment_for(self, line: bytes) -> _Segment:
        """The segment that takes the next line: the current one, or a new one. Raises OSError."""
        current = self._current
        if (
            current is not None
            and current.head is not None
            and current.head.boot_id == self._boot_id
            and current.length < self._segment_bytes
            and time.monotonic() - self._begun < SEGMENT_SECONDS
        ):
            return current
        head = Head(
            version=VERSION,
            host=self._host,
            epoch=self.epoch,
            first_seq=msgspec.json.decode(line, type=_Line).seq,
            boot_id=self._boot_id,
        )
        data = msgspec.json.encode(head) + b"\n"
        path = self.directory / f"{self._next_number:016d}{_SUFFIX}"
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, data, 0)
            os.rename(temporary, path)  # so that a segment always has its head
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._begun = descriptor, time.monotonic()
        segment = _Segment(self._next_number, path, head, len(data), len(data))
        with self._lock:
            self._next_number += 1
            self._segments[segment.number] = self._current = segment
            self._bytes += segment.length
        return segment

    def _keep_bound(self) -> None:
        while self._bytes > self._max_bytes:
            with self._lock:
                oldest = next(iter(self._segments.values()))
                if oldest is self._current:
                    return
                acknowledged = self._acknowledged
                self._acknowledged = max(acknowledged, Position(oldest.number + 1, 0))
            if acknowledged.segment <= oldest.number:
                start = acknowledged.offset if acknowledged.segment == oldest.number else 0
                self.count_dropped(_count_lines(oldest.path, max(start, oldest.start)))
            self._delete(oldest)

    def _delete(self, segment: _Segment) -> None:
        segment.path.unlink(missing_ok=True)
        with self._lock:
            if self._segments.pop(segment.number, None) is not None:
                self._bytes -= segment.length

    def _lines(self, segment: _Segment, start: int, limit: int) -> bytes:
        """Whole lines from `start` on. Raises FileNotFoundError if the segment was deleted."""
        if self._read_segment != segment.number:
            if self._read_descriptor >= 0:
                os.close(self._read_descriptor)
                self._read_descriptor, self._read_segment = -1, 0
            self._read_descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            self._read_segment = segment.number
        left = segment.length - start
        for size in (min(limit, left), min(MAX_LINE + 1, left)):
            data = os.pread(self._read_descriptor, size, start)
            if end := data.rfind(b"\n") + 1:
                return data[:end]
        return data

    def _sync_directory(self) -> None:
        _sync(self.directory)


def _boot_id() -> str:
    try:
        return Path(os.environ.get(BOOT_ID_PATH, "/proc/sys/kernel/random/boot_id")).read_text().strip()
    except OSError:
        return ""


def _read(path: Path, kind: type[T]) -> T | None:
    """A small file of ours, or None if it is missing or damaged. Raises OSError for one that cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _replace(path: Path, content: msgspec.Struct, durable: bool) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(content))
    if durable:
        _sync(temporary)
    temporary.rename(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _read_head(path: Path) -> tuple[Head | None, int]:
    """The head and where the lines after it begin; None and 0 for what is no head of a version that we know."""
    with path.open("rb") as file:
        line = file.readline(4096)
    try:
        head = msgspec.json.decode(line, type=Head)
    except msgspec.DecodeError:
        return None, 0
    return (head, len(line)) if head.version == VERSION and line.endswith(b"\n") else (None, 0)


def _last_line(descriptor: int, start: int, length: int) -> tuple[bytes, int]:
    """The last whole line (empty if there is none), and where it ends."""
    size = min(2 * (MAX_LINE + 1), length - start)
    data = os.pread(descriptor, size, length - size)
    end = data.rfind(b"\n") + 1
    if not end:
        return (b"", start) if size == length - start else (data, length)  # nothing of ours is that long: damage
    return data[data.rfind(b"\n", 0, end - 1) + 1 : end - 1], length - size + end


def _batch(lines: Sequence[bytes], first: int) -> tuple[int, bytes]:
    """As many lines as one write takes, and their bytes."""
    count = size = 0
    while first + count < len(lines) and size < _WRITE_BYTES:
        size += len(lines[first + count]) + 1
        count += 1
    return count, b"\n".join(lines[first : first + count]) + b"\n"


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all or, as far as the disk lets us, nothing. Raises OSError."""
    written = 0
    try:
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
    except OSError:
        # If this fails too, the next write covers the rest, and until then nobody reads beyond the length.
        with suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise


def _count_lines(path: Path, start: int) -> int:
    """Lines from `start` on, in bites that hold up nobody."""
    count = 0
    with path.open("rb") as file:
        file.seek(start)
        while data := file.read(_WRITE_BYTES):
            count += data.count(b"\n")
    return count
