"""Lines that were told before a restart, read once more for what they tell of messages.

Invariant: nothing but what lies between the two positions; less of it where something is not there any more.
"""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from agents.maillog import journal
from agents.maillog.log_file import LogFile
from agents.maillog.position import Position
from agents.maillog.rotation import Lost


def between(path: str, start: Position, end: Position) -> Iterator[list[bytes]]:
    """Lines of a log file. Raises OSError."""
    left = end.lines.get(path, 0) - start.lines.get(path, 0)
    places = start.files.get(path)
    if places is None or left <= 0:
        return
    file = LogFile(Path(path), places)
    try:
        while left > 0 and (batch := file.step(0.0)) is not None:
            if any(loss.reason is not Lost.TOO_LONG for loss in batch.losses):
                return
            yield batch.lines[:left]
            left -= len(batch.lines)
    finally:
        file.close()


def of_journal(start: str, end: str, program: Sequence[str] = ("journalctl",)) -> Iterator[list[bytes]]:
    """Entries of the journal after one cursor, up to another. Raises OSError."""
    if not start or start == end:
        return
    reader = journal.Reader(start)
    command = journal.command(program, ["--merge", f"--cursor={start}"])
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as one:
        assert one.stdout is not None  # noqa: S101 (a pipe)
        try:
            while data := one.stdout.read(journal.READ_BYTES):
                entries = reader.feed(data)
                if any(loss.reason is not Lost.TOO_LONG for loss in entries.losses):
                    return
                found = [number for number, line in enumerate(entries.lines, 1) if journal.cursor(line) == end]
                yield entries.lines[: found[0]] if found else entries.lines
                if found:
                    return
        finally:
            one.kill()
