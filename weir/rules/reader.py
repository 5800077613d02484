"""From the text of rule files to the lines that rules stand on.

    text ─▶ without quotes and comments ─▶ lines that belong together, joined ─▶ macros taken out, and put in

Facts: `"` is deleted everywhere, and so is all from `#` on; a line goes on after `\\` and `{`, and with one that begins
with a blank or `}`; blank lines and comments between do not count (postfwd 2.03).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from weir.rules.macros import MacroError, Macros
from weir.rules.origins import Origins, Text, join
from weir.rules.rule import Position, RuleError, RuleWarning

_QUOTES = re.compile('[^"]+')
_NO_UTF8 = re.compile("[\ud800-\udfff]")
_SHOWN = 300

NO_TEXT = "expected UTF-8: convert the file"


class Line(NamedTuple):
    """A line that should be a rule."""

    text: Text
    """Without blanks around it."""
    start: int
    """Offset of its first character as it was written: `text` may begin with a macro's."""


class Reader:
    """Reads sources one after the other; macros and positions are of all of them."""

    def __init__(self) -> None:
        self.errors: list[RuleError] = []
        self.warnings: list[RuleWarning] = []
        self._origins = Origins()
        self._macros = Macros()

    def read(self, name: str, content: str) -> Iterator[Line]:
        """The lines of a source. What is wrong with one is told in `errors`, and the next one follows."""
        for joined in _joined(content, self._origins.add(name, content)):
            line = joined.strip()
            try:
                self._check(line)
                if not self._macros.define(line):
                    text = self._macros.expand(line).strip()
                    self._warn_of_glued()
                    yield Line(text, line.offsets[0])
            except MacroError as error:
                self.errors.append(RuleError(self.position(error.offset), str(error)))

    def position(self, offset: int) -> Position:
        return self._origins.position(offset)

    def fault(self, position: Position, text: str) -> None:
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        self.errors.append(RuleError(position, shown))

    def warn(self, position: Position, text: str) -> None:
        self.warnings.append(RuleWarning(position, text))

    def _warn_of_glued(self) -> None:
        for name, offset in self._macros.glued:
            self.warnings.append(RuleWarning(self.position(offset), f"the blanks around &&{name} go with it"))
        self._macros.glued.clear()

    def _check(self, line: Text) -> None:
        if not is_text(line.characters):
            start = next(index for index, character in enumerate(line.characters) if not is_text(character))
            self.errors.append(RuleError(self.position(line.offsets[start]), NO_TEXT))


def decode(content: bytes) -> str:
    """A file's text. Bytes that are no UTF-8 become lone surrogates: in comments they do no harm."""
    return content.decode("utf-8-sig", "surrogateescape")


def is_text(characters: str) -> bool:
    """Tell whether they came from UTF-8."""
    return characters.isascii() or _NO_UTF8.search(characters) is None


def _joined(content: str, start: int) -> Iterator[Text]:
    """Lines with those that continue them, without quotes and comments; `start` is the first character's offset."""
    parts: list[Text] = []
    """Of a line that may still go on."""
    for line in _continued(content, start):
        if parts and (line.characters[0].isspace() or line.characters[0] == "}"):
            if not _ends_piece(parts):
                parts.append(Text(";", parts[-1].offsets[-1:]))
            parts.append(line)
        else:
            if parts:
                yield join(parts)
            parts = [line]
    if parts:
        yield join(parts)


def _continued(content: str, start: int) -> Iterator[Text]:
    """Lines, those that end in a backslash or a brace with the next one; none is blank."""
    parts: list[Text] = []
    for text in _written(content, start):
        said = text.characters.rstrip()
        if said.endswith("\\"):
            parts.append(text[: len(said) - 1])
        else:
            parts.append(text)
            if not said.endswith("{"):
                yield join(parts)
                parts = []
    if any(part.characters.strip() for part in parts):  # the source ends where a line should go on
        yield join(parts)


def _written(content: str, start: int) -> Iterator[Text]:
    """What each line says, but for quotes and comments; blank lines are left out."""
    for line in content.split("\n"):
        said = line.partition("#")[0]
        offsets = range(start, start + len(said))
        start += len(line) + 1
        text = Text(said, offsets)
        if '"' in said:
            text = join(text[found.start() : found.end()] for found in _QUOTES.finditer(said))
        if text.characters.strip():
            yield text


def _ends_piece(parts: list[Text]) -> bool:
    return next(text for part in reversed(parts) if (text := part.characters.rstrip())).endswith(";")
