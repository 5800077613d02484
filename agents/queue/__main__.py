"""`python -m agents.queue [--config PATH]`: the queue's helper, which `weir queue-helper` starts, as root.

Ended by a signal it ends at once, whatever it does: the next process makes out what became of it. With a socket from
systemd it also ends when nobody has asked for IDLE_SECONDS; the next request starts it again.

Invariants: there is one at a time, and none begins before the last command of the one before has ended; what it writes
lies where nobody but root can put anything.

Exit status: 0 when idle, 1 for what prevents its start, 2 for wrong settings or arguments.
"""

import argparse
import fcntl
import os
import pwd
import socket
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

from agents.queue import submit_table
from agents.queue.held import Held
from agents.queue.helper import Helper
from agents.queue.postfix_queue import PostfixQueue
from agents.queue.server import serve
from weir import logs, settings, settings_file, systemd

IDLE_SECONDS = 60.0
BACKLOG = 16
ROOT = 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="weir queue-helper", description="Holds messages in Postfix's queues, as root."
    )
    parser.add_argument("--config", type=Path, metavar="PATH", help="settings; else $WEIR_CONFIG, /etc/weir/weir.toml")
    try:
        queue = settings_file.load(parser.parse_args().config).queue
    except settings_file.SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure()
    try:
        _run(queue)
    except (OSError, sqlite3.Error) as error:
        print(f"weir queue-helper: {error}", file=sys.stderr)
        return 1
    return 0


def _run(queue: settings.Queue) -> None:
    user = _user(queue.user)
    for key, path in (("held", queue.held), ("submit_table", queue.submit_table)):
        if (other := _others_folder(path)) is not None:
            raise OSError(f"queue.{key}: {other} is not root's alone: others could put a link there")
    submit_table.make(queue.submit_table)
    with (
        queue.held.with_suffix(".lock").open("w") as lock,
        closing(Held(queue.held)) as held,
        _listener(queue.socket, user) as listener,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        queues = {
            name: PostfixQueue(instance.config_directory, [lock.fileno()]) for name, instance in queue.instances.items()
        }
        helper = Helper(queues, held, queue.submit_table)
        helper.recall()
        systemd.notify("READY=1")
        serve(listener, helper, {ROOT, user.pw_uid})


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise OSError(f"queue.user: no user {name} on this host") from None


def _others_folder(path: Path) -> Path | None:
    """A folder on the way to a file in which others than root may put or rename something. Raises OSError."""
    for folder in {*path.absolute().parents, *path.resolve().parents}:
        found = folder.stat()
        may_write = stat.S_IWGRP | stat.S_IWOTH
        is_sticky = found.st_mode & stat.S_ISVTX and folder not in (path.absolute().parent, path.resolve().parent)
        if found.st_uid not in (ROOT, os.geteuid()) or (found.st_mode & may_write and not is_sticky):
            return folder
    return None


def _listener(path: Path, user: pwd.struct_passwd) -> socket.socket:
    """systemd's socket, or one of our own for the user's group."""
    if handed_over := systemd.listening_sockets():
        handed_over[0].settimeout(IDLE_SECONDS)
        return handed_over[0]
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    os.chown(path, ROOT, user.pw_gid)
    path.chmod(0o660)  # before it listens, so nobody meets another mode
    listener.listen(BACKLOG)
    return listener


if __name__ == "__main__":
    sys.exit(main())
