"""The list of those who may not submit mail by sendmail(1), for Postfix: `authorized_submit_users = !PATH, static:all`.

A plain file of names, one a line. Seen on Postfix 3.7: sendmail and postdrop read it at each submission, heed no case,
and refuse every submission while the file is missing or cannot be read by the one who submits. (A texthash that has
just changed keeps each of them waiting for up to 2 s.)

Invariants: there is always a whole file that everybody can read; once it was made, it is replaced and never removed.
What lies where it is to be, a link for example, is replaced and never followed.
"""

import os
from collections.abc import Iterable
from pathlib import Path


def make(path: Path) -> None:
    """An empty list, if there is none yet. Raises OSError."""
    if not path.is_file() or path.is_symlink():
        write(path, ())


def read(path: Path) -> list[str] | None:
    """The login names in the list; None if there is no list. Raises OSError."""
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return None


def write(path: Path, names: Iterable[str]) -> None:
    """Let the list be these login names. Raises OSError."""
    new = path.with_name(f"{path.name}.tmp")
    new.unlink(missing_ok=True)
    with new.open("x", encoding="ascii") as file:
        file.writelines(f"{name}\n" for name in sorted({*names}))
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
