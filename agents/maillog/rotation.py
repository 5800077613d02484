"""Rotation: which files hold a log, in which order, and where to go on. Pure: files come as values.

    mail.log-20261101.gz   mail.log-20261108   mail.log       (dateext, and `postfix logrotate` with a dot)
    mail.log.2.gz          mail.log.1          mail.log       (numbers)

Invariants
- Files of one scheme of names follow each other by their names; a scheme as a whole follows another by its newest file.
- A file is read from its beginning only if none of its lines can have been read: it comes after the one we were in; or,
  if that one is nowhere, it was written to after the place was kept, or has the inode of the place.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from agents.maillog.position import Place

_NUMBER = re.compile(r"\.(\d{1,4})(?:\.gz)?")
_DATE = re.compile(r"[-.](\d{4,}[-_.T:\d]*?)(?:\.gz)?")


class Lost(StrEnum):
    """Why lines may have been lost, or surely were."""

    TRUNCATED = "truncated"
    """The file was cut: by copytruncate, or by hand."""
    GONE = "gone"
    """The file that we were in is nowhere."""
    UNREADABLE = "unreadable"
    """A rotated file that cannot be opened, or is damaged."""
    TOO_LONG = "too long"
    """A line over the bound was skipped."""
    INCOMPLETE = "incomplete"
    """A file ended for good without a line break."""
    FAULT = "fault"
    """We failed at them."""


class File(NamedTuple):
    """One file of the log."""

    name: str
    device: int
    inode: int
    size: int
    modified: int
    """ns"""

    @property
    def compressed(self) -> bool:
        return self.name.endswith(".gz")


class Start(NamedTuple):
    """Where to go on."""

    file: File
    offset: int
    lost: Lost | None


def is_of(name: str, base: str) -> bool:
    """Whether it is the name of the log itself, or of a rotated one.

    >>> [is_of(name, "mail.log") for name in ("mail.log", "mail.log.12.gz", "mail.log-20261125", "mail.log.bak")]
    [True, True, True, False]
    """
    rest = name.removeprefix(base)
    return name.startswith(base) and (not rest or bool(_NUMBER.fullmatch(rest) or _DATE.fullmatch(rest)))


def in_order(files: Iterable[File], base: str) -> list[File]:
    """The files of the log, oldest first; of one that is just being compressed, the plain one."""
    found = [file for file in files if is_of(file.name, base)]
    names = {file.name for file in found}
    newest: dict[str, int] = {}
    for file in found:
        scheme, _ = _rank(file.name, base)
        newest[scheme] = max(newest.get(scheme, 0), file.modified)

    def key(file: File) -> tuple[bool, int, tuple[int, str]]:
        scheme, rank = _rank(file.name, base)
        return file.name == base, newest[scheme], rank

    return sorted((f for f in found if not (f.compressed and f.name.removesuffix(".gz") in names)), key=key)


def resume(place: Place, files: Sequence[File], base: str, matches: Callable[[File], bool]) -> Start | None:
    """Where to go on after `place`, in `files` (in order); None: there is nothing to read yet.

    `matches` tells whether a file has before the offset what stood there when the place was kept.
    """
    own = [file for file in files if (file.device, file.inode) == (place.device, place.inode) and not file.compressed]
    unread = [file for file in files if file.modified > place.modified or file.name == base or file in own]
    if not place.offset:  # nothing is known of what stood in it, and its inode may be another file's by now
        return Start(unread[0], 0, None if unread[0] in own else Lost.GONE) if unread else None
    same = find(place, files, matches)
    if same is not None:
        return Start(same, place.offset, Lost.TRUNCATED if own and same not in own else None)
    return Start(unread[0], 0, Lost.TRUNCATED if own else Lost.GONE) if unread else None


def find(place: Place, files: Sequence[File], matches: Callable[[File], bool]) -> File | None:
    """The file that the place is in, whatever it is called now; of several the one with its inode, or the newest."""

    def is_own(file: File) -> bool:
        return (file.device, file.inode) == (place.device, place.inode) and not file.compressed

    if not place.offset:  # nothing is known of what stands in it
        return next(filter(is_own, reversed(files)), None)
    likely = sorted(reversed(files), key=lambda file: (not is_own(file), file.compressed))  # noqa: C414 (stable)
    return next((file for file in likely if (file.compressed or file.size >= place.offset) and matches(file)), None)


def _rank(name: str, base: str) -> tuple[str, tuple[int, str]]:
    """Scheme of the name, and its rank within the scheme: the higher, the newer."""
    rest = name.removeprefix(base)
    if not rest:
        return "log", (0, "")
    if number := _NUMBER.fullmatch(rest):
        return "number", (-int(number[1]), "")
    date = _DATE.fullmatch(rest)
    return "date", (0, date[1] if date else rest)
