"""Lists in files: `file:` and `table:` are read with the rules, `lfile:` and `ltable:` again whenever they are newer.

A list has one element a line, a table only what stands before the last word of a line; `#` begins a comment. An element
may be a list's name again, negated too.

Invariant: whatever is in a live file, nobody waits or fails for it: what makes no sense is left out and told.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from weir.rules.reader import NO_TEXT, decode, is_text
from weir.rules.rule import LiveFile, Position
from weir.rules.values import element

MOST = 1_000_000
"""Elements of one list, those of the lists that it names among them."""

_REFERENCE = re.compile(r"(l|c)?(file|table):\s*(.*)", re.IGNORECASE | re.DOTALL)

Fault = Callable[[Position, str], None]
"""Told what is wrong with a list, and where."""
Stamp = tuple[int, int, int]
"""Of a file: when it was changed, in ns, its size, and its inode."""


class Reference(NamedTuple):
    """A list that an element names."""

    file: LiveFile
    live: bool


class Entry(NamedTuple):
    """An element of a list."""

    text: str
    negated: bool
    position: Position
    live: LiveFile | None = None
    """If set, it is a live list, whose elements are looked up when they are needed."""

    def place(self, index: int) -> Position:
        """Where a character of the text stands."""
        return self.position._replace(column=self.position.column + index)


def reference(text: str) -> Reference | None:
    """The list that an element names; None if it is none. `cfile:` and `ctable:` are `file:` and `table:`."""
    found = _REFERENCE.fullmatch(text) if ":" in text else None
    if found is None:
        return None
    prefix, name, path = found.groups()
    return Reference(LiveFile(Path(path), name.lower() == "table"), (prefix or "").lower() == "l")


class _Within(NamedTuple):
    """A list that is being read."""

    rest: Iterator[Entry]
    negated: bool
    paths: tuple[Path, ...]
    """It, the last, and the lists that it is within."""


class Lists:
    """Reads lists, each file once, and those within them."""

    def __init__(self, *, live: bool, fault: Fault, loop: Fault | None = None) -> None:
        """With `live`, live lists within lists are read too; otherwise they are entries. `loop` is told, in place of
        `fault`, that a list contains itself.
        """
        self._live = live
        self._fault = fault
        self._loop = loop or fault
        self._read: dict[LiveFile, list[Entry]] = {}
        self._unread: dict[Path, str] = {}
        """Why a file cannot be read, which is told wherever it is named."""
        self.files: dict[Path, Stamp | None] = {}
        """All that was read, or would have been; None if it could not."""

    def entries(self, file: LiveFile, negated: bool, named: Position) -> list[Entry]:
        """All elements of a list; `named` is where it is named."""
        found: list[Entry] = []
        within = [_Within(iter(self._own(file, named)), negated, (file.path,))]
        steps = 0
        while within:
            entry = next(within[-1].rest, None)
            if entry is None:
                within.pop()
                continue
            steps += 1
            if steps > MOST:
                self._fault(named, f"{file.path} and the lists that it names have more than {MOST:,} elements")
                break
            if within[-1].negated:
                entry = entry._replace(negated=not entry.negated)
            inner = reference(entry.text)
            around = within[-1].paths
            if inner is None:
                found.append(entry)
            elif inner.live and not self._live:
                found.append(entry._replace(live=inner.file))
            elif inner.file.path in around:
                way = " → ".join(map(str, (*around, inner.file.path)))
                self._loop(entry.position, f"a list must not contain itself: {way}")
            else:
                rest = iter(self._own(inner.file, entry.position))
                within.append(_Within(rest, entry.negated, (*around, inner.file.path)))
        return found

    def _own(self, file: LiveFile, named: Position) -> list[Entry]:
        """What is written in a file itself."""
        if file not in self._read:
            self.files.setdefault(file.path, stamp(file.path))
            try:
                self._read[file] = list(self._parse(str(file.path), _content(file.path), file.is_table))
            except (OSError, ValueError) as error:
                self._read[file] = []
                if not (self._live and isinstance(error, FileNotFoundError)):
                    self._unread[file.path] = str(getattr(error, "strerror", None) or error)
        if file.path in self._unread:
            self._fault(named, f"{file.path} cannot be read: {self._unread[file.path]}")
        return self._read[file]

    def _parse(self, name: str, content: str, is_table: bool) -> Iterator[Entry]:
        for number, line in enumerate(content.split("\n"), 1):
            said = line.partition("#")[0].strip()
            if is_table and len(words := said.rsplit(None, 1)) == 2:
                said = words[0]
            if not said:
                continue
            column = line.index(said) + 1
            if not is_text(said):
                self._fault(Position(name, number, column), NO_TEXT)
                continue
            try:
                text, negated, start = element(said)
            except ValueError as error:
                self._fault(Position(name, number, column), str(error.args[0]))
            else:
                yield Entry(text, negated, Position(name, number, column + start))


def stamp(path: Path) -> Stamp | None:
    """Tells whether a file is another one than before; None if it is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: Path) -> str:
    """Raises OSError and ValueError."""
    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for somebody to write
        raise ValueError("it is no file")
    return decode(path.read_bytes())


class _Present(NamedTuple):
    """What a live list held when it was read."""

    lines: tuple[str, ...]
    files: dict[Path, Stamp | None]


class Tables:
    """The present elements of live lists."""

    def __init__(self, complain: Callable[[str], None] = lambda text: None) -> None:
        """`complain` is told what in a live list makes no sense, once for each state of it."""
        self.complain = complain
        self._present: dict[LiveFile, _Present] = {}

    def lines(self, live: LiveFile) -> tuple[str, ...]:
        """The elements as they are written (see `weir.rules.values.element`), those of lists that it names among
        them; none if the file is missing. Looks at the files' dates each time; the same tuple while nothing changed.
        """
        present = self._present.get(live)
        if present is None or any(stamp(path) != last for path, last in present.files.items()):
            present = self._present[live] = self._read(live)
        return present.lines

    def _read(self, live: LiveFile) -> _Present:
        lists = Lists(live=True, fault=lambda position, text: self.complain(f"{position}: {text}"))
        entries = lists.entries(live, False, Position(str(live.path), 1, 1))
        return _Present(tuple(map(_written, entries)), lists.files)


def _written(entry: Entry) -> str:
    return f"!!({entry.text})" if entry.negated else entry.text
