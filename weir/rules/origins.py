"""Text that knows where each of its characters was read.

Invariant: cutting, joining and expanding keep the place of every character, so an error can always tell
file, line and column.
"""

import bisect
import re
from collections.abc import Iterable, Sequence

from weir.rules.rule import Position


class Text:
    """Characters, and for each its offset among all that was read (see `Origins`)."""

    __slots__ = ("characters", "offsets")

    def __init__(self, characters: str, offsets: Sequence[int]) -> None:
        self.characters = characters
        self.offsets = offsets

    def __getitem__(self, part: slice) -> "Text":
        return Text(self.characters[part], self.offsets[part])

    def __bool__(self) -> bool:
        return bool(self.characters)

    def strip(self) -> "Text":
        without = self.characters.lstrip()
        start = len(self.characters) - len(without)
        return self[start : start + len(without.rstrip())]


def join(parts: Iterable[Text]) -> Text:
    characters = []
    offsets: list[int] = []
    for part in parts:
        characters.append(part.characters)
        offsets.extend(part.offsets)
    return Text("".join(characters), offsets)


class Origins:
    """Whatever was read, one after the other; an offset counts through all of it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._starts: list[int] = []
        """Of each source its first offset."""
        self._lines: list[list[int]] = []
        """Of each source the first offset of each line."""
        self._end = 0

    def add(self, name: str, content: str) -> int:
        """Take in a source; its first offset."""
        start = self._end
        self._names.append(name)
        self._starts.append(start)
        self._lines.append([start, *(start + found.end() for found in re.finditer("\n", content))])
        self._end += len(content) + 1
        return start

    def position(self, offset: int) -> Position:
        source = bisect.bisect_right(self._starts, offset) - 1
        lines = self._lines[source]
        line = bisect.bisect_right(lines, offset) - 1
        return Position(self._names[source], line + 1, offset - lines[line] + 1)
