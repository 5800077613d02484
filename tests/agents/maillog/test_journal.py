"""The journal, through a program that stands in for journalctl and prints what one (systemd 252) has printed."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agents.maillog import journal
from agents.maillog.journal import Entries, Journal, Reader
from agents.maillog.rotation import Lost
from fleet.process import wait_until

RECORDED = Path(__file__).with_name("journal.jsonl").read_bytes().splitlines()
CURSORS = [json.loads(line)["__CURSOR"] for line in RECORDED]
# As journalctl does it: an entry that is gone is passed over in silence, and with --follow it does not end by itself.
_STAND_IN = """\
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
options = dict(option.partition("=")[::2] for option in sys.argv[2:])
with (folder / "runs").open("a") as runs:
    print(json.dumps(sys.argv[2:]), file=runs)
lines = (folder / "journal").read_bytes().splitlines(keepends=True)
cursors = [json.loads(line)["__CURSOR"] for line in lines]
if "--lines" in options:
    lines = lines[-1:]
elif options.get("--cursor") in cursors:
    lines = lines[cursors.index(options["--cursor"]):]
sys.stdout.buffer.write(b"".join(lines))
sys.stdout.flush()
if (folder / "broken").exists():
    sys.exit("Failed to iterate through journal: Bad message")
while "--follow" in options:
    time.sleep(60)
"""


class Stage:
    """A journal's content, and what came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[bytes] = []
        self.cursor = ""
        self.changed = threading.Condition()
        (folder / "stand-in.py").write_text(_STAND_IN)
        self.write()

    def write(self, *lines: bytes) -> None:
        """The journal holds these entries now."""
        (self.folder / "new").write_bytes(b"".join(line + b"\n" for line in lines))
        (self.folder / "new").rename(self.folder / "journal")

    def take(self, entries: Entries) -> None:
        with self.changed:
            self.lines += entries.lines
            self.cursor = entries.cursor
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 20), self.lines

    @property
    def runs(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "runs").read_text().splitlines()]


Start = Callable[..., Journal]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def start(stage: Stage) -> Iterator[Start]:
    running: list[Journal] = []

    def start_journal(cursor: str) -> Journal:
        program = (sys.executable, str(stage.folder / "stand-in.py"), str(stage.folder))
        followed = Journal(cursor, stage.take, program)
        followed.start()
        running.append(followed)
        return followed

    yield start_journal
    for followed in running:
        followed.stop()


def test_entries_after_the_cursor_come_once_with_the_newest_cursor(stage: Stage, start: Start) -> None:
    stage.write(*RECORDED)
    followed = start(CURSORS[1])
    stage.wait(lambda: stage.lines == RECORDED[2:])
    assert stage.cursor == CURSORS[-1]
    assert not followed.losses
    (run,) = stage.runs
    assert {"--follow", "--no-tail", "--merge", "--output=json", f"--cursor={CURSORS[1]}"} <= set(run)


def test_what_is_there_at_the_first_start_is_left_out(stage: Stage, start: Start) -> None:
    stage.write(*RECORDED[:3])
    start("")
    stage.wait(lambda: stage.cursor == CURSORS[2])
    assert not stage.lines


def test_an_empty_journal_is_read_from_its_beginning(stage: Stage, start: Start) -> None:
    (stage.folder / "broken").touch()
    start("")
    wait_until((stage.folder / "runs").exists, 20, "the journal to be read")
    stage.write(*RECORDED[:1])
    stage.wait(lambda: stage.cursor == CURSORS[0])


def test_a_program_that_ends_is_started_again_where_it_was(stage: Stage, start: Start) -> None:
    (stage.folder / "broken").touch()
    stage.write(*RECORDED[:3])
    followed = start(CURSORS[0])
    stage.wait(lambda: stage.lines == RECORDED[1:3])
    stage.write(*RECORDED)
    stage.wait(lambda: stage.lines == RECORDED[1:])
    assert followed.restarts >= 1
    (stage.folder / "broken").unlink()
    wait_until(lambda: len(stage.runs) == followed.restarts + 1 and not followed.failing, 20, "a run that goes on")
    assert f"--cursor={CURSORS[2]}" in stage.runs[-1] or f"--cursor={CURSORS[-1]}" in stage.runs[-1]


def test_a_cursor_whose_entry_is_gone_is_told_as_a_loss(stage: Stage, start: Start) -> None:
    stage.write(*RECORDED[3:])
    followed = start(CURSORS[1])
    stage.wait(lambda: stage.lines == RECORDED[3:])
    followed.stop()
    assert dict(followed.losses) == {Lost.GONE: 1}


def test_without_the_program_it_is_tried_again(stage: Stage) -> None:
    followed = Journal(CURSORS[0], stage.take, [str(stage.folder / "missing")])
    with capture_logs() as logs:
        followed.start()
        wait_until(lambda: followed.restarts > 2, 20, "three tries")
        followed.stop()
    assert followed.failing
    (told,) = logs
    assert "No such file" in told["error"]


def test_an_entry_over_the_bound_is_skipped() -> None:
    reader = Reader("")
    big = b'{"MESSAGE":"' + b"x" * journal.MAX_ENTRY
    entries = [reader.feed(piece) for piece in (RECORDED[0] + b"\n" + big, big, b'"}\n' + RECORDED[1] + b"\n")]
    assert [line for found in entries for line in found.lines] == RECORDED[:2]
    (loss,) = entries[-1].losses
    assert loss == (Lost.TOO_LONG, "journal", 2 * len(big) + 2)


@given(pieces=st.lists(st.binary(max_size=60) | st.sampled_from([b"\n", *(line + b"\n" for line in RECORDED)])))
def test_no_bytes_stop_it(pieces: list[bytes]) -> None:
    reader = Reader(CURSORS[0])
    found = [reader.feed(piece) for piece in [*pieces, b"\n" + RECORDED[-1] + b"\n"]]
    assert found[-1].cursor == CURSORS[-1]
    lines = b"".join([*pieces, b"\n" + RECORDED[-1] + b"\n"]).split(b"\n")[:-1]
    first = 1 if lines[0].strip() == RECORDED[0] else 0  # blanks around it are no other entry
    assert [line for entries in found for line in entries.lines] == lines[first:]
