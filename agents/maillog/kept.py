"""What is known of messages under way, over a restart: one file, which says how far the log was read for it.

    {"version":1,"position":{…},"recent":{…},…}
    [{"queue_id":…},…]          messages, SLICE a line
    {"crc32":…}

Invariants
- The file is whole, or the one before it: written beside, brought on disk, renamed once the spool's files have
  its position.
- Which lines are still to be told is the spool's to say, not this file's: lines between its position and the spool's
  are read once more for what they tell of messages, and for nothing else.
"""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from agents.maillog.outcomes import Message, Recent
from agents.maillog.position import Position
from agents.maillog.tries import Try
from agents.segment import sync

VERSION = 1
SLICE = 1000
"""Messages that are encoded at once, about half a millisecond in which no other thread runs."""


class Known(NamedTuple):
    """All that is known of earlier lines."""

    position: Position
    """Up to which they were read."""
    messages: Iterable[Message]
    recent: Recent
    tries: list[Try]
    passed: dict[str, float]
    """See `agents.maillog.asked`."""


class _Head(msgspec.Struct):
    version: int
    position: Position
    recent: Recent
    tries: list[Try]
    passed: dict[str, float]


class _End(msgspec.Struct):
    crc32: int
    """Of all lines before it."""


_encode = msgspec.json.encode
_decode_head = msgspec.json.Decoder(_Head).decode
_decode_line = msgspec.json.Decoder(list[Message] | _End).decode


def write(path: Path, known: Known) -> None:
    """Write what is known beside the file; `publish` puts it there. Raises OSError."""
    with _new(path).open("wb") as file:
        line = _encode(_Head(VERSION, known.position, known.recent, known.tries, known.passed)) + b"\n"
        check = crc32(line)
        file.write(line)
        records = iter(known.messages)
        while batch := list(islice(records, SLICE)):
            line = _encode(batch) + b"\n"
            check = crc32(line, check)
            file.write(line)
        file.write(_encode(_End(check)) + b"\n")


def publish(path: Path) -> None:
    """Put in its place what was written; the spool has its position. Raises OSError."""
    new = _new(path)
    sync(new)
    new.replace(path)


def read(path: Path) -> Known | None:
    """What the file says; None: there is none. Raises OSError, and ValueError for one that is not whole or not ours."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        line = file.readline()
        head = _decode_head(line)
        if head.version != VERSION:
            raise ValueError(f"expected version {VERSION}")
        check = crc32(line)
        messages: list[Message] = []
        for line in file:
            decoded = _decode_line(line)
            if isinstance(decoded, _End):
                if decoded.crc32 != check:
                    raise ValueError("its check sum is another")
                return Known(head.position, messages, head.recent, head.tries, head.passed)
            check = crc32(line, check)
            messages += decoded
    raise ValueError("its end is missing")


def _new(path: Path) -> Path:
    return path.with_suffix(".new")
