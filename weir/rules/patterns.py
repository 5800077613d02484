r"""Perl's regular expressions, by the module `regex`, which knows them nearly all.

    compile(r"/^dyn\d+\./").search("DYN7.example.org")

Invariants
- Without case, and found anywhere in a text; letters, digits and blanks are those of ASCII, as Perl has it for bytes.
- A search ends after `SECONDS`, whatever pattern and text are, and then has found nothing.
- What Perl does not know, or would take for something else than is meant, is an error when the pattern is compiled.

Facts: perlre, perlrecharclass and perlrebackslash of Perl 5.36.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import regex

from weir.rules import structure

SECONDS = 0.02
STEPS = 1_000_000
"""What the longest search without a deadline may have to try, about `SECONDS`: a deadline costs 2 µs a search, ten
times what most searches take."""

_TOKEN = re.compile(
    r"""
      \\Q (?P<quoted>.*?) (?:\\E|\Z)
    | \\x\{ (?P<hexadecimal>[0-9A-Fa-f]{1,6}) \}
    | \\o\{ (?P<octal>[0-7]{1,7}) \}
    | \\c (?P<control>[@-_a-z])
    | \\g (?: \{ (?P<group>\w+) \} | (?P<digits>\d+) )
    | \\k (?: \{ (?P<name1>\w+) \} | < (?P<name2>\w+) > | ' (?P<name3>\w+) ' )
    | (?P<property> \\[pP] \{ [^{}]* \} )
    | \\ (?P<escape>.)
    | (?P<posix>\[:\^?\w+:\])
    | (?P<brace>\{ (?! (?: \d+ (?: ,\d* )? | ,\d+ ) \} ))
    | (?P<plain>.)
    """,
    re.DOTALL | re.ASCII | re.VERBOSE,
)
_ESCAPES = {
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "h": r"[ \t]",
    "H": r"[^ \t]",
    "v": r"[\n\x0b\f\r]",
    "V": r"[^\n\x0b\f\r]",
    "N": r"[^\n]",
    "e": r"\x1b",
}
_SET_ESCAPES = {"h": r" \t", "v": r"\n\x0b\f\r", "e": r"\x1b"}
_CASES = re.compile("upper|lower")
_SAME_ESCAPES = frozenset("AabBdDfGKnpPrRsStwWxX0123456789")
_SAME_SET_ESCAPES = frozenset("abdDfnpPrsStwWx01234567")


class PatternError(ValueError):
    """What is wrong, and at which character of the pattern's text (from 0)."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


class Pattern(NamedTuple):
    """A pattern that is searched for anywhere in a text, without case."""

    search: Callable[[str], object]
    """Something true if the text has it. Past the deadline: nothing, and whoever asked for it is told."""
    needed: str
    """In lower case: a text without it need not be searched."""


def compile(text: str, late: Callable[[str], None] | None = None) -> Pattern:  # noqa: A001
    """A pattern as Perl writes it; one `/` before and one behind are left out.

    `late` is told the text whenever a search runs past its deadline. Raises PatternError.
    """
    compiled, longest, needed = _compile(text)
    plain = compiled.search

    def search(value: str) -> object:
        try:
            return plain(value) if len(value) <= longest else compiled.search(value, timeout=SECONDS)
        except (TimeoutError, MemoryError):  # a pattern that calls itself takes memory too
            if late is not None:
                late(text)
            return None

    return Pattern(search, needed)


def backtracks_badly(text: str) -> str | None:
    """Say what makes a pattern slow on some texts, such as repeats in repeats; None: nothing does, as far as seen."""
    return structure.why_slow(strip(text)[0])


def strip(text: str) -> tuple[str, int]:
    """A pattern without the slashes around it, and where it begins in the text."""
    start = int(text.startswith("/"))
    end = len(text) - (len(text) > start and text.endswith("/"))
    return text[start:end], start


@lru_cache(10_000)
def _compile(text: str) -> tuple["regex.Pattern[str]", int, str]:
    """The compiled pattern, the length of text up to which a search needs no deadline (-1: it always does, there are
    patterns without end on an empty text), and the text it needs."""
    written, start = strip(text)
    parts: list[str] = []
    places: list[int] = []
    offsets: list[int] = []
    length = 0
    for offset, part in _translate(written):
        parts.append(part)
        places.append(length)
        offsets.append(offset)
        length += len(part)
    try:
        compiled = regex.compile("".join(parts), regex.VERSION0 | regex.IGNORECASE | regex.ASCII)
    except regex.error as error:
        place = bisect_right(places, error.pos or 0) - 1
        offset = len(written) if (error.pos or 0) >= length or place < 0 else offsets[place]
        raise PatternError(f"bad pattern: {error.msg}", start + offset) from None
    except (RecursionError, OverflowError, MemoryError):
        raise PatternError("bad pattern: too much in it", start) from None
    return compiled, _longest(structure.effort(written)), structure.needed(written)


def _longest(effort: structure.Effort | None) -> int:
    return -1 if effort is None else int((STEPS / effort.ways) ** (1 / max(effort.degree, 1)))


def _translate(text: str) -> Iterator[tuple[int, str]]:
    """The parts of a pattern as `regex` writes them, each with its offset."""
    set_start = -1
    for found in _TOKEN.finditer(text):
        offset = found.start()
        part = found[0]
        if set_start >= 0:
            yield offset, _in_set(found)
            if part == "]" and text[set_start:offset] not in ("[", "[^"):
                set_start = -1
        elif found["posix"]:
            raise PatternError(f"bad pattern: {part} stands only within [ ]", offset)
        else:
            yield offset, _outside(found)
            if part == "[":
                set_start = offset


def _outside(found: re.Match[str]) -> str:
    if found["escape"] is not None:
        return _escape(found, _ESCAPES, _SAME_ESCAPES)
    if found["brace"]:
        return r"\{"
    if group := found["group"] or found["digits"]:
        return rf"\g<{group}>"
    if name := found["name1"] or found["name2"] or found["name3"]:
        return f"(?P={name})"
    return _character(found)


def _in_set(found: re.Match[str]) -> str:
    if found["escape"] is not None:
        return _escape(found, _SET_ESCAPES, _SAME_SET_ESCAPES)
    if found["group"] or found["digits"] or found["name1"] or found["name2"] or found["name3"]:
        raise PatternError(f"bad pattern: {found[0]} within [ ]", found.start())
    if found["posix"]:
        return _CASES.sub("alpha", found["posix"])  # without case, as Perl has it, but not `regex`
    return r"\[" if found[0] == "[" else _character(found)


def _character(found: re.Match[str]) -> str:
    """What is the same within a set and outside."""
    if found["quoted"] is not None:
        return "".join(f"\\{one}" if not one.isalnum() and one.isascii() else one for one in found["quoted"])
    if found["control"]:
        return rf"\x{ord(found['control'].upper()) ^ 64:02x}"
    code = found["hexadecimal"] or found["octal"]
    if not code:
        return found[0]
    number = int(code, 16 if found["hexadecimal"] else 8)
    if number > 0x10FFFF:
        raise PatternError(f"bad pattern: {found[0]} is no character", found.start())
    return rf"\U{number:08x}"


def _escape(found: re.Match[str], translated: dict[str, str], same: frozenset[str]) -> str:
    letter = found["escape"]
    if letter in translated:
        return translated[letter]
    if letter.isalnum() and letter.isascii() and letter not in same:
        raise PatternError(f"bad pattern: \\{letter} means nothing here", found.start())
    return found[0]
