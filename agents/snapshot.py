"""The snapshot: records of weir.decisions and weir.operators on disk, for a start without Kafka. A thread writes it.

    {"version":1,"positions":[…]}                        head: how far each partition was known
    {"topic":"weir.decisions","partition":3,"offset":17,"time":…,"key":"burst …","value":"{…}"}    a record a line

A journal: records are appended as they come, and of a key the last line counts. It is written anew, without what is
replaced or over, when the topics were read to their end, and whenever it has grown to twice its size. So evidence is
on disk, and in memory there is only what a reply needs.

Invariants: what is in the file is all that the topics said up to the positions in it, so a file that lacks a record
lacks all later ones too; an end that was cut off is dropped; a new file replaces the old one whole or not at all.
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import structlog

from agents.follower import Record
from agents.knowledge import Partition, Position, advance

VERSION = 1
SYNC_SECONDS = 30.0
RETRY_SECONDS = 1.0
KEEP_SECONDS = 86_400.0
"""On disk what is over stays so long: a clock that is wrong by less removes nothing that counts."""
MAX_WAITING = 20_000
"""Records kept while the disk refuses. With more the snapshot is given up: one with a hole would be worse than none."""
ROOM = 2_000
"""Records that may wait before it is better to bring no more."""
_GROWTH = 1024 * 1024
_PAUSE_LINES = 200
"""Lines between two short pauses, in which the policy server's thread gets the interpreter."""

log = structlog.get_logger(__name__)


class _Head(msgspec.Struct):
    version: int
    positions: list[tuple[str, int, int, float]]
    """Topic, partition, offset, time."""


