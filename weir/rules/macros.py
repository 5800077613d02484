"""Macros: `&&NAME { … }` gives a text a name, and `&&NAME` stands for it from there on.

Facts: a macro may name others, which are looked up where it is used; blanks around a name go with it (postfwd 2.03).
"""

import difflib
import re
from collections.abc import Iterator

from weir.rules.origins import Text, join

LONGEST = 1_000_000
"""Characters that one line may come to."""
DEEPEST = 50
"""Macros in one another."""

_NAME = re.compile(r"&&([-\w]+)(\s*)", re.ASCII)
_COST = 10
"""Characters that a part of a line counts for beside its own."""


class MacroError(ValueError):
    """What is wrong, and at which offset among all that was read."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class Macros:
    def __init__(self) -> None:
        self._texts: dict[str, Text] = {}
        self.glued: list[tuple[str, int]] = []
        """Macros that blanks in the middle of a value went with, and where they were used."""

    def define(self, line: Text) -> bool:
        """Tell whether a line defines a macro, and remember it. Raises MacroError."""
        line = line.strip()
        found = _NAME.match(line.characters)
        if found is None:
            return False
        body = line[found.end() :].strip()
        if not body.characters.startswith("{"):
            return False
        end = len(body.characters.rstrip("; \t\r\f\v")) - 1
        if body.characters[end] != "}":
            raise MacroError(f"macro &&{found[1]}: expected }} at its end", line.offsets[0])
        inner = body[1:end].strip()
        self._texts[found[1]] = inner[:-1].strip() if inner.characters.endswith(";") else inner
        return True

    def expand(self, line: Text) -> Text:
        """A line with the texts of its macros in their places. Raises MacroError."""
        if "&&" not in line.characters:
            return line
        parts = []
        length = 0
        for part in self._expand(line, ()):  # macros that double each other would take for ever
            length += len(part.characters) + _COST
            if length > LONGEST:
                raise MacroError(f"macros make a line longer than {LONGEST:,} characters", line.offsets[0])
            parts.append(part)
        return join(parts)

    def _expand(self, text: Text, around: tuple[str, ...]) -> Iterator[Text]:
        """`around` are the macros that the text is within."""
        end = 0
        for found in _NAME.finditer(text.characters):
            name, offset = found[1], text.offsets[found.start()]
            if name not in self._texts:
                raise MacroError(f"there is no macro &&{found[1]} before this line{self._nearest(name)}", offset)
            if name in around:
                raise MacroError(f"macro &&{found[1]} contains itself", offset)
            if len(around) == DEEPEST:
                raise MacroError(f"more than {DEEPEST} macros in one another", offset)
            before = text[end : found.start()]
            kept = before[: len(before.characters.rstrip())]
            left = kept.characters[-1:] if len(kept.characters) < len(before.characters) else ""
            right = text.characters[found.end() : found.end() + 1] if found[2] else ""
            if (left + right).strip(";=<>~"):
                self.glued.append((name, offset))
            yield kept
            yield from self._expand(self._texts[name], (*around, name))
            end = found.end()
        yield text[end:]

    def _nearest(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._texts, 1)
        return f"; did you mean &&{near[0]}?" if near else ""
