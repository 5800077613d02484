"""The host's counters over a restart: one file, written every few seconds and at the stop.

Invariants
- The file is whole or the one before it: written beside, brought on disk, renamed. One process at a time has its
  folder.
- A clean stop loses nothing. A crash loses what was counted since the newest write began: SAVE_SECONDS, or with very
  many counters nine times as long as a write takes, so that writing never takes more than a tenth of the time.
- Whatever is wrong with the file is logged, and the counters begin empty: mail flows.
- Requests never wait for it longer than for one slice of SLICE counters.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import msgspec
import structlog

from weir.rules.counters import Counter, Counters

SAVE_SECONDS = 2.0
SLICE = 500
"""Counters that are written at once, about a millisecond."""
VERSION = 1

log = structlog.get_logger(__name__)


class StateInUseError(OSError):
    """Another process keeps its counters there."""


class _Head(msgspec.Struct):
    version: int


class _End(msgspec.Struct):
    crc32: int
    """Of all lines before it."""


_encode = msgspec.json.encode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_end = msgspec.json.Decoder(_End).decode
_decode_batch = msgspec.json.Decoder(list[Counter]).decode
_END = b"{"
"""How the last line begins; those of counters begin with another."""


class State:
    """The counters in `directory`, which is made if it is missing. Raises StateInUseError and OSError."""

    def __init__(self, directory: Path, counters: Counters) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._path = directory / "counters"
        self._counters = counters
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateInUseError(f"another agent keeps its counters in {directory}") from None
        self._failing = False

    def restore(self, now: float) -> None:
        """Take up the counters of the file that are not over at `now` (Unix seconds)."""
        try:
            with self._path.open("rb") as file:
                _check(file)
                for batch in _batches(file):
                    self._counters.restore(batch, now)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.error("kept counters cannot be read, all begin at nothing", file=str(self._path), error=str(error))
            return
        log.info("counters taken up", counters=len(self._counters))

    async def keep(self) -> None:
        """Write the file again and again, in slices between which requests are answered."""
        while True:
            began = time.monotonic()
            await self._write_slowly()
            await asyncio.sleep(max(SAVE_SECONDS, 9 * (time.monotonic() - began)))

    def close(self) -> None:
        """Write all as it is now."""
        try:
            with self._new() as file:
                for line in self._lines():
                    file.write(line)
                _sync(file)
                self._replace(file)
        except OSError as error:
            self._tell(error)
        self._lock.close()

    async def _write_slowly(self) -> None:
        try:
            with self._new() as file:
                for line in self._lines():
                    await asyncio.to_thread(file.write, line)
                await asyncio.to_thread(_sync, file)
                self._replace(file)  # here and in no thread: whoever is cancelled replaces nothing after `close`
        except OSError as error:
            self._tell(error)
        else:
            self._failing = False

    def _lines(self) -> Iterator[bytes]:
        line = _encode(_Head(VERSION)) + b"\n"
        check = crc32(line)
        yield line
        records = iter(self._counters.dump(time.time()))
        while batch := list(islice(records, SLICE)):
            line = _encode(batch) + b"\n"
            check = crc32(line, check)
            yield line
        yield _encode(_End(check)) + b"\n"

    def _new(self) -> BinaryIO:
        return self._path.with_suffix(".new").open("wb")

    def _replace(self, file: BinaryIO) -> None:
        Path(file.name).replace(self._path)

    def _tell(self, error: OSError) -> None:
        if not self._failing:
            log.error("counters cannot be kept", file=str(self._path), error=str(error))
        self._failing = True


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check(file: BinaryIO) -> None:
    """Raises ValueError for a file that is not whole, or none of ours."""
    line = file.readline()
    if _decode_head(line).version != VERSION:
        raise ValueError(f"expected version {VERSION}")
    check = crc32(line)
    for line in file:
        if line.startswith(_END):
            if _decode_end(line).crc32 != check:
                raise ValueError("its check sum is another")
            return
        check = crc32(line, check)
    raise ValueError("its end is missing")


def _batches(file: BinaryIO) -> Iterator[list[Counter]]:
    """Of a file that was checked: only a few are in memory at a time, beside the counters themselves."""
    file.seek(0)
    file.readline()
    for line in file:
        if line.startswith(_END):
            return
        yield _decode_batch(line)
