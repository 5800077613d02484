"""Segments: the spool's directory, and what of it Kafka has acknowledged. The threads are in `agents.spool`.

    0000000000000007.jsonl     a segment (agents.segment)
    position.json              up to where Kafka has acknowledged all
    clean.json                 there only after a clean stop: how the last segment ended
    lock                       held while a process uses the directory

Invariants
- Every start begins a new segment, with a number that no segment or position ever had.
- Seqs rise from line to line and from segment to segment of an epoch, and no seq of an epoch is ever given to two
  events that could both have left the files. So an epoch goes on over a clean stop, and over another one if the machine
  ran on (same boot id: the kernel kept what was written). Otherwise seqs of a lost end may be in Kafka already, and a
  new epoch begins.
- The position acknowledged never moves back within a run. What lies before it may be deleted, an hour later; what lies
  behind it is deleted only over the bound, oldest first, and counted.
- The newest position of the mail log (agents.segment) is in the last segment, in its head if nowhere else.
"""

import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from agents.segment import MAX_LINE, POSITION, SUFFIX, VERSION, Head, PositionLine, Segment, first_seq, joined, sync

SEGMENT_BYTES = 16 * 1024**2
SEGMENT_SECONDS = 600.0
KEEP_SECONDS = 3600.0
BOOT_ID_PATH = "WEIR_BOOT_ID_PATH"  # environment variable

T = TypeVar("T")


class SpoolInUseError(Exception):
    """Another process has the directory open."""


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


