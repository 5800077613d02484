"""What the structure of a pattern tells: text that must be there, and how much may have to be tried.

A repeat that can take the same characters in more than one way is tried in all of them: repeats in a row cost a power
of the text's length, repeats within repeats, and repeated alternatives that begin alike, double it with each character.

Invariants
- Any text has an answer, a pattern or not: what is not understood needs no text, counts as harmless for `why_slow` and
  as slow for `effort`.
- A text in which a pattern is found has what `needed` says.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import regex

MANY = 10
"""A counted repeat of more than this is as bad as one without end."""
DEEPEST = 50
_WAYS_MOST = 100_000
_POWER_MOST = 20
_ALL = (1 << 129) - 1
"""The characters of ASCII, one bit each, and one for all others."""

_TOKEN = re.compile(
    r"""
      (?P<set> \[ \^? \]? (?: \[:\^?\w+:\] | \\. | [^\]\\] )* \] )
    | (?P<quantifier> (?: [*+?] | \{ (?: \d+ (?:,\d*)? | ,\d+ ) \} ) [?+]? )
    | (?P<comment> \(\?\# [^)]* \) | \( \? [-^a-z]* \) | \( \* [^)]* \) )
    | (?P<open> \( (?: \? (?: [:|>] | <?[=!] | P?<\w+> | '\w+' | [-^a-z]* : ) )? )
    | (?P<close> \) )
    | (?P<bar> \| )
    | (?P<edge> [\^$] | \\ [AbBGzZ] )
    | (?P<back> \\ [1-9gk] (?: \{ [^}]* \} | <\w+> | '\w+' | \d+ )? | \(\?P=\w+\) )
    | (?P<one> \\ [pPxo] \{ [^}]* \} | \\x [0-9A-Fa-f]{2} | \\c. | \\. | . )
    """,
    re.DOTALL | re.ASCII | re.VERBOSE,
)
_NO_LITERALS = re.compile(r"\\Q|\(\?\^?[-\w]*x")
"""Where characters may not stand for themselves: quoted, or with blanks that do not count."""
_BOUNDS = re.compile(r"\{(\d*)(,?)(\d*)\}")


class Part(NamedTuple):
    """Something in a pattern, and how often."""

    start: int
    end: int
    characters: int = 0
    """What a single character may be, as bits; 0 for all else."""
    branches: tuple[tuple["Part", ...], ...] = ()
    """Alternatives, of a group."""
    edge: bool = False
    """It takes no characters."""
    back: bool = False
    """It takes again what a group took."""
    least: int = 1
    most: int = 1
    atomic: bool = False
    """What it took is never tried in another way."""

    @property
    def many(self) -> bool:
        return self.most > MANY

    @property
    def open(self) -> bool:
        """Whether it may be repeated many times, more or fewer."""
        return self.many and self.least != self.most


_ENDLESS = 1 << 30


class _UnclearError(Exception):
    pass


@lru_cache(1000)
def _characters(written: str) -> int:
    """The characters that a single one in a pattern may be."""
    if written == ".":
        return _ALL & ~(1 << ord("\n"))
    if len(written) == 1:
        return _bit(written.lower()) | _bit(written.upper())
    try:
        found = regex.compile(written, regex.IGNORECASE | regex.ASCII)
    except regex.error:
        return _ALL
    return sum(1 << code for code in range(128) if found.fullmatch(chr(code))) | (
        1 << 128 if found.fullmatch("é") else 0
    )


def _bit(character: str) -> int:
    return 1 << min(ord(character[0]), 128)


class _Level(NamedTuple):
    """A group that is open, or the pattern."""

    start: int
    opened: str
    branches: list[list[Part]]


def _parse(text: str) -> tuple[tuple[Part, ...], ...]:
    """The alternatives of a pattern. Raises _UnclearError."""
    levels = [_Level(0, "", [[]])]
    for found in _TOKEN.finditer(text):
        branches = levels[-1].branches
        match found.lastgroup:
            case "open":
                levels.append(_Level(found.start(), found[0], [[]]))
            case "close":
                level = levels.pop()
                branches = levels[-1].branches if levels else [[]]
                branches[-1].append(_group(level, found.end()))
            case "bar":
                branches.append([])
            case "quantifier":
                branches[-1].append(_repeated(branches[-1], found[0], found.end()))
            case "comment":
                pass
            case kind:
                branches[-1].append(_single(kind or "", found))
        if not 0 < len(levels) <= DEEPEST:
            raise _UnclearError
    if len(levels) > 1:
        raise _UnclearError
    return _fixed(levels[0].branches)


def _fixed(branches: list[list[Part]]) -> tuple[tuple[Part, ...], ...]:
    return tuple(map(tuple, branches))


def _group(level: _Level, end: int) -> Part:
    looks_around = level.opened[-1:] in ("=", "!")
    return Part(level.start, end, branches=_fixed(level.branches), atomic=level.opened == "(?>", edge=looks_around)


def _single(kind: str, found: re.Match[str]) -> Part:
    if kind in ("edge", "back"):
        return Part(*found.span(), edge=kind == "edge", back=kind == "back")
    return Part(*found.span(), characters=_characters(found[0]))


def _repeated(branch: list[Part], quantifier: str, end: int) -> Part:
    """The last part of a branch, taken from it, with the quantifier behind it."""
    if not branch:
        raise _UnclearError
    part = branch.pop()
    least, most = {"*": (0, _ENDLESS), "+": (1, _ENDLESS), "?": (0, 1)}.get(quantifier[0], (0, 0))
    if bounds := _BOUNDS.match(quantifier):
        least = int(bounds[1] or 0)
        most = int(bounds[3] or _ENDLESS) if bounds[2] else least
    atomic = part.atomic or (len(quantifier) > 1 and quantifier.endswith("+"))
    return part._replace(least=least, most=min(most, _ENDLESS), atomic=atomic, end=end)


def needed(text: str) -> str:
    """The longest text, in lower case, that all texts have in which the pattern is found; empty: none is seen."""
    if _NO_LITERALS.search(text):
        return ""
    try:
        branches = _parse(text)
    except _UnclearError:
        return ""
    runs = [""]
    for part in _flat(branches[0]) if len(branches) == 1 else ():
        literal = _literal(text[part.start : part.end])
        if literal:
            runs[-1] += literal
        else:
            runs.append("")
    return max(runs, key=len)


def _literal(written: str) -> str:
    """The character that a part is, in lower case; empty if it is something else."""
    escaped = written.startswith("\\")
    character = written[1:] if escaped else written
    if len(character) != 1 or not character.isascii() or (escaped and character.isalnum()):
        return ""
    return character.lower() if escaped or character not in "^$.[]()|" else ""


class Effort(NamedTuple):
    """What a search may have to try at worst: `ways`, times the text's length to the power of `degree`."""

    ways: int
    degree: int


