"""Which messages on hold are ours: a file, so that a restart or a crash makes none of them another's, nor ours.

A message is written down as intended before it is put on hold. What is intended and found on hold later is ours, as it
was not on hold when it was intended: so it is known whatever ends us in between.

Invariant: a message that is not on hold any more is not ours; if it is put on hold again, that was somebody else.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS held (instance TEXT, id TEXT, PRIMARY KEY (instance, id)) WITHOUT ROWID"


class Held:
    """The file at `path`, which is made if it is not there; for one process. Every method raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path)
        self._file.execute("PRAGMA synchronous = EXTRA")  # with less a power loss may undo what was written last
        self._file.execute(_TABLE)

    def close(self) -> None:
        self._file.close()

    def ours(self, instance: str, on_hold: set[str]) -> set[str]:
        """Of the messages on hold those that are ours; what else was ours or intended is forgotten."""
        known = {queue_id for (queue_id,) in self._file.execute("SELECT id FROM held WHERE instance = ?", (instance,))}
        self.forget(instance, known - on_hold)
        return known & on_hold

    def intend(self, instance: str, ids: Iterable[str]) -> None:
        """Messages that are not on hold, and are about to be put there; on disk when it returns."""
        self._write("INSERT OR IGNORE INTO held VALUES (?, ?)", instance, ids)

    def forget(self, instance: str, ids: Iterable[str]) -> None:
        self._write("DELETE FROM held WHERE instance = ? AND id = ?", instance, ids)

    def _write(self, statement: str, instance: str, ids: Iterable[str]) -> None:
        with self._file:  # one transaction
            self._file.executemany(statement, [(instance, queue_id) for queue_id in ids])
