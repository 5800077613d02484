"""A log file over its rotations: what comes next of it. No threads and no clock here: `agents.maillog.follow` has them.

    mail.log.1   ──── read to its end, and watched a while: its writer may not have heard of the rotation yet
    mail.log     ──── read on

Invariants
- Lines come in the order of the files, each once, and the places told with them stand behind them.
- What is lost is told in a batch; so is what may have been lost, where that cannot be known.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.maillog import rotation, tail
from agents.maillog.position import Place
from agents.maillog.rotation import File, Lost
from agents.maillog.tail import Tail, TruncatedError, UnreadableError

GRACE_SECONDS = 10.0
"""So long a file is read on after the next one was begun."""
MOST_TAILS = 8
"""Files open at once."""


def real(path: Path) -> tuple[Path, str]:
    """Folder and name of the file that is meant by the path."""
    found = Path(os.path.realpath(path))
    return found.parent, found.name


class Loss(NamedTuple):
    """Lines of a log that will not come."""

    reason: Lost
    file: str
    bytes: int
    """How many; 0: not known."""


class Batch(NamedTuple):
    """What was read in one go."""

    path: str
    """Of the log, as it is followed."""
    lines: list[bytes]
    """Without line breaks; none: only the places have changed, or something was lost."""
    places: list[Place]
    """Where to go on after these lines, see Position.files."""
    losses: list[Loss]


class LogFile:
    """`places` are those of Position.files; None: the log was never followed, what is in it already is not read."""

    def __init__(self, path: Path, places: list[Place] | None) -> None:
        self.path = path
        self._folder, self._base = real(path)
        self._kept = places
        self._started = False
        self._tails: list[Tail] = []  # oldest first
        self._lost_place: Place | None = None  # to go on from when there is a file again
        self._read_until = max((place.modified for place in places or []), default=0)  # Place.modified
        self._superseded: dict[Tail, float] = {}  # since when a later one is in use
        self._unreadable: set[tuple[int, int]] = set()
        self._losses: list[Loss] = []
        self._changed = False

    def step(self, now: float) -> Batch | None:
        """The next lines; None: there are none now. `now` is monotonic. Raises OSError: try again later."""
        error = self._look()
        for one in self._tails:
            lines = self._read(one)
            if lines is not None:
                return self._batch(lines)
        self._let_go(now)
        if self._changed or self._losses:
            return self._batch([])
        if error:
            raise error
        return None

    def close(self) -> None:
        for one in self._tails:
            one.close()
        self._tails.clear()

    def _batch(self, lines: list[bytes]) -> Batch:
        losses, self._losses, self._changed = self._losses, [], False
        return Batch(str(self.path), lines, self._places(), losses)

    def _places(self) -> list[Place]:
        """Files in which nothing was read yet are found again as those that come next."""
        places = [one.place for one in self._tails]
        self._read_until = max((self._read_until, *(place.modified for place in places)))
        while len(places) > 1 and not places[-1].offset:
            del places[-1]
        if self._lost_place:
            places.append(self._lost_place)
        if places:
            places[-1] = msgspec.structs.replace(places[-1], modified=self._read_until)
        return places

    def _look(self) -> OSError | None:
        """See which files there are; what prevents that hinders nobody from reading on in those that are open."""
        try:
            if not self._started:
                self._start()
            self._extend()
        except OSError as error:
            return error
        return None

    def _start(self) -> None:
        files = self._files()
        try:
            if self._kept:
                newest = self._kept[-1]
                last = rotation.find(newest, files, lambda file: self._matches(file, newest))
                earlier = files[: files.index(last)] if last else []
                for place in self._kept[:-1]:
                    self._reopen(place, files if place.offset else earlier)
                self._lost_place = newest
            elif self._kept is None and files:
                self._tails.append(Tail.from_end(self._folder / files[-1].name))
        except OSError:
            self.close()
            self._losses.clear()
            raise
        self._changed = self._kept is None
        self._started = True

    def _reopen(self, place: Place, files: list[File]) -> None:
        """Go on in a file that was not the newest."""
        file = rotation.find(place, files, lambda file: self._matches(file, place))
        one = self._open(file, place.offset) if file else None
        if one is not None:
            self._tails.append(one)
        else:
            self._lose(Lost.GONE, self._base)

    def _extend(self) -> None:
        """Open the files that have come after the last one."""
        while len(self._tails) < MOST_TAILS:
            if self._lost_place:
                one = self._resume(self._lost_place)
            elif self._is_current() or (self._tails and self._tails[-1].cut):
                return
            else:
                one = self._open_next()
            if one is None:
                return
            self._lost_place = None
            self._tails.append(one)

    def _resume(self, place: Place) -> Tail | None:
        """Go on after the place in whatever file it is now; None: there is none yet."""
        closed = {*map(self._identity, self._tails), *self._unreadable}
        files = [file for file in self._files() if (file.device, file.inode) not in closed]
        start = rotation.resume(place, files, self._base, lambda file: self._matches(file, place))
        one = self._open(start.file, start.offset) if start else None
        if one is not None and start is not None and start.lost:
            self._lose(start.lost, start.file.name)
        return one

    def _is_current(self) -> bool:
        """The last tail is of the file that has the log's name."""
        try:
            status = (self._folder / self._base).stat()
        except FileNotFoundError:
            return False
        return bool(self._tails) and (status.st_dev, status.st_ino) == self._identity(self._tails[-1])

    def _open_next(self) -> Tail | None:
        """The file that comes after the last one; None: there is none yet. Raises OSError."""
        files = self._files()
        if not self._tails:
            return self._open_first(files)  # none was there before
        last = self._tails[-1]
        file = next((f for f in reversed(files) if (f.device, f.inode) == self._identity(last)), None)
        if file is None:
            if not all(one.at_end for one in self._tails):
                return None  # the same lines may be compressed by now: they are told apart once all are read
            file = rotation.find(last.place, files, lambda file: self._matches(file, last.place))
        if file is not None:
            return self._open_first(files[files.index(file) + 1 :])
        one = self._open_first([f for f in files if f.modified > self._read_until or f.name == self._base])
        if one is not None:
            self._lose(Lost.GONE, self._base)
        return one

    def _open_first(self, files: list[File]) -> Tail | None:
        return next(filter(None, map(self._open, files)), None)

    def _read(self, one: Tail) -> list[bytes] | None:
        """None: there is no more now; once something was wrong, there is an empty list."""
        try:
            lines = one.read()
        except TruncatedError:
            self._cut(one)
            return []
        except UnreadableError:
            self._lose(Lost.UNREADABLE, self._base)
            return []
        if one.skipped:
            self._lose(Lost.TOO_LONG, self._base, one.skipped)
            one.skipped = 0
        return lines

    def _cut(self, one: Tail) -> None:
        """The file was cut: what copytruncate has put aside is read on, if it is found."""
        if one is self._tails[-1]:
            self._lost_place = msgspec.structs.replace(one.place, modified=self._read_until)
        else:
            self._lose(Lost.TRUNCATED, self._base)
        self._drop(one)

    def _let_go(self, now: float) -> None:
        """Close the oldest file if it is done with; all are read to their ends."""
        for number, one in enumerate(self._tails[:-1], 1):
            if len(self._tails) > number + 1 or self._tails[number].begun:
                self._superseded.setdefault(one, now)
        oldest = self._tails[0] if self._tails else None
        if oldest in self._superseded and (oldest.compressed or now - self._superseded[oldest] >= GRACE_SECONDS):
            if oldest.unfinished:
                self._lose(Lost.INCOMPLETE, self._base, oldest.unfinished)
            self._drop(oldest)
            self._changed = True

    def _drop(self, one: Tail) -> None:
        self._tails.remove(one)
        self._superseded.pop(one, None)
        one.close()

    def _open(self, file: File, offset: int = 0) -> Tail | None:
        """None: it is open already, or another file by now, or a rotated one that cannot be read. Raises OSError."""
        identity = (file.device, file.inode)
        if identity in self._unreadable or identity in map(self._identity, self._tails):
            return None
        try:
            one = Tail(self._folder / file.name, offset)
        except FileNotFoundError:
            return None
        except (PermissionError, UnreadableError):
            if file.name == self._base:
                raise
            self._unreadable.add(identity)
            self._lose(Lost.UNREADABLE, file.name)
            return None
        if self._identity(one) != identity:
            one.close()
            return None
        return one

    def _matches(self, file: File, place: Place) -> bool:
        try:
            return tail.matches(self._folder / file.name, place)
        except (FileNotFoundError, PermissionError):
            return False

    def _files(self) -> list[File]:
        """In order; looked at until nothing moves, since a rotation renames one after the other."""
        for _ in range(10):
            files = set(self._scan())
            if {(f.name, f.inode) for f in files} == {(f.name, f.inode) for f in self._scan()}:
                break
        return rotation.in_order(files, self._base)

    def _scan(self) -> Iterator[File]:
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if rotation.is_of(entry.name, self._base) and entry.is_file():
                    with suppress(FileNotFoundError):
                        status = os.stat(entry.path)
                        yield File(entry.name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _lose(self, reason: Lost, file: str, count: int = 0) -> None:
        self._losses.append(Loss(reason, file, count))

    @staticmethod
    def _identity(one: Tail) -> tuple[int, int]:
        return one.device, one.inode
