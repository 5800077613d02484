"""What the command prints, and how it ends.

Invariants: results go to stdout and everything else to stderr; an error is one line for each thing that is wrong; text
that came from elsewhere (login names, reasons) reaches a terminal without control characters and is never markup.
"""

import sys
import time
from collections.abc import Iterable, Sequence

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

DONE = 0
NOT_DONE = 1
USAGE = 2
UNREACHABLE = 3
REFUSED = 4

WIDTH_OF_PIPES = 200
"""Columns of a table that no terminal shows."""


class CommandError(Exception):
    """Ends the command with one line on stderr and an exit code."""

    def __init__(self, text: str, code: int = NOT_DONE) -> None:
        super().__init__(text)
        self.code = code


def tell(text: str) -> None:
    """A line for the person, on stderr."""
    typer.echo(plain(text), err=True)


def say(text: str) -> None:
    """A line of the result."""
    typer.echo(plain(text))


def document(value: object) -> None:
    """The result as one JSON document."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def line(value: object) -> None:
    """One record of the result as one line of JSON, at once."""
    typer.echo(msgspec.json.encode(value).decode())


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], styles: Iterable[str] = ()) -> None:
    """A table; `styles` are those of the rows, as rich names them, "" for none."""
    made = Table(*headings, box=None, padding=(0, 2, 0, 0), header_style="bold")
    styles = iter(styles)
    for row in rows:
        made.add_row(*(Text(plain(cell), overflow="fold") for cell in row), style=next(styles, "") or None)
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_PIPES).print(made)


def plain(text: str) -> str:
    """Text without what would steer a terminal: such characters as escapes.

    >>> plain("caf\u00e9 \x1b[2J")
    'caf\u00e9 \\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def at(moment: float, now: float) -> str:
    """A Unix time as local time, without the date if it is today's.

    Times out of all range, as garbage may have them, are told as they are.
    """
    try:
        local, today = time.localtime(moment), time.localtime(now)
    except (OverflowError, ValueError):
        return f"{moment:g}"
    return time.strftime("%H:%M:%S" if local[:3] == today[:3] else "%Y-%m-%d %H:%M", local)


def many(count: int, noun: str) -> str:
    """A number with its noun: `1 agent`, `2 agents`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
