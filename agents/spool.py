"""The spool: the one way of all events from the policy server to Kafka, by `agents.segments`' files.

    append ─▶ memory ─▶ writer thread (every few ms) ─▶ file ─▶ read by the shipper, always
                        sync thread (each second)    ─▶ disk

Invariants
- `append` is called on one thread, never blocks and never raises. It gives the seqs: one more for each event.
- Events are written in order of seq. One that is dropped (memory full, too long) leaves a gap in seq and is counted.
- Nobody waits for the disk: the writer for no fsync, the caller for neither. A disk that refuses to write is tried
  again for ever; meanwhile events wait in memory up to MEMORY_BYTES.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from agents.segment import MAX_LINE, PositionLine
from agents.segments import Chunk, Position, Segments
from weir import events
from weir.events import Event

MEMORY_BYTES = 32 * 1024**2
WRITE_SECONDS = 0.005
"""Between two writes: what arrives meanwhile shares one."""
SAVE_SECONDS = 0.25
SYNC_SECONDS = 1.0
RETRY_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Spool:
    """One process at a time uses a directory; `host` is the name of this mail host, `max_bytes` bounds the files."""

    def __init__(self, directory: Path, host: str, max_bytes: int) -> None:
        self.host = host
        self._segments = Segments(directory, host, max_bytes)
        self._next_seq = 1
        self._pending: list[bytes] = []
        self._appended_bytes = 0  # moved by the caller's thread only
        self._written_bytes = 0  # moved by the writer's only
        self._dropped = 0
        self._wake_writer = threading.Event()
        self._wake_reader = threading.Event()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write, name="spool writer", daemon=True)
        self._syncer = threading.Thread(target=self._sync, name="spool sync", daemon=True)

    def open(self) -> None:
        """Decide the epoch and begin to write. Raises SpoolInUseError, and OSError for an unusable directory."""
        self._segments.open()
        self._next_seq = self._segments.next_seq
        self._writer.start()
        self._syncer.start()

    def append(self, event: Event) -> None:
        """Give the event its seq and keep it for the writer; too much or too long: it is dropped and counted."""
        line = self._encoded(event)
        if line is None or self.full:
            self._dropped += 1
        else:
            self._keep(line)

    def append_with_position(self, events: Sequence[Event], position: bytes) -> None:
        """Keep events of mail log lines, and how far (JSON) the log was read with them: both get into the file, or
        neither. Too long an event is dropped and counted. Whoever reads the log waits while `full`.
        """
        seq = self._next_seq - 1
        encoded = [self._encoded(event) for event in events]
        lines = [line for line in encoded if line is not None]
        self._dropped += len(encoded) - len(lines)
        record = PositionLine(seq=seq, events=len(lines), position=msgspec.Raw(position))
        self._keep(b"\n".join((msgspec.json.encode(record), *lines)))

    def recent(self, since: float) -> Iterator[Event]:
        """Events of the kept segments that happened at or after `since` (Unix time), oldest first."""
        decode = events.decoder.decode
        for line in self._segments.lines_since(since):
            try:
                event = decode(line)
            except msgspec.DecodeError:
                continue  # counted when the shipper comes to it
            if event.time >= since:
                yield event

    @property
    def log_position(self) -> bytes | None:
        """How far the mail log was read with the events in the files, as it was given; None: it never was."""
        return self._segments.log_position

    @property
    def full(self) -> bool:
        """Memory is: the files take nothing for a while."""
        return self._appended_bytes - self._written_bytes > MEMORY_BYTES

    @property
    def epoch(self) -> str:
        return self._segments.epoch

    @property
    def unacknowledged_bytes(self) -> int:
        """Bytes of events that Kafka has not acknowledged, in memory and in files."""
        return self._appended_bytes - self._written_bytes + self._segments.unacknowledged_bytes

    @property
    def dropped(self) -> int:
        """Events lost since the start: memory or files full, or damaged on disk."""
        return self._dropped + self._segments.dropped

    @property
    def synced(self) -> tuple[str, int]:
        """Name of a segment and its length known to be on disk; all segments before it are so too."""
        return self._segments.synced

    @property
    def acknowledged(self) -> Position:
        return self._segments.acknowledged

    def acknowledge(self, position: Position) -> None:
        """Kafka has all before `position` (the shipper)."""
        self._segments.acknowledge(position)

    def read(self, position: Position, limit: int) -> Chunk:
        """Lines that follow `position` (the shipper), see Segments.read. Raises OSError."""
        return self._segments.read(position, limit)

    def count_damaged(self, lines: int) -> None:
        """The shipper found lines that are no events."""
        self._segments.count_dropped(lines)

    def wait(self, timeout: float) -> bool:
        """Wait until something was written since the last call (the shipper); False after `timeout` seconds."""
        written = self._wake_reader.wait(timeout)
        self._wake_reader.clear()
        return written

    def wake(self) -> None:
        """End a wait() of the shipper."""
        self._wake_reader.set()

    def close(self) -> None:
        """Write and sync all, and mark the stop as clean. A disk that refuses is logged: then it was not clean."""
        self._closing.set()
        self._wake_writer.set()
        self._writer.join()
        self._syncer.join()
        try:
            if self._pending:
                log.error("events lost: the spool could not be written", events=len(self._pending))
            self._segments.close(self._next_seq)
        except OSError as error:
            log.warning("spool not closed cleanly", error=str(error))

    def _encoded(self, event: Event) -> bytes | None:
        """The event's line, after it was given its seq; None: it cannot be kept."""
        event.seq = self._next_seq
        self._next_seq += 1
        try:
            line = events.encoder.encode(event)
        except (UnicodeEncodeError, msgspec.MsgspecError, TypeError):
            return None
        return line if len(line) <= MAX_LINE else None

    def _keep(self, lines: bytes) -> None:
        self._pending.append(lines)
        self._appended_bytes += len(lines)
        if not self._wake_writer.is_set():
            self._wake_writer.set()

    def _write(self) -> None:
        refused = False
        while True:
            self._wake_writer.wait()
            self._wake_writer.clear()
            closing = self._closing.is_set()
            lines = self._pending[:]
            written = self._segments.write(lines) if lines else 0
            if written:
                del self._pending[:written]  # in place: `append` may be at the same list
                self._written_bytes += sum(map(len, lines[:written]))
                self._wake_reader.set()
            refused = self._tell("the spool cannot be written", self._segments.error, refused)
            if closing:
                return
            if refused:
                self._closing.wait(RETRY_SECONDS)
                self._wake_writer.set()
            else:
                time.sleep(WRITE_SECONDS)

    def _sync(self) -> None:
        next_sync = time.monotonic() + SYNC_SECONDS
        unsaved = unsynced = False
        while not self._closing.wait(SAVE_SECONDS):
            error = _error_of(self._segments.save_position)
            unsaved = self._tell("the spool's position cannot be saved", error, unsaved)
            if time.monotonic() >= next_sync:
                next_sync = time.monotonic() + SYNC_SECONDS
                error = _error_of(self._segments.sync) or _error_of(lambda: self._segments.expire(time.time()))
                unsynced = self._tell("the spool cannot be brought on disk", error, unsynced)

    def _tell(self, what: str, error: OSError | None, failed: bool) -> bool:
        """Log what has changed since it last failed or not; returns whether it fails now."""
        with suppress(OSError):  # the log may lie on the same full disk
            if error is not None and not failed:
                log.error(what, error=str(error))
            elif error is None and failed:
                log.info("no more: " + what)
        return error is not None


def _error_of(work: Callable[[], None]) -> OSError | None:
    try:
        work()
    except OSError as error:
        return error
    return None
