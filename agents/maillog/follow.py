"""Following log files: a thread that hands over their lines as they are written.

    watch (inotify, or now and then) ─▶ log_file (rotation) ─▶ tail (lines) ─▶ on_batch(lines, places)

Invariants
- `on_batch` is called in the follower's thread, one batch at a time. While it waits nothing is read: the files keep
  what is written meanwhile.
- Whatever stands in the files or becomes of them, the thread goes on: what fails is told once and tried again.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from agents.maillog.log_file import Batch, LogFile, Loss, real
from agents.maillog.losses import Losses
from agents.maillog.position import Position
from agents.maillog.rotation import Lost
from agents.maillog.watch import Watch

GATHER_SECONDS = 0.005
"""From a change to the look: what is written meanwhile shares one batch."""

log = structlog.get_logger(__name__)


class Follower:
    """`position` is where an earlier run got to (agents.spool keeps it); paths that it lacks begin at their ends."""

    def __init__(self, paths: Sequence[Path], position: Position, on_batch: Callable[[Batch], None]) -> None:
        self.lines = 0
        self.losses = Losses()
        self.failing: set[str] = set()
        """Logs that cannot be read, and are tried again."""
        self._places = dict(position.files)
        self._files = [LogFile(path, position.files.get(str(path))) for path in paths]
        self._on_batch = on_batch
        self._watch = Watch(map(real, paths))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log follower", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it after the batch that is under way; what was not handed over comes at the next start."""
        self._stopping.set()
        self._watch.wake()
        self._thread.join()
        for file in self._files:
            file.close()
        self._watch.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            found = [self._step(number) for number in range(len(self._files))]
            if not any(found):
                self._watch.wait()
                self._stopping.wait(GATHER_SECONDS)

    def _step(self, number: int) -> bool:
        """Hand over the next batch of a log; False: there is none now."""
        file = self._files[number]
        path = str(file.path)
        try:
            batch = file.step(time.monotonic())
        except OSError as error:
            self._tell_failure(path, error)
            return False
        except Exception as error:  # a fault of ours: the next lines must come
            self._tell_failure(path, error)
            file.close()
            self._files[number] = LogFile(file.path, self._places.get(path))
            return False
        self.failing.discard(path)
        if batch is None:
            return False
        self._places[path] = batch.places
        self._hand_over(batch)
        return True

    def _hand_over(self, batch: Batch) -> None:
        losses = batch.losses
        try:
            self._on_batch(batch)
        except Exception:  # a fault of ours: the next lines must come
            log.exception("lines of a log were not taken", path=batch.path)
            losses = [*losses, Loss(Lost.FAULT, batch.path, sum(map(len, batch.lines)))]
        self.lines += len(batch.lines)
        self.losses.add(batch.path, losses)

    def _tell_failure(self, path: str, error: Exception) -> None:
        if path not in self.failing:
            log.error("a log cannot be read", path=path, error=str(error), exc_info=not isinstance(error, OSError))
        self.failing.add(path)
