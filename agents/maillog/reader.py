"""The mail log of this host: its threads, and how far it was read.

    follow, journal ─▶ reading ─▶ events, with the position behind their lines ─▶ spool
                          │
                        kept (a file, now and then)

Invariants
- Each line is told once, whenever the process ends: its events and the position behind it get into the spool's files
  together, and a start goes on from there.
- What is known of messages under way is that of all lines before this position: what `agents.maillog.kept` has, and
  the lines since then, read once more.
- A request waits for none of it: some hundred lines at a time are read in threads of their own.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog

from agents.maillog import again, kept, position
from agents.maillog.asked import AskedMessages
from agents.maillog.follow import Follower
from agents.maillog.journal import Entries, Journal
from agents.maillog.log_file import Batch
from agents.maillog.looks import Looks
from agents.maillog.position import Position
from agents.maillog.reading import Reading
from agents.maillog.telling import Told
from weir import settings

JOURNAL = "journal"
TICK_SECONDS = 1.0
LATE_SECONDS = 2.0
"""Lines are read at most so much later than their time says, while all is well."""
SAVE_SECONDS = 60.0
SAVE_LINES = 10_000
"""What is known is written after so many lines, or as many as there are messages: so a line costs the same, however
many messages wait."""
RECORD_SECONDS = 5.0
"""For the spool to have written a position."""

log = structlog.get_logger(__name__)

Tell = Callable[[list[Told], bytes], bool]


class MailLog:
    """`tell` takes events and the position (JSON) behind their lines, when there is room for them; False: the process
    ends before there is. `recorded` gives the newest position in the spool's files."""

    def __init__(
        self,
        options: settings.Log,
        default_realm: str,
        path: Path,
        asked: AskedMessages,
        tell: Tell,
        recorded: Callable[[], bytes | None],
    ) -> None:
        """`path` is the file of what is known."""
        self.reading = Reading(options, default_realm, asked)
        self._options = options
        self._path = path
        self._tell = tell
        self._recorded = recorded
        self._position = Position()
        self._read = 0.0  # when (monotonic) the newest line was read
        self._lines = self._saved_lines = 0
        self._saved = 0.0  # when (monotonic); 0: not yet
        self._ended = False  # what was read was not told: nothing after it may be
        self._follower: Follower | None = None
        self._journal: Journal | None = None
        self._lock = threading.Lock()  # guards what changes with each line
        self.looks = Looks(self.reading.tracker.under_way, self._lock)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mail log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it after the lines that are under way, and keep what is known."""
        self._stopping.set()
        self._thread.join()

    @property
    def lines(self) -> int:
        """Lines read since the start."""
        return self._lines

    @property
    def losses(self) -> Counter[str]:
        """By reason, how often lines were lost or may have been."""
        found: Counter[str] = Counter()
        for source in (self._follower, self._journal):
            for reason, count in tuple(source.losses.items()) if source else ():
                found[reason.value] += count
        return found

    @property
    def failing(self) -> int:
        """Files that cannot be read, and are tried again; the journal is one of them."""
        files = len(self._follower.failing) if self._follower else 0
        return files + (self._journal is not None and self._journal.failing)

    def _run(self) -> None:
        recorded = position.decode(self._recorded() or b"") or Position()
        self._position = recorded.only(self._options.files, self._options.journal)
        with self._lock:
            self._take_up()
        if self._options.files:
            self._follower = Follower([*map(Path, self._options.files)], self._position, self._on_batch)
            self._follower.start()
        if self._options.journal:
            self._journal = Journal(self._position.cursor, self._on_entries)
            self._journal.start()
        while not self._stopping.wait(TICK_SECONDS):
            self._flush()
            if self._is_due():
                self._save()
        for source in (self._follower, self._journal):
            if source is not None:
                source.stop()
        self._save()

    def _take_up(self) -> None:
        """Know again what was known at the position: what was kept, and what the lines since then say."""
        began = time.monotonic()
        try:
            known = kept.read(self._path)
        except (OSError, ValueError) as error:
            log.error("messages under way are not known: what was kept cannot be read", error=str(error))
            return
        if known is None:
            return
        self.reading.restore(known)
        lines = 0
        try:
            for path in self._options.files:
                for batch in again.between(path, known.position, self._position):
                    self.reading.events(path, batch)
                    lines += len(batch)
            if self._options.journal:
                for batch in again.of_journal(known.position.cursor, self._position.cursor):
                    self.reading.events(JOURNAL, batch)
                    lines += len(batch)
        except OSError as error:
            log.warning("the log cannot be read once more", error=str(error))
        self.reading.flush(self._position.waited)
        self._read = time.monotonic()
        messages, seconds = len(self.reading.tracker.under_way), round(time.monotonic() - began, 3)
        log.info("messages under way taken up", messages=messages, lines=lines, seconds=seconds)

    def _on_batch(self, batch: Batch) -> None:
        """In the follower's thread; one without lines has places that changed."""
        with self._lock:
            events = self._take(batch.path, batch.lines)
            self._move(events, self._position.moved(batch.path, batch.places, len(batch.lines)))

    def _on_entries(self, entries: Entries) -> None:
        """In the journal's thread."""
        with self._lock:
            self._move(self._take(JOURNAL, entries.lines), self._position.at(entries.cursor))

    def _flush(self) -> None:
        """Tell what waits for lines that do not come. The clock is the log's, and runs on while it is silent."""
        with self._lock:
            now = self.reading.newest + time.monotonic() - self._read - LATE_SECONDS
            events = self.reading.flush(now) if self.reading.newest else []
            if events:
                self._move(events, self._position.after(now))

    def _take(self, source: str, lines: list[bytes]) -> list[Told]:
        if lines:
            self._read = time.monotonic()
            self._lines += len(lines)
        return self.reading.events(source, lines)

    def _move(self, events: list[Told], moved: Position) -> None:
        if self._ended:
            return
        if self._tell(events, position.encode(moved)):
            self._position = moved
        else:
            self._ended = True

    def _is_due(self) -> bool:
        if not self._saved:
            return self._position.number > 0
        lines = self._lines - self._saved_lines
        many = max(SAVE_LINES, len(self.reading.tracker.under_way))
        return lines >= many or (lines > 0 and time.monotonic() >= self._saved + SAVE_SECONDS)

    def _save(self) -> None:
        """Keep what is known, with the position that it belongs to."""
        try:
            with self._lock:
                if self._ended or not self._position.number:
                    return
                number = self._position.number
                kept.write(self._path, self.reading.known(self._position))
                self._saved, self._saved_lines = time.monotonic(), self._lines
            if self._is_recorded(number):
                kept.publish(self._path)
        except OSError as error:
            log.error("what is known of messages under way cannot be kept", error=str(error))

    def _is_recorded(self, number: int) -> bool:
        """Wait until the spool's files have this position: a start must find it before or at the lines to tell."""
        end = time.monotonic() + RECORD_SECONDS
        while True:
            recorded = position.decode(self._recorded() or b"")
            if recorded is not None and recorded.number >= number:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
