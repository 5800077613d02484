"""Waiting for files to change: told by the kernel (inotify), and looked at now and then where it tells nothing.

Invariant: `wait` comes back within POLL_SECONDS, or BLIND_SECONDS while a folder cannot be watched. So a change is
missed for no longer, not on a network file system either.
"""

import os
import select
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import inotify_simple
import structlog

POLL_SECONDS = 1.0
BLIND_SECONDS = 0.05
_CHANGES = (
    inotify_simple.flags.MODIFY
    | inotify_simple.flags.CREATE
    | inotify_simple.flags.MOVED_TO
    | inotify_simple.flags.MOVED_FROM
    | inotify_simple.flags.DELETE
    | inotify_simple.flags.DELETE_SELF
    | inotify_simple.flags.MOVE_SELF
    | inotify_simple.flags.ONLYDIR
)

log = structlog.get_logger(__name__)


class Watch:
    """`wait` is called on one thread, `wake` and `close` on any."""

    def __init__(self, files: Iterable[tuple[Path, str]]) -> None:
        """`files` are folders and names; what is meant is each file of such a folder whose name begins so."""
        self._names: dict[Path, tuple[str, ...]] = {}
        for folder, name in files:
            self._names[folder] = (*self._names.get(folder, ()), name)
        self._folders: dict[int, Path] = {}
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._inotify: inotify_simple.INotify | None = None
        try:
            self._inotify = inotify_simple.INotify()
            self._poll.register(self._inotify, select.POLLIN)
        except OSError as error:
            log.warning("files cannot be watched, they are looked at instead", error=str(error))

    @property
    def is_blind(self) -> bool:
        """Some folder is not watched."""
        return len(self._folders) < len(self._names)

    def wait(self) -> None:
        """Wait for a change, for wake(), or for a while."""
        if self._add():
            return  # what has changed before is told by nobody
        end = time.monotonic() + (BLIND_SECONDS if self.is_blind else POLL_SECONDS)
        while (left := end - time.monotonic()) > 0:
            ready = dict(self._poll.poll(1000 * left))
            if self._wake in ready or (ready and self._is_of_ours()):
                return

    def wake(self) -> None:
        """End a wait()."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
        os.close(self._wake)

    def _add(self) -> bool:
        """Watch the folders that are not watched yet; tells whether there are more now."""
        before = len(self._folders)
        if self._inotify is not None and self.is_blind:
            for folder in self._names.keys() - set(self._folders.values()):
                with suppress(OSError):  # not there, or too many watches
                    self._folders[self._inotify.add_watch(folder, _CHANGES)] = folder
        return len(self._folders) > before

    def _is_of_ours(self) -> bool:
        """Take what the kernel tells."""
        assert self._inotify is not None  # noqa: S101 (it was, when it told)
        found = False
        for event in self._inotify.read(timeout=0):
            if event.mask & (inotify_simple.flags.IGNORED | inotify_simple.flags.MOVE_SELF):
                self._folders.pop(event.wd, None)
                found = True
            names = self._names.get(self._folders.get(event.wd, Path()), ())
            found |= event.name.startswith(names) or bool(event.mask & inotify_simple.flags.Q_OVERFLOW)
        return found