class _Line(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    time: float
    key: str
    value: str | None


class _Ends(msgspec.Struct):
    """What decisions and operators' words have in common: when they are over, 0 if by themselves they never are."""

    until: float = 0.0


_encode = msgspec.json.Encoder().encode
_head_decoder = msgspec.json.Decoder(_Head)
_line_decoder = msgspec.json.Decoder(_Line)
_ends_decoder = msgspec.json.Decoder(_Ends)


class Snapshot:
    """The file at `path`; one process at a time. `load`, `start`, then `add` and `rewrite` from one thread, `close`."""

    def __init__(self, path: Path) -> None:
        self.positions: dict[Partition, Position] = {}
        """How far the file knows the topics."""
        self._path = path
        self._length = 0
        """What is whole in the file, bytes."""
        self._rewrite_at = float("inf")
        self._waiting: list[Record] = []
        self._rewrite = False
        self._given_up = False
        self._changed = False
        self._failing = False
        self._closing = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshot", daemon=True)

    def load(self) -> Iterator[Record]:
        """The records in the file, in the order in which they came; of a key the last one counts."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if not self._load_head(file.readline()):
                log.warning("snapshot of decisions cannot be used", path=str(self._path))
                return
            self._length = file.tell()
            for text in file:
                try:
                    line = _line_decoder.decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    line = None
                if line is None or not text.endswith(b"\n"):
                    log.warning("snapshot of decisions ends in what cannot be read", path=str(self._path))
                    return
                self._length += len(text)
                record = _record(line)
                advance(self.positions, record)
                yield record

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def add(self, records: list[Record]) -> None:
        """Records to append, as they came; returns at once. One without a key only moves the file's position."""
        if not self._given_up:
            self._waiting.extend(records)
            self._wake.set()

    def wait_for_room(self, timeout: float) -> None:
        """For a thread that brings many records: wait while the disk is behind, but not for one that refuses."""
        deadline = time.monotonic() + timeout
        while len(self._waiting) > ROOM and not self._failing and time.monotonic() < deadline:
            time.sleep(0.002)

    def rewrite(self) -> None:
        """Write the file anew soon."""
        self._rewrite = True
        self._wake.set()

    def close(self) -> None:
        """Write what is waiting; return when it is on disk."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _load_head(self, text: bytes) -> bool:
        try:
            head = _head_decoder.decode(text)
        except msgspec.DecodeError:
            return False
        if head.version != VERSION or not text.endswith(b"\n"):
            return False
        self.positions = {(topic, number): Position(offset, at) for topic, number, offset, at in head.positions}
        return True

    def _run(self) -> None:
        synced = time.monotonic()
        closing = False
        while not closing and not self._given_up:
            self._wake.wait(RETRY_SECONDS if self._failing else SYNC_SECONDS)
            self._wake.clear()
            closing = self._closing
            is_due = closing or time.monotonic() >= synced + SYNC_SECONDS
            try:
                self._append()
                if self._length and (self._rewrite or self._length > self._rewrite_at):
                    self._rewrite = False
                    self._compact()
                if is_due and self._changed:
                    self._sync()
            except OSError as error:
                self._fail(error)
            else:
                self._failing = False
            if is_due:
                synced = time.monotonic()

    def _append(self) -> None:
        records = self._waiting[:]
        if not records:
            return
        if not self._length:
            self._replace(())
        with self._path.open("r+b") as file:
            file.truncate(self._length)  # what a failed write may have left
            file.seek(self._length)
            written = _write_paused(file, (_line(record) for record in records))
        del self._waiting[: len(records)]  # in place: `add` may be at the same list
        self._length += written
        self._changed = True
        for record in records:
            advance(self.positions, record)

    def _compact(self) -> None:
        """Leave out what is replaced or over; only places in the file are held in memory."""
        last: dict[int, int] = {}  # by the key's hash, 64 bits: the keys themselves would cost three times as much
        long_over = time.time() - KEEP_SECONDS
        for place, text in self._lines():
            line = _line_decoder.decode(text)
            if line.value is None or _is_over(line.value, long_over):
                last.pop(hash((line.topic, line.key)), None)
            else:
                last[hash((line.topic, line.key))] = place
        kept = sorted(last.values())
        del last
        self._replace(self._lines_at(kept))

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            place = len(file.readline())
            for number, text in enumerate(file):
                if place >= self._length:
                    return
                if number % _PAUSE_LINES == 0:
                    time.sleep(0.001)
                yield place, text
                place += len(text)

    def _lines_at(self, places: list[int]) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            for place in places:
                file.seek(place)
                yield file.readline()

    def _replace(self, lines: Iterator[bytes] | tuple[()]) -> None:
        """Put a file with these lines in the old one's place."""
        head = _Head(VERSION, [(*partition, *position) for partition, position in self.positions.items()])
        new = self._path.with_suffix(".tmp")
        with new.open("wb") as file:
            first = file.write(_encode(head) + b"\n")
            length = first + _write_paused(file, lines)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        _sync(self._path.parent)
        self._length = length
        self._rewrite_at = 2 * self._length + _GROWTH
        self._changed = False

    def _sync(self) -> None:
        _sync(self._path)
        self._changed = False

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            log.warning("snapshot of decisions cannot be written", error=str(error))
        self._failing = True
        if len(self._waiting) > MAX_WAITING:
            self._given_up = True
            self._waiting.clear()
            log.error("snapshot of decisions given up: the next start needs Kafka")
            try:
                self._path.unlink(missing_ok=True)
            except OSError as unremoved:
                log.error("snapshot of decisions cannot be removed", error=str(unremoved))


def _record(line: _Line) -> Record:
    value = None if line.value is None else line.value.encode()
    return Record(line.topic, line.partition, line.offset, line.key.encode(), value, line.time, line.time)


def _line(record: Record) -> bytes:
    key = (record.key or b"").decode(errors="replace")
    value = None if record.value is None else record.value.decode(errors="replace")
    return _encode(_Line(record.topic, record.partition, record.offset, record.time, key, value)) + b"\n"


def _is_over(value: str, now: float) -> bool:
    try:
        until = _ends_decoder.decode(value).until
    except msgspec.DecodeError:
        return False
    return 0 < until <= now


def _write_paused(file: BinaryIO, lines: Iterator[bytes] | tuple[()]) -> int:
    written = 0
    for number, line in enumerate(lines):
        written += file.write(line)
        if number % _PAUSE_LINES == 0:
            time.sleep(0.001)
    return written


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
