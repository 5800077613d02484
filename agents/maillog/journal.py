"""Following systemd's journal: a thread that reads what `journalctl` prints, an entry a line of JSON.

Facts, seen with systemd 252: `--follow` alone shows the present boot only, `--merge` all of them; `--after-cursor`
passes over an entry if the one that the cursor names is gone (systemd/systemd#30288). So that entry is asked for too.

Invariants
- Each entry comes once, and the cursor told with it is that of the newest one. If the entry of our cursor is not there
  any more (the journal was cut), that is told as a loss.
- Whatever the program prints and however it ends, it is started again from the last cursor. Why it ended is told once,
  until there are entries again or it is for another reason.
"""

import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import structlog

from agents.maillog.log_file import Loss
from agents.maillog.losses import Losses
from agents.maillog.rotation import Lost

MAX_ENTRY = 256 * 1024
"""Bytes of the longest entry: a message that is no UTF-8 takes four for each of its own."""
READ_BYTES = 64 * 1024
BACK_OFF_SECONDS = (0.1, 5.0)
_ENTRIES = ("SYSLOG_FACILITY=2", "+", "SYSLOG_IDENTIFIER=saslauthd")  # 2: mail
_FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_HOSTNAME"
_PRINT = ("--output=json", "--all", "--no-pager", "--quiet", f"--output-fields={_FIELDS}")

log = structlog.get_logger(__name__)


class Entries(NamedTuple):
    """What was read in one go."""

    lines: list[bytes]
    """JSON, one entry each, without line breaks."""
    cursor: str
    """Where to go on after them."""
    losses: list[Loss]


class Reader:
    """Makes entries of what one run of the program prints. Pure.

    >>> reader = Reader("b")
    >>> reader.feed(b'{"__CURSOR":"b"}\\n{"__CURSOR":"c"}\\n{"__CUR')
    Entries(lines=[b'{"__CURSOR":"c"}'], cursor='c', losses=[])
    """

    def __init__(self, cursor: str) -> None:
        self.cursor = cursor
        self._asked = cursor
        self._rest = b""
        self._skipped = 0

    def feed(self, data: bytes) -> Entries:
        """Take what was printed; without a whole entry in it there are no lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        losses = []
        if self._skipped and lines:
            losses.append(Loss(Lost.TOO_LONG, "journal", self._skipped + len(lines.pop(0))))
            self._skipped = 0
        if self._skipped or len(self._rest) > MAX_ENTRY:
            self._skipped += len(self._rest)
            self._rest = b""
        if self._asked and lines:
            if cursor(lines[0]) == self._asked:
                del lines[0]
            else:
                losses.append(Loss(Lost.GONE, "journal", 0))
            self._asked = ""
        self.cursor = next(filter(None, map(cursor, reversed(lines))), self.cursor)
        return Entries(lines, self.cursor, losses)


class Journal:
    """`cursor` is where an earlier run got to; without one, what is in the journal already is not read.

    `on_entries` is called in the journal's thread. While it waits, the journal keeps what is written.
    """

    def __init__(
        self, cursor: str, on_entries: Callable[[Entries], None], program: Sequence[str] = ("journalctl",)
    ) -> None:
        self.lines = 0
        self.losses = Losses()
        self.restarts = 0
        """Times that the program ended by itself."""
        self.failing = False
        """The program ended, and has printed nothing since."""
        self._cursor = cursor
        self._on_entries = on_entries
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # guards the process and whether one may be started
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it after the entries that are under way."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        self._thread.join()

    def _run(self) -> None:
        back_off, most = BACK_OFF_SECONDS
        told = None
        while not self._stopping.is_set():
            before = self.lines
            error = self._follow() if self._cursor else self._begin()
            if self._stopping.is_set():
                return
            self.restarts += 1
            if self.lines > before or error != told:
                log.warning("journalctl ended, it is started again", error=error)
            told, self.failing = error, True
            back_off = BACK_OFF_SECONDS[0] if self.lines > before else min(2 * back_off, most)
            self._stopping.wait(back_off)

    def _begin(self) -> str:
        """Find the newest entry and follow those after it; all, if there is none."""
        reader = Reader("")
        error = self._print(["--merge", "--lines=1"], reader)
        if reader.cursor:
            self._hand_over(Entries([], reader.cursor, []))
        return error or self._follow()

    def _follow(self) -> str:
        """Until the program ends; returns what it complained of."""
        options = ["--follow", "--no-tail", "--merge"]
        if self._cursor:
            options.append(f"--cursor={self._cursor}")
        return self._print(options, Reader(self._cursor), self._hand_over)

    def _print(self, options: list[str], reader: Reader, take: Callable[[Entries], None] | None = None) -> str:
        """Run the program to its end; returns what it complained of."""
        try:
            with self._lock:
                if self._stopping.is_set():
                    return ""
                self._process = subprocess.Popen(
                    command(self._program, options),
                    bufsize=0,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
        except OSError as error:
            return str(error)
        with self._process as process:
            assert process.stdout is not None  # noqa: S101 (a pipe)
            assert process.stderr is not None  # noqa: S101 (a pipe)
            while data := process.stdout.read(READ_BYTES):
                self.failing = False
                entries = reader.feed(data)
                if take is not None and (entries.lines or entries.losses):
                    take(entries)
            return process.stderr.read(1000).decode(errors="replace").strip()

    def _hand_over(self, entries: Entries) -> None:
        self._cursor = entries.cursor
        losses = entries.losses
        try:
            self._on_entries(entries)
        except Exception:  # a fault of ours: the next entries must come
            log.exception("entries of the journal were not taken")
            losses = [*losses, Loss(Lost.FAULT, "journal", sum(map(len, entries.lines)))]
        self.lines += len(entries.lines)
        self.losses.add("journal", losses)


def command(program: Sequence[str], options: Sequence[str]) -> list[str]:
    """To print entries of mail programs; `options` say which."""
    return [*program, *_PRINT, *options, *_ENTRIES]


class _Entry(msgspec.Struct):
    cursor: str = msgspec.field(default="", name="__CURSOR")


def cursor(line: bytes) -> str:
    """Empty: it has none, or is no entry."""
    try:
        return _decode(line).cursor
    except msgspec.DecodeError:
        return ""


_decode = msgspec.json.Decoder(_Entry).decode
