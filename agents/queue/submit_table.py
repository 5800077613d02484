"""The list of those who may not submit mail by sendmail(1), for Postfix: `authorized_submit_users = !PATH, static:all`.

A plain file of names, one a line. Seen on Postfix 3.7: sendmail and postdrop read it at each submission, heed no case,
and refuse every submission while the file is missing or cannot be read by the one who submits. (A texthash that has
just changed keeps each of them waiting for up to 2 s.)

Invariants: there is always a whole file that everybody can read; once it was made, it is replaced and never removed.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def make(path: Path) -> None:
    """An empty list, if there is none yet. Raises OSError."""
    if not path.exists():
        write(path, ())


def write(path: Path, names: Iterable[str]) -> None:
    """Let the list be these login names. Raises OSError."""
    new = path.with_name(f"{path.name}.tmp")
    with new.open("w", encoding="ascii") as file:
        file.writelines(f"{name}\n" for name in sorted({*names}))
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