class Segments:
    """Methods may be called from different threads, `open`, `write` and `close` from one at a time, `read` too."""

    def __init__(self, directory: Path, host: str, max_bytes: int) -> None:
        self.directory = directory
        self.epoch = ""
        self.next_seq = 1
        """Of the next event when opened."""
        self.log_position: bytes | None = None
        """Newest position of the mail log that was written; None: there is none."""
        self.dropped = 0
        """Events that were deleted before Kafka had acknowledged them, or are damaged."""
        self.synced = ("", 0)
        """Name of a segment and its length known to be on disk; so are all segments before it."""
        self.error: OSError | None = None
        """Why the last write stopped early."""
        self._host = host
        self._max_bytes = max_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max_bytes // 8)
        self._boot_id = ""
        self._begun = 0.0  # monotonic time of the current segment's making
        self._next_number = 1
        self._saved = Position(0, 0)
        self._lock_descriptor = -1
        self._read_segment: Segment | None = None
        self._read_descriptor = -1
        self._lock = threading.Lock()  # guards what follows, and `dropped`
        self._segments: dict[int, Segment] = {}  # by rising number
        self._current: Segment | None = None
        self._acknowledged = Position(0, 0)

    def open(self) -> None:
        """Read what is there and decide the epoch. Raises SpoolInUseError, and OSError for an unusable directory."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock_directory()
        self._boot_id = _boot_id()
        for leftover in self.directory.glob("[0-9]*.tmp"):
            leftover.unlink()
        for path in sorted(self.directory.glob(f"[0-9]*{SUFFIX}")):
            segment = Segment.load(path)
            self._segments[segment.number] = segment
        saved = _read(self.directory / "position.json", _SavedPosition)
        if saved is not None and saved.version == VERSION:
            self._acknowledged = self._saved = Position(saved.segment, saved.offset)
        whole = (segment for segment in reversed(self._segments.values()) if segment.head is not None)
        if (newest := next(whole, None)) is not None:
            self.log_position = newest.recover_position()
        last = next(reversed(self._segments.values()), None)
        self._next_number = max(last.number if last else 0, self._acknowledged.segment) + 1
        self.epoch, self.next_seq = self._continued(last) or (secrets.token_hex(8), 1)
        (self.directory / "clean.json").unlink(missing_ok=True)
        sync(self.directory)

    def write(self, lines: Sequence[bytes]) -> int:
        """Append event lines (without line breaks), in order of seq; return how many were written, from the first.

        One of `lines` may be a position line with its events, joined by line breaks: they get into the file together.
        Fewer than given: the disk refused (full, broken). What it took of a line is cut off again; try again later.
        Deletes the oldest segments when all together are over the bound.
        """
        written = 0
        self.error = None
        try:
            while written < len(lines):
                segment = self._segment_for(lines[written])
                count, data = joined(lines, written)
                segment.append(data)
                self._note_position(lines[written : written + count])
                written += count
            self._keep_bound()
        except OSError as error:
            self.error = error
        return written

    def sync(self) -> None:
        """Bring on disk what was written before the call. Raises OSError; then no end of this run is trusted."""
        with self._lock:
            current = self._current
            waiting = [(segment, segment.length) for segment in self._segments.values() if not segment.on_disk]
        if not waiting or (waiting[-1][0].path.name, waiting[-1][1]) == self.synced:
            return
        try:
            if waiting[-1][0].path.name != self.synced[0]:
                sync(self.directory)
            for segment, length in waiting:
                with suppress(FileNotFoundError):  # deleted a moment ago
                    sync(segment.path)
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
        while (segment := self._segment_at(position)) is not None:
            length = segment.length
            start = max(position.offset, segment.start) if position.segment == segment.number else segment.start
            position = Position(segment.number, start)
            try:
                data = self._lines(segment, start, length, limit)
            except FileNotFoundError:  # deleted a moment ago
                data = b""
            end = Position(segment.number, start + len(data) if data else length)
            if data and segment.head is not None:
                return Chunk(segment.head.epoch, position, data, end)
            self.count_dropped(data.count(b"\n"))
            position = end
        return Chunk(self.epoch, position, b"", position)

    def lines_since(self, since: float) -> Iterator[bytes]:
        """Lines of the segments that were written to, or acknowledged, at or after `since` (Unix time), in order."""
        with self._lock:
            segments = list(self._segments.values())
        for segment in segments:
            with suppress(FileNotFoundError):
                if segment.modified() >= since:
                    yield from segment.lines()

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
            number, offset = self._acknowledged
            return sum(
                segment.length - max(segment.start, offset if n == number else 0)
                for n, segment in self._segments.items()
                if n >= number
            )

    def save_position(self, durable: bool = False) -> None:
        """Keep the position acknowledged in its file. Raises OSError."""
        position = self._acknowledged
        if position != self._saved or durable:
            _replace(self.directory / "position.json", _SavedPosition(VERSION, *position), durable)
            self._saved = position

    def expire(self, now: float) -> None:
        """Delete segments that were acknowledged an hour ago; `now` is Unix time, as files have it. Raises OSError."""
        while True:
            with self._lock:
                segment = next(iter(self._segments.values()), None)
                if segment is None or segment.number >= self._acknowledged.segment or segment is self._current:
                    return
            with suppress(FileNotFoundError):
                if segment.modified() > now - KEEP_SECONDS:
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
            sync(self.directory)
        finally:
            self.release()

    def release(self) -> None:
        """Close all files as they are, as the kernel does when a process dies."""
        if self._current is not None:
            self._current.finish()
        for descriptor in (self._read_descriptor, self._lock_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._read_descriptor = self._lock_descriptor = -1

    def _lock_directory(self) -> None:
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise SpoolInUseError(f"the spool {self.directory} is in use by another process") from None
        self._lock_descriptor = descriptor

    def _continued(self, last: Segment | None) -> tuple[str, int] | None:
        """Epoch and next seq, if the epoch of the last segment goes on."""
        if last is None:
            return None
        last.cut_partial_line()
        head = last.head
        if head is None or head.host != self._host:
            return None
        clean = _read(self.directory / "clean.json", _Clean)
        if clean is not None and (clean.version, clean.segment, clean.length) == (VERSION, last.number, last.length):
            for segment in self._segments.values():
                segment.on_disk = True
            return head.epoch, clean.next_seq
        if not self._boot_id or head.boot_id != self._boot_id:
            return None
        next_seq = last.next_seq()
        return None if next_seq is None else (head.epoch, next_seq)

    def _segment_for(self, line: bytes) -> Segment:
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
            first_seq=first_seq(line),
            boot_id=self._boot_id,
            position=msgspec.UNSET if self.log_position is None else msgspec.Raw(self.log_position),
        )
        segment = Segment.create(self.directory, self._next_number, head)
        self._begun = time.monotonic()
        self._next_number += 1
        with self._lock:
            self._segments[segment.number] = self._current = segment
        if current is not None:
            current.finish()
        return segment

    def _note_position(self, lines: Sequence[bytes]) -> None:
        newest = next((line for line in reversed(lines) if line.startswith(POSITION)), None)
        if newest is not None:
            line = msgspec.json.decode(newest.partition(b"\n")[0], type=PositionLine)
            self.log_position = bytes(line.position)

    def _keep_bound(self) -> None:
        while True:
            with self._lock:
                oldest = next(iter(self._segments.values()))
                if oldest is self._current or sum(s.length for s in self._segments.values()) <= self._max_bytes:
                    return
                acknowledged = self._acknowledged
                self._acknowledged = max(acknowledged, Position(oldest.number + 1, 0))
            if acknowledged.segment <= oldest.number:
                with suppress(FileNotFoundError):
                    start = acknowledged.offset if acknowledged.segment == oldest.number else 0
                    self.count_dropped(sum(1 for _ in oldest.lines(start)))
            self._delete(oldest)

    def _delete(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)
        with self._lock:
            self._segments.pop(segment.number, None)

    def _segment_at(self, position: Position) -> Segment | None:
        """The segment that has the next line at or after `position`; None if there is no more."""
        with self._lock:
            segment = self._segments.get(position.segment)
            if segment is not None and max(position.offset, segment.start) < segment.length:
                return segment
            later = (s for n, s in self._segments.items() if n > position.segment and s.start < s.length)
            return next(later, None)

    def _lines(self, segment: Segment, start: int, length: int, limit: int) -> bytes:
        """Whole lines from `start` on. Raises FileNotFoundError if the segment was deleted."""
        if self._read_segment is not segment:
            if self._read_descriptor >= 0:
                os.close(self._read_descriptor)
                self._read_descriptor, self._read_segment = -1, None
            self._read_descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
            self._read_segment = segment
        for size in (limit, MAX_LINE + 1):
            data = os.pread(self._read_descriptor, min(size, length - start), start)
            if end := data.rfind(b"\n") + 1:
                return data[:end]
        return data


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
    """Write a small file so that it is there whole, the old one or the new. Raises OSError."""
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(content))
    if durable:
        sync(temporary)
    temporary.rename(path)
