"""A tail: one file of the log, read by whole lines from a place on; it may grow.

Invariants
- What is read counts only if, afterwards, the bytes before it still are what they were: a file that was cut and has
  grown again in the meantime gives no piece of a line and skips nothing in silence.
- The place stands behind a whole line. Of a line without end nothing is kept, and the place waits before it.
"""

import gzip
import os
import stat
import zlib
from pathlib import Path
from typing import Self

from agents.maillog.position import FINGERPRINT_BYTES, Place, fingerprint

READ_BYTES = 64 * 1024
"""Read in one go: some hundred lines."""
MAX_LINE = 16 * 1024
"""Bytes of the longest line: twice what rsyslog takes, and far more than Postfix writes."""


class TruncatedError(Exception):
    """What was read is no longer in the file."""


class UnreadableError(OSError):
    """Not a file of lines, or a damaged compressed one."""


class Tail:
    """One open file. After TruncatedError it is only to be closed; after UnreadableError it is at its end."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Raises OSError and UnreadableError."""
        self.compressed = path.name.endswith(".gz")
        self._file = _Compressed(path) if self.compressed else _Plain(path)
        try:
            self.device, self.inode = self._file.identity
            self._offset = offset
            kept = min(offset, FINGERPRINT_BYTES)
            self._head = self._file.read(kept, 0)
            self._before = self._file.read(kept, offset - kept)
        except BaseException:
            self._file.close()
            raise
        self._scanned = 0  # bytes after the offset without a line break
        self._begin = b""  # the first of them
        self._broken = False
        self.place = self._place()
        self.unfinished = 0
        """Bytes after the last line break, as of the last read."""
        self.skipped = 0
        """Bytes of lines over the bound, until somebody takes them."""

    @classmethod
    def from_end(cls, path: Path) -> Self:
        """Behind the last whole line. Raises OSError and UnreadableError."""
        tail = cls(path)
        try:
            end = tail._file.last_line_break()
        finally:
            tail.close()
        return cls(path, end)

    def read(self) -> list[bytes] | None:
        """The next lines without their line breaks; none of them may be whole or short enough. None: no more now."""
        if self._broken:
            return None
        start = self._offset + self._scanned
        modified = self._file.modified()
        try:
            data = self._file.read(READ_BYTES, start)
        except UnreadableError:
            self._broken, self.unfinished = True, 0
            raise
        if not self._file.still(self._before, start):
            raise TruncatedError
        if not self._scanned:
            self._begin = data[:FINGERPRINT_BYTES]
        end = data.rfind(b"\n") + 1
        if not end:
            self.unfinished = self._scanned + len(data)
            if self.unfinished <= MAX_LINE or not data:
                return None
            self._scanned = self.unfinished
            self._before = (self._before + data)[-FINGERPRINT_BYTES:]
            return []
        self._before = (self._before + data[:end])[-FINGERPRINT_BYTES:]
        first = data.find(b"\n") + 1 if self._scanned else 0
        self.skipped += self._scanned + first if first else 0
        self._head = (self._head + self._begin)[: min(FINGERPRINT_BYTES, start + end)]
        self._offset, self._scanned, self.unfinished = start + end, 0, len(data) - end
        self.place = self._place(modified)
        return self._short(data[first : end - 1].split(b"\n")) if first < end else []

    @property
    def begun(self) -> bool:
        """Something was read from it."""
        return bool(self._offset or self.unfinished)

    @property
    def at_end(self) -> bool:
        """There is nothing more in it that was not read."""
        return self._broken or not self._file.read(1, self._offset + self.unfinished)

    @property
    def cut(self) -> bool:
        """What was read is no longer in the file."""
        return not self._file.still(self._before, self._offset + self._scanned)

    def matches(self, place: Place) -> bool:
        """Whether the same stands before it as before that place."""
        return (self.place.head, self.place.tail) == (place.head, place.tail)

    def close(self) -> None:
        self._file.close()

    def _short(self, lines: list[bytes]) -> list[bytes]:
        if max(map(len, lines)) <= MAX_LINE:
            return lines
        kept = [line for line in lines if len(line) <= MAX_LINE]
        self.skipped += sum(map(len, lines)) - sum(map(len, kept))
        return kept

    def _place(self, modified: int | None = None) -> Place:
        return Place(
            device=self.device,
            inode=self.inode,
            offset=self._offset,
            head=fingerprint(self._head),
            tail=fingerprint(self._before),
            modified=self._file.modified() if modified is None else modified,
        )


def matches(path: Path, place: Place) -> bool:
    """Whether a file has before the place's offset what stood there. Raises OSError."""
    try:
        tail = Tail(path, min(place.offset, FINGERPRINT_BYTES))  # a compressed file is read so far at little cost
        try:
            if tail.place.head != place.head:
                return False
        finally:
            tail.close()
        tail = Tail(path, place.offset)
        tail.close()
        return tail.matches(place)
    except UnreadableError:
        return False


class _Plain:
    def __init__(self, path: Path) -> None:
        # Not to wait for a pipe's writer.
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self.descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise UnreadableError(f"{path} is no regular file")
        self.identity = status.st_dev, status.st_ino

    def modified(self) -> int:
        return os.fstat(self.descriptor).st_mtime_ns

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self.descriptor, size, offset)

    def still(self, before: bytes, offset: int) -> bool:
        """Whether these bytes stand before the offset."""
        return os.pread(self.descriptor, len(before), offset - len(before)) == before

    def last_line_break(self) -> int:
        """Offset behind the last one."""
        end = os.fstat(self.descriptor).st_size
        while end > 0:
            start = max(0, end - READ_BYTES)
            if found := os.pread(self.descriptor, end - start, start).rfind(b"\n") + 1:
                return start + found
            end = start
        return 0

    def close(self) -> None:
        os.close(self.descriptor)


class _Compressed:
    """A file of gzip, read forward. It does not grow."""

    def __init__(self, path: Path) -> None:
        self._plain = _Plain(path)
        self.identity, self._modified = self._plain.identity, self._plain.modified()
        self._file = gzip.GzipFile(fileobj=os.fdopen(self._plain.descriptor, "rb", closefd=False))
        self._start = 0
        self._last = b""  # what was read last, from there on: some of it is asked for again

    def modified(self) -> int:
        return self._modified

    def read(self, size: int, offset: int) -> bytes:
        again = offset - self._start
        kept = self._last[again : again + size] if again >= 0 else b""
        try:
            self._file.seek(offset + len(kept))
            data = kept + self._file.read(size - len(kept))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UnreadableError(str(error)) from error
        self._start, self._last = offset, data
        return data

    def still(self, before: bytes, offset: int) -> bool:
        return True

    def last_line_break(self) -> int:
        end = found = 0
        while data := self.read(READ_BYTES, end):
            if here := data.rfind(b"\n") + 1:
                found = end + here
            end += len(data)
        return found

    def close(self) -> None:
        self._file.close()
        self._plain.close()
