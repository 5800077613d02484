"""`weir log`: what the lines of a mail log say, without an agent.

Invariant: every line of the log is told, as what it says or as not understood.
"""

import gzip
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import typer

from weir.cli import output
from weir.cli.output import USAGE, CommandError
from weir.maillog.bounces import Bounce, classify
from weir.maillog.lines import Parser
from weir.maillog.messages import Delivery, Line, Message
from weir.maillog.unknown import NO_HEAD, UnknownLines

STANDARD_INPUT = Path("-")
MAX_LINE = 1024 * 1024
"""Bytes: what is longer is no log, and is taken in pieces."""

app = typer.Typer(no_args_is_help=True, help="What the lines of a mail log say.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A mail log, a compressed one (.gz) too; -: standard input.")
]


class Shown(msgspec.Struct, omit_defaults=True):
    """A line as it is printed."""

    message: Message | None
    time: float = 0.0
    host: str = ""
    service: str = ""
    daemon: str = ""
    pid: int = 0
    times: int = 1
    """How often it was said, if the log has repeated lines as one."""
    bounce: Bounce | None = None
    """Why a message was not delivered."""
    text: str = ""
    """Of a line that was not understood."""


class Parsed(NamedTuple):
    raw: str
    line: Line | None


@app.callback()
def _log() -> None:
    """A group of commands, although it has but one."""


@app.command()
def parse(
    file: File,
    unknown: Annotated[bool, typer.Option("--unknown", help="Print only the lines that are not understood.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print a table by daemon and kind.")] = False,
) -> None:
    """Print what each line says, one JSON object a line. Heads: RFC 3164, RFC 3339, `journalctl -o json`.

    A year that the log does not tell is inferred from the file's time of change.
    """
    if unknown and stats:
        raise typer.BadParameter("expected --unknown or --stats, not both")
    written = _written(file)
    lines = _parsed(_read(file), Parser(lambda: written))
    if stats:
        _table(lines)
    elif unknown:
        for raw, line in lines:
            if line is None or line.message is None:
                output.say(raw)
    else:
        for raw, line in lines:
            output.line(_shown(raw, line))


def _read(path: Path) -> Iterator[bytes]:
    """The lines of the log; raises CommandError."""
    try:
        with _open(path) as stream:
            while raw := stream.readline(MAX_LINE):
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise CommandError(f"{path}: {getattr(error, 'strerror', None) or error}", USAGE) from None


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    if path == STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _written(path: Path) -> float:
    """About when the log was written, Unix seconds."""
    try:
        return time.time() if path == STANDARD_INPUT else path.stat().st_mtime
    except OSError:
        return time.time()  # it cannot be read either, which is told then


def _parsed(lines: Iterable[bytes], parser: Parser) -> Iterator[Parsed]:
    for raw in lines:
        line = raw.rstrip(b"\r\n").decode(errors="backslashreplace")
        yield Parsed(line, parser.parse(line))


def _shown(raw: str, line: Line | None) -> Shown:
    if line is None:
        return Shown(None, text=raw)
    said, bounce = line.message, None
    if isinstance(said, Delivery) and said.status != "sent":
        bounce = classify(said.dsn, said.text)
    text = "" if said else line.text
    return Shown(said, line.time, line.host, line.service, line.daemon, line.pid, line.times, bounce, text)


def _table(lines: Iterator[Parsed]) -> None:
    known: Counter[tuple[str, str]] = Counter()
    unknown = UnknownLines()
    for raw, line in lines:
        if line is not None and line.message is not None:
            known[line.daemon, str(line.message.__struct_config__.tag)] += 1
        else:
            unknown.add(line.daemon if line else NO_HEAD, line.text if line else raw)
    rows = [(daemon, kind, f"{count:,}", "") for (daemon, kind), count in sorted(known.items())]
    rows += [(name, "not understood", f"{unknown.counts[name]:,}", unknown.samples[name]) for name in unknown.counts]
    output.table(
        ["Daemon", "Kind", "Lines", "Sample"], rows, ["red" if row[1] == "not understood" else "" for row in rows]
    )
