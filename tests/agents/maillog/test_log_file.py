"""A followed log file: against a plain account of what was written, over all that is done to logs; and single cases."""

import gzip
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents.maillog import tail
from agents.maillog.log_file import GRACE_SECONDS, Batch, LogFile, Loss
from agents.maillog.position import Place
from agents.maillog.rotation import Lost
from agents.maillog.tail import Tail

MAX_LINE, READ_BYTES, FINGERPRINT_BYTES = 64, 200, 32
KEPT = 6


def line(number: int, length: int) -> bytes:
    """Its number stands at both ends, so that no piece of it looks like a whole one."""
    return b"%05d %s %05d" % (number, b"x" * length, number)


def number_of(text: bytes) -> int:
    found = re.fullmatch(rb"(\d{5}) x* (\d{5})", text)
    assert found is not None, f"no whole line: {text!r}"
    assert found[1] == found[2], f"no whole line: {text!r}"
    return int(found[1])


class Logging(RuleBasedStateMachine):
    """A writer, a rotation that is set up at will, and a follower that is stopped, killed and delayed.

    `owed` are the lines that are to come; `doomed` those of them whose file was cut or deleted; `unseen` those of these
    that nobody can know of, as nothing of their file had been read.
    """

    @initialize(dated=st.booleans(), existing=st.booleans(), before=st.booleans())
    def begin(self, dated: bool, existing: bool, before: bool) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="weir-")
        self.path = Path(self.folder.name) / "mail.log"
        self.patches = mock.patch.multiple(
            tail, MAX_LINE=MAX_LINE, READ_BYTES=READ_BYTES, FINGERPRINT_BYTES=FINGERPRINT_BYTES
        )
        self.patches.start()
        self.dated = dated
        self.rotations = 0
        self.lines = 0
        self.now = 0.0
        self.time = 10**18
        self.half = b""
        self.owed: set[int] = set()
        self.doomed: set[int] = set()
        self.unseen: set[int] = set()
        self.got: set[int] = set()
        self.losses: list[Loss] = []
        self.long_lines = 0
        self.doubtful = False
        self.late: int | None = None
        self.writer = -1
        if before:
            self.rotated(1).write_bytes(line(99998, 5) + b"\n")
            self.touch(self.rotated(1))
        if existing:
            self.append(line(99999, 10) + b"\n")
        self.places: list[Place] | None = None
        self.log = LogFile(self.path, None)
        self.follow(1)

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        try:
            self.settle()
        finally:
            self.log.close()
            self.close_late()
            if self.writer >= 0:
                os.close(self.writer)
            self.patches.stop()
            self.folder.cleanup()

    # What the writer does

    def open(self) -> int:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.touch(descriptor)
        return descriptor

    def append(self, data: bytes) -> None:
        if self.writer < 0:
            self.writer = self.open()
        os.write(self.writer, data)
        self.touch(self.writer)

    def touch(self, file: int | Path) -> None:
        """Times are the model's own: the same operations give the same files."""
        self.time += 1_000_000
        os.utime(file, ns=(self.time, self.time))

    @rule(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=8))
    def write(self, lengths: list[int]) -> None:
        self.finish()
        self.append(b"".join(self.new(length) + b"\n" for length in lengths))

    @rule(length=st.integers(0, 50), cut=st.integers(1, 12))
    def write_half(self, length: int, cut: int) -> None:
        self.finish()
        text = self.new(length) + b"\n"
        self.append(text[:cut])
        self.half = text[cut:]

    @rule(length=st.integers(MAX_LINE + 1, 3 * READ_BYTES))
    def write_too_long(self, length: int) -> None:
        self.finish()
        self.long_lines += 1
        self.lines += 1
        self.append((b"y%05d" % self.lines * length)[:length] + b"\n")

    @rule()
    def finish(self) -> None:
        if self.half:
            self.append(self.half)
            self.half = b""

    @precondition(lambda self: self.late is not None)
    @rule(length=st.integers(0, 50))
    def write_late(self, length: int) -> None:
        """A second process has not heard of the rotation yet."""
        assert self.late is not None
        self.finish()
        os.write(self.late, self.new(length) + b"\n")
        self.touch(self.late)

    def new(self, length: int) -> bytes:
        self.lines += 1
        self.owed.add(self.lines)
        return line(self.lines, length)

    # What is done to the files

    def rotated(self, back: int) -> Path:
        """The file that was rotated `back` times ago, if it is not compressed."""
        if self.dated:
            return self.path.with_name(f"mail.log-{20261125 + self.rotations - back}")
        return self.path.with_name(f"mail.log.{back}")

    @rule(create=st.booleans(), reopen=st.booleans(), still_written=st.booleans())
    def rotate(self, create: bool, reopen: bool, still_written: bool) -> None:
        self.reopen()
        if not self.path.exists():
            return
        self.close_late()
        self.shift()
        self.path.rename(self.rotated(1))
        if create or reopen:
            os.close(self.open())
        if still_written:
            self.late = os.open(self.rotated(1), os.O_WRONLY | os.O_APPEND)
        if reopen:
            self.reopen()

    @rule()
    def reopen(self) -> None:
        """The writer is told of a rotation."""
        self.finish()
        if self.writer >= 0 and not self.is_written(self.path):
            os.close(self.writer)
            self.writer = -1

    def is_written(self, path: Path) -> bool:
        return self.writer >= 0 and path.exists() and os.path.samestat(path.stat(), os.fstat(self.writer))

    def shift(self) -> None:
        """Make room for the newest rotated file."""
        self.rotations += 1
        for back in range(KEPT, 0, -1):
            for old in (self.rotated(back), Path(f"{self.rotated(back)}.gz")):
                if not self.dated and old.exists():
                    old.rename(str(old).replace(f".log.{back}", f".log.{back + 1}"))
        for old in (self.rotated(KEPT + 1), Path(f"{self.rotated(KEPT + 1)}.gz")):
            if old.exists():
                self.delete(old)

    @rule()
    def compress(self) -> None:
        self.reopen()
        self.close_late()
        for back in range(2, KEPT + 1):
            if (plain := self.rotated(back)).exists():
                times = plain.stat()
                compressed = Path(f"{plain}.gz")
                compressed.write_bytes(gzip.compress(plain.read_bytes()))
                os.utime(compressed, ns=(times.st_atime_ns, times.st_mtime_ns))
                plain.unlink()
                self.doubtful = True

    @rule(between=st.integers(0, 2))
    def copytruncate(self, between: int) -> None:
        self.reopen()
        if not self.path.exists():
            return
        self.close_late()
        self.shift()
        self.rotated(1).write_bytes(self.path.read_bytes())
        self.touch(self.rotated(1))
        if not self.lines_of(self.path) & self.got:
            self.doomed |= self.lines_of(self.path)  # nobody knows that the copy is one
            self.unseen |= self.lines_of(self.path)
        doomed = set()
        for _ in range(between):
            self.append(self.new(3) + b"\n")
            doomed.add(self.lines)
        self.doom(self.path, doomed)
        os.truncate(self.path, 0)
        self.touch(self.path)

    @rule()
    def truncate(self) -> None:
        self.reopen()
        if self.path.exists():
            self.doom(self.path, self.lines_of(self.path))
            os.truncate(self.path, 0)
            self.touch(self.path)

    @rule(count=st.integers(1, 3))
    def delete_oldest(self, count: int) -> None:
        self.reopen()
        for back in range(KEPT, 0, -1):
            for old in (self.rotated(back), Path(f"{self.rotated(back)}.gz")):
                if old.exists() and count:
                    self.delete(old)
                    count -= 1

    @rule()
    def delete_log(self) -> None:
        self.reopen()
        if self.path.exists():
            self.doom(self.path, self.lines_of(self.path))
            self.path.unlink()
            self.reopen()

    def delete(self, path: Path) -> None:
        self.close_late()
        self.doomed |= self.lines_of(path) - self.got
        if not any(place.offset for place in self.places or []):
            self.unseen |= self.doomed  # nothing was ever read
        self.doubtful = True
        path.unlink()

    def doom(self, path: Path, numbers: set[int]) -> None:
        if not self.lines_of(path) & self.got:
            self.unseen |= numbers - self.got
        self.doomed |= numbers - self.got
        self.doubtful = True

    def lines_of(self, path: Path) -> set[int]:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return {int(text[:5]) for text in data.split(b"\n") if text[:5].isdigit()} & self.owed

    def close_late(self) -> None:
        if self.late is not None:
            os.close(self.late)
            self.late = None

    # What the follower does

    @rule(steps=st.integers(1, 6))
    def follow(self, steps: int) -> None:
        for _ in range(steps):
            self.take(self.log.step(self.now))

    def take(self, batch: Batch | None) -> None:
        if batch is None:
            return
        for text in batch.lines:
            number = number_of(text)
            assert number in self.owed, "a line from before the start" if number > 99990 else "a line that came before"
            self.owed.remove(number)
            self.got.add(number)
        self.places = batch.places
        self.losses += batch.losses

    @rule(unkept=st.integers(0, 4))
    def kill(self, unkept: int) -> None:
        """It ends with some batches that were read but not kept, and starts again from what was kept."""
        for _ in range(unkept):
            self.log.step(self.now)
        self.log.close()
        self.log = LogFile(self.path, self.places)

    @rule(seconds=st.sampled_from([1.0, GRACE_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.close_late()
        self.now += seconds

    @rule()
    def settle(self) -> None:
        """All is read, up to a last line: nothing is missing, or it was told."""
        self.reopen()
        self.write([0])
        self.read_all()
        self.wait(GRACE_SECONDS)
        self.read_all()
        reasons = {loss.reason for loss in self.losses}
        missing = self.owed
        if missing:
            assert self.doubtful, f"lost although nothing was done to the files: {missing}"
            told = reasons & {Lost.GONE, Lost.TRUNCATED}
            assert told or missing <= self.doomed & self.unseen, f"lost in silence: {missing}"
        if not self.doubtful:
            assert not reasons - {Lost.TOO_LONG}, f"false alarm: {reasons}"
            assert sum(loss.reason is Lost.TOO_LONG for loss in self.losses) >= bool(self.long_lines)
        self.owed, self.losses = set(), []
        self.long_lines, self.doubtful = 0, False
        self.doomed.clear()
        self.unseen.clear()

    def read_all(self) -> None:
        for _ in range(400):
            batch = self.log.step(self.now)
            if batch is None:
                return
            self.take(batch)
        raise AssertionError("no end")

    @invariant()
    def few_places(self) -> None:
        assert self.places is None or len(self.places) <= KEPT + 3


Logging.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestLogging = Logging.TestCase


def read(log: LogFile, now: float = 0.0) -> tuple[list[bytes], list[Loss], list[Place] | None]:
    """All that there is."""
    lines, losses, places = [], [], None
    while (batch := log.step(now)) is not None:
        lines += batch.lines
        losses += batch.losses
        places = batch.places
    return lines, losses, places


@pytest.fixture
def followed(tmp_path: Path) -> Iterator[LogFile]:
    log = LogFile(tmp_path / "mail.log", None)
    log.step(0.0)
    yield log
    log.close()


def test_a_damaged_compressed_file_is_told_and_the_next_one_read(tmp_path: Path, followed: LogFile) -> None:
    whole = gzip.compress(b"".join(os.urandom(20).hex().encode() + b"\n" for _ in range(5000)))
    (tmp_path / "mail.log.1.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mail.log").write_bytes(b"one\n")
    lines, losses, places = read(followed)
    assert lines[-1] == b"one"
    assert [loss.reason for loss in losses] == [Lost.UNREADABLE]
    assert places is not None
    again = LogFile(followed.path, places)
    assert read(again)[0] == []
    again.close()


def test_what_has_only_the_name_of_a_compressed_file_is_told(tmp_path: Path, followed: LogFile) -> None:
    (tmp_path / "mail.log.1.gz").write_bytes(b"no gzip")
    (tmp_path / "mail.log").write_bytes(b"one\n")
    lines, losses, _ = read(followed)
    assert lines == [b"one"]
    assert [loss.reason for loss in losses] == [Lost.UNREADABLE]


def test_a_piece_of_a_line_that_is_never_ended_is_told(tmp_path: Path, followed: LogFile) -> None:
    (tmp_path / "mail.log").write_bytes(b"one\npie")
    assert read(followed)[0] == [b"one"]
    (tmp_path / "mail.log").rename(tmp_path / "mail.log.1")
    (tmp_path / "mail.log").write_bytes(b"two\n")
    assert read(followed)[:2] == ([b"two"], [])
    assert read(followed, GRACE_SECONDS)[:2] == ([], [Loss(Lost.INCOMPLETE, "mail.log", 3)])


def test_a_line_at_the_bound_is_whole_and_one_over_it_is_told(tmp_path: Path, followed: LogFile) -> None:
    longest, longer = b"x" * tail.MAX_LINE, b"y" * (tail.MAX_LINE + 1)
    (tmp_path / "mail.log").write_bytes(b"\n".join((longest, longer, b"one", b"")))
    assert read(followed)[:2] == ([longest, b"one"], [Loss(Lost.TOO_LONG, "mail.log", len(longer))])


def test_a_file_that_grew_again_after_it_was_cut_is_read_from_its_beginning(tmp_path: Path, followed: LogFile) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"one\ntwo\n")
    read(followed)
    path.write_bytes(b"three\nfour\nfive\n")
    assert read(followed)[:2] == ([b"three", b"four", b"five"], [Loss(Lost.TRUNCATED, "mail.log", 0)])


def test_no_directory_and_no_pipe_is_a_log(tmp_path: Path, followed: LogFile) -> None:
    os.mkfifo(tmp_path / "mail.log.1")
    (tmp_path / "mail.log").mkdir()
    assert read(followed) == ([], [], None)


def test_who_has_not_heard_of_a_rotation_is_read_for_a_while(tmp_path: Path, followed: LogFile) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"one\n")
    read(followed)
    with path.open("ab", buffering=0) as late:
        path.rename(tmp_path / "mail.log.1")
        path.write_bytes(b"two\n")
        assert read(followed)[0] == [b"two"]
        late.write(b"three\n")
        lines, _, places = read(followed, GRACE_SECONDS - 1)
        assert lines == [b"three"]
        assert places is not None
        late.write(b"four\n")
        again = LogFile(path, places)
        assert read(again)[:2] == ([b"four"], [])
        again.close()


def test_files_not_begun_at_a_stop_are_found_even_when_they_were_compressed(tmp_path: Path, followed: LogFile) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"one\n")
    read(followed)
    path.rename(tmp_path / "mail.log.2")
    (tmp_path / "mail.log.1").write_bytes(b"two\n")
    path.touch()
    batch = followed.step(0.0)
    assert batch is not None
    assert batch.lines == [b"two"]
    with path.open("ab") as file:
        file.write(b"three\n")
    path.rename(tmp_path / "mail.log.0")
    (tmp_path / "mail.log.0.gz").write_bytes(gzip.compress((tmp_path / "mail.log.0").read_bytes()))
    (tmp_path / "mail.log.0").unlink()
    path.write_bytes(b"four\n")
    again = LogFile(path, batch.places)
    assert read(again)[:2] == ([b"three", b"four"], [])
    again.close()


def test_a_rotated_file_that_may_not_be_read_holds_up_nothing(tmp_path: Path, followed: LogFile) -> None:
    path = tmp_path / "mail.log"
    path.write_bytes(b"one\n")
    _, _, places = read(followed)
    path.rename(tmp_path / "mail.log.1")
    path.write_bytes(b"two\n")
    opened = Tail.__init__

    def refuse(one: Tail, at: Path, offset: int = 0) -> None:
        if at.name == "mail.log.1":
            raise PermissionError(13, "no")
        opened(one, at, offset)

    again = LogFile(path, places)
    with mock.patch.object(Tail, "__init__", refuse):
        lines, losses, _ = read(again)
    assert lines == [b"two"]
    assert [loss.reason for loss in losses] == [Lost.UNREADABLE, Lost.GONE]
    again.close()
