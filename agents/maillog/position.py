"""How far the mail log was read: a plain record that the spool keeps beside the events of the lines before it.

    {"version":1,"files":{"/var/log/mail.log":[{"device":2049,"inode":131,"offset":5120,"head":"…","tail":"…",…}]},
     "cursor":"s=…;i=…"}

Invariants
- A place is found again by what stands before it: an inode alone may be another file by now, and the same lines lie
  under another inode once they were copied or compressed.
- A record of another version is none.
"""

from collections.abc import Collection
from hashlib import blake2b

import msgspec

VERSION = 1
FINGERPRINT_BYTES = 1024
"""Of a file's beginning, and of what lies before the offset."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place between two lines of a file."""

    device: int
    inode: int
    offset: int
    """Bytes before it: whole lines, all of them dealt with."""
    head: str
    """Fingerprint of the first bytes, FINGERPRINT_BYTES or `offset` if that is less."""
    tail: str
    """Fingerprint of as many bytes before the offset."""
    modified: int
    """Of the files that were read, the latest time of modification, ns: what was written to later has more to read."""


class Position(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of all that is followed."""

    version: int = VERSION
    files: dict[str, list[Place]] = {}
    """By path: the files that still may grow, oldest first, the last is the one to go on from; empty: none was there
    so far."""
    cursor: str = ""
    """Of the journal's last entry; empty: the journal was not read."""
    lines: dict[str, int] = {}
    """By path: lines that were read since its first start."""
    waited: float = 0.0
    """Up to when (Unix seconds, by the log's clock) what had waited for later lines was told without them."""
    number: int = 0
    """Rises by one from record to record."""

    def moved(self, path: str, places: list[Place], lines: int = 0) -> "Position":
        """The same, but for this path, `lines` later."""
        counts = self.lines | {path: self.lines.get(path, 0) + lines}
        return msgspec.structs.replace(self, files=self.files | {path: places}, lines=counts, number=self.number + 1)

    def at(self, cursor: str) -> "Position":
        """The same, but for the journal."""
        return msgspec.structs.replace(self, cursor=cursor, number=self.number + 1)

    def after(self, waited: float) -> "Position":
        """The same, but for what has waited."""
        return msgspec.structs.replace(self, waited=waited, number=self.number + 1)

    def only(self, paths: Collection[str], journal: bool) -> "Position":
        """The same, without what is not followed any more."""
        files = {path: places for path, places in self.files.items() if path in paths}
        lines = {path: count for path, count in self.lines.items() if path in paths}
        return msgspec.structs.replace(self, files=files, lines=lines, cursor=self.cursor if journal else "")


encode = msgspec.json.Encoder().encode


def decode(record: bytes) -> Position | None:
    """What the record says; None: it is damaged or of another version."""
    try:
        position = msgspec.json.decode(record, type=Position)
    except msgspec.DecodeError:
        return None
    return position if position.version == VERSION else None


def fingerprint(data: bytes) -> str:
    return blake2b(data, digest_size=12).hexdigest()
