"""A segment: one file of the spool. The head line, then one event a line, as it goes into weir.events.

    {"version":1,"host":"mx1","epoch":"5f0c…","first_seq":1,"boot_id":"…"}
    {"kind":"request","seq":1,…}
    {"kind":"position","seq":1,"events":1,"position":{…}}
    {"kind":"delivery","seq":2,…}

A position line tells how far a mail log was read once the events on the next lines were made of it. It is no event.

Invariants
- A position line and its events are written in one go. Nobody has read anything of them before all are there, and a
  start after a crash in between cuts off what is there: the lines of the log come again, and each event is there once.
- A segment is there only with its whole head (it is renamed into place), and is written by one run of the agent only.
- `length` ends with a whole line. Nothing is read beyond it, whatever a failed write has left there.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

VERSION = 1
SUFFIX = ".jsonl"
POSITION = b'{"kind":"position",'
"""How a position line begins."""
MAX_LINE = 64 * 1024
"""Bytes of the longest event, without its line break."""
_BITE_BYTES = 256 * 1024
"""Written or read in one go: other threads wait for the interpreter no longer than that takes."""


class Head(msgspec.Struct, kw_only=True):
    """First line of a segment."""

    version: int
    host: str
    epoch: str
    """Random id: seqs of different epochs have nothing to do with each other."""
    first_seq: int
    boot_id: str
    """Run of the kernel that kept this segment's pages; empty: what was written may be lost, trust no end."""
    position: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """The newest position of the mail log before this segment."""


class PositionLine(msgspec.Struct, kw_only=True, tag_field="kind", tag="position"):
    seq: int
    """The last one that was given before it."""
    events: int
    """Event lines after it that belong to it."""
    position: msgspec.Raw


class _Line(msgspec.Struct):
    seq: int


@dataclass(slots=True, eq=False)
class Segment:
    number: int
    path: Path
    head: Head | None
    """None: damaged, so nothing in it can be told to belong to an epoch."""
    start: int
    """Where the first event line begins."""
    length: int
    descriptor: int = -1
    """For writing; only while it may grow."""
    on_disk: bool = False
    """It grows no more, and all of it is on disk."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """One that is there already. Raises OSError."""
        with path.open("rb") as file:
            line = file.readline(MAX_LINE)
        length = path.stat().st_size
        with suppress(msgspec.DecodeError):
            head = msgspec.json.decode(line, type=Head)
            if head.version == VERSION and line.endswith(b"\n"):
                return cls(int(path.stem), path, head, len(line), length)
        return cls(int(path.stem), path, None, 0, length)

    @classmethod
    def create(cls, directory: Path, number: int, head: Head) -> Self:
        """A new one, open for writing. Raises OSError; then there is none."""
        line = msgspec.json.encode(head) + b"\n"
        path = directory / f"{number:016d}{SUFFIX}"
        temporary = path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        segment = cls(number, path, head, len(line), 0, descriptor)
        try:
            segment.append(line)
            temporary.rename(path)
        except OSError:
            segment.finish()
            raise
        return segment

    def append(self, data: bytes) -> None:
        """Write whole lines, all or none of them. Raises OSError."""
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.descriptor, data[written:], self.length + written)
        except OSError:
            # If this fails too, the next write covers the rest, and until then nobody reads beyond the length.
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.length)
            raise
        self.length += len(data)

    def finish(self) -> None:
        """It grows no more."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def cut_partial_line(self) -> None:
        """Cut off a last line that was not written whole. Raises OSError."""
        with self.path.open("r+b") as file:
            size = min(MAX_LINE + 1, self.length - self.start)
            end = os.pread(file.fileno(), size, self.length - size).rfind(b"\n") + 1
            if end or size == self.length - self.start:  # else nothing of ours is that long: damage, left as it is
                self.length += end - size
                file.truncate(self.length)

    def recover_position(self) -> bytes | None:
        """The newest position in it or in its head; one whose events are not all there is cut off. Raises OSError."""
        with self.path.open("r+b") as file:
            data = file.read(self.length)
            while found := data.rfind(b"\n" + POSITION) + 1:
                line, _, rest = data[found:].partition(b"\n")
                data = data[:found]
                with suppress(msgspec.DecodeError):
                    position = msgspec.json.decode(line, type=PositionLine)
                    if rest.count(b"\n") >= position.events:
                        return bytes(position.position)
                    self.length = found
                    file.truncate(found)
        return bytes(self.head.position) if self.head and self.head.position else None

    def next_seq(self) -> int | None:
        """The seq that follows its last line; None if that is damaged. Raises OSError."""
        if self.length == self.start:
            return self.head.first_seq if self.head else None
        with self.path.open("rb") as file:
            size = min(2 * (MAX_LINE + 1), self.length - self.start)
            last = os.pread(file.fileno(), size, self.length - size).removesuffix(b"\n").rpartition(b"\n")[2]
        try:
            return seq_of(last) + 1
        except msgspec.DecodeError:
            return None

    def lines(self, start: int = 0) -> Iterator[bytes]:
        """Event lines that it has now from `start` on, with their line breaks. Raises OSError."""
        start = max(start, self.start)
        left = self.length - start
        with self.path.open("rb") as file:
            file.seek(start)
            while left > 0 and (line := file.readline(left)):
                left -= len(line)
                if not line.startswith(POSITION):
                    yield line

    def modified(self) -> float:
        """Unix time of the last write or touch. Raises OSError."""
        return self.path.stat().st_mtime


def first_seq(lines: bytes) -> int:
    """Seq of the next event, where a segment begins with these lines, an event's or a position's with its events."""
    line = lines.partition(b"\n")[0]
    return seq_of(line) + line.startswith(POSITION)


def seq_of(line: bytes) -> int:
    """Raises msgspec.DecodeError for what is no event line."""
    return msgspec.json.decode(line, type=_Line).seq


def joined(lines: Sequence[bytes], first: int) -> tuple[int, bytes]:
    """As many lines from the `first` on as one write takes, and these with their line breaks."""
    count = size = 0
    while first + count < len(lines) and size < _BITE_BYTES:
        size += len(lines[first + count]) + 1
        count += 1
    return count, b"\n".join(lines[first : first + count]) + b"\n"


def sync(path: Path) -> None:
    """Bring a file, or the names in a directory, on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