def effort(text: str) -> Effort | None:
    """What a search may cost; None: too much, or more than any power of the text's length."""
    try:
        branches = _parse(text)
    except _UnclearError:
        return None
    efforts = []
    for branch in branches:
        found = _effort(branch)
        if found is None:
            return None
        anchored = bool(branch) and text[branch[0].start : branch[0].end] in ("^", "\\A")
        efforts.append(Effort(found.ways, found.degree + (not anchored)))
    return _either(efforts)


def _either(efforts: list[Effort]) -> Effort:
    return Effort(sum(one.ways for one in efforts), max(one.degree for one in efforts))


def _effort(parts: tuple[Part, ...]) -> Effort | None:
    """Of parts in a row."""
    ways, degree = 1, 0
    for part in parts:
        found = _effort_of(part)
        if found is None or ways * found.ways > _WAYS_MOST:
            return None
        ways *= found.ways
        degree += found.degree
    return Effort(ways, degree)


def _effort_of(part: Part) -> Effort | None:
    inner = [_effort(branch) for branch in part.branches] or [Effort(1, int(part.back))]
    known = [one for one in inner if one is not None]
    if len(known) < len(inner):
        return None
    ways, degree = _either(known)
    if part.most == 1:
        return Effort(ways + (part.least == 0), degree)
    if ways == 1 and degree == 0:
        return Effort(1, 1) if part.most == _ENDLESS else Effort(part.most - part.least + 1, 0)
    if degree or part.most > _POWER_MOST:
        return None
    return Effort(ways**part.most * (part.most - part.least + 1), 0)


def why_slow(text: str) -> str | None:
    """Say what makes a pattern slow on some texts; None: nothing does, as far as seen."""
    try:
        return _why(text, _parse(text))
    except _UnclearError:
        return None


def _why(text: str, branches: tuple[tuple[Part, ...], ...]) -> str | None:
    for part in (part for branch in branches for part in branch):
        written = text[part.start : part.end]
        if part.open and not part.atomic:
            if any(_repeats_itself(branch) for branch in part.branches):
                return f"{written} repeats what repeats already"
            if _alike(part.branches):
                return f"{written} repeats alternatives that begin alike"
        if why := _why(text, part.branches):
            return why
    return None


def _repeats_itself(branch: tuple[Part, ...]) -> bool:
    """Whether a repeated branch has a repeat that could as well be the next round: nothing else must stand between."""
    parts = [part for part in _flat(branch) if not part.edge]
    for part in parts:
        if not part.open or part.atomic:
            continue
        own = _first(part)
        if all(other is part or other.least == 0 or _first(other) & own for other in parts):
            return True
    return False


def _flat(branch: tuple[Part, ...]) -> list[Part]:
    """The parts of a branch, with groups that only bracket taken apart."""
    flat: list[Part] = []
    for part in branch:
        only_brackets = len(part.branches) == 1 and part.least == part.most == 1 and not part.edge and not part.atomic
        flat += _flat(part.branches[0]) if only_brackets else [part]
    return flat


def _first(part: Part) -> int:
    """The characters that a part may begin with."""
    if part.characters:
        return part.characters
    if part.back:
        return _ALL
    found = 0
    for branch in part.branches:
        for inner in branch:
            if inner.edge:
                continue
            found |= _first(inner)
            if inner.least:
                break
    return found


def _alike(branches: tuple[tuple[Part, ...], ...]) -> bool:
    """Whether one of a repeated group's alternatives may begin as another one does, to its end."""
    spelled = [[_first(part) for part in _flat(branch) if not part.edge] for branch in branches]
    return any(
        one and other and all(mine & theirs for mine, theirs in zip(one, other, strict=False))
        for number, one in enumerate(spelled)
        for other in spelled[:number]
    )
