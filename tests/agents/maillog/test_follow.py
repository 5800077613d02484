"""The follower's thread, with real files."""

import gzip
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import inotify_simple
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.maillog import watch
from agents.maillog.follow import Follower
from agents.maillog.log_file import Batch
from agents.maillog.position import Position, decode, encode
from agents.maillog.rotation import Lost
from agents.maillog.tail import MAX_LINE
from fleet.process import wait_until


class Taken:
    """What a follower has handed over."""

    def __init__(self, position: Position | None = None) -> None:
        self.position = position or Position()
        self.lines: list[bytes] = []
        self.times: list[float] = []
        self.changed = threading.Condition()

    def take(self, batch: Batch) -> None:
        with self.changed:
            self.position = self.position.moved(batch.path, batch.places)
            self.lines += batch.lines
            self.times += [time.monotonic()] * len(batch.lines)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 10), self.lines

    def wait_for(self, *lines: bytes) -> None:
        self.wait(lambda: self.lines[-len(lines) :] == list(lines))


Start = Callable[..., tuple[Follower, Taken]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Follower] = []

    def start_follower(*paths: Path, position: Position | None = None) -> tuple[Follower, Taken]:
        taken = Taken(position)
        follower = Follower(paths, taken.position, taken.take)
        follower.start()
        running.append(follower)
        taken.wait(lambda: len(taken.position.files) == len(paths))
        return follower, taken

    yield start_follower
    for follower in running:
        if follower._thread.is_alive():
            follower.stop()


def write(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.writelines(line + b"\n" for line in lines)


def test_what_is_there_at_the_first_start_is_left_out(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "mail.log"
    write(log, b"before")
    follower, taken = start(log)
    write(log, b"one", b"two")
    taken.wait_for(b"one", b"two")
    assert taken.lines == [b"one", b"two"]
    assert follower.lines == 2


def test_a_file_and_a_folder_that_appear_later_are_read_from_their_beginning(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "later" / "mail.log"
    _, taken = start(log)
    log.parent.mkdir()
    write(log, b"one")
    taken.wait_for(b"one")


def test_lines_come_within_moments(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "mail.log"
    write(log)
    _, taken = start(log)
    delays = []
    for number in range(20):
        begun = time.monotonic()
        write(log, b"%d" % number)
        taken.wait_for(b"%d" % number)
        delays.append(taken.times[-1] - begun)
    assert sorted(delays)[10] < watch.POLL_SECONDS / 4, "not told by the kernel"


def test_without_inotify_files_are_looked_at(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(inotify_simple, "INotify", refuse)
    log = tmp_path / "mail.log"
    write(log)
    _, taken = start(log)
    write(log, b"one")
    taken.wait_for(b"one")


def test_a_restart_goes_on_where_the_kept_position_is(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "mail.log"
    write(log)
    follower, taken = start(log)
    write(log, b"one")
    taken.wait_for(b"one")
    follower.stop()
    write(log, b"two")
    log.rename(tmp_path / "mail.log.1")
    write(log, b"three")
    (tmp_path / "mail.log.2.gz").write_bytes(gzip.compress((tmp_path / "mail.log.1").read_bytes()))
    (tmp_path / "mail.log.1").unlink()
    log.rename(tmp_path / "mail.log.1")
    write(log, b"four")
    _, again = start(log, position=decode(encode(taken.position)))
    again.wait_for(b"two", b"three", b"four")


def test_two_logs_each_have_their_places(tmp_path: Path, start: Start) -> None:
    postfix, dovecot = tmp_path / "mail.log", tmp_path / "dovecot.log"
    _, taken = start(postfix, dovecot)
    write(postfix, b"one")
    taken.wait_for(b"one")
    write(dovecot, b"two")
    taken.wait_for(b"one", b"two")
    assert [place.offset for path in (postfix, dovecot) for place in taken.position.files[str(path)]] == [4, 4]


def test_a_log_that_cannot_be_read_is_tried_again(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "mail.log"
    follower, taken = start(log)
    log.symlink_to("mail.log")  # a loop
    wait_until(lambda: follower.failing, 10, "the log to fail")
    assert follower.failing == {str(log)}
    log.unlink()
    write(log, b"one")
    taken.wait_for(b"one")
    assert not follower.failing


def test_lines_that_nobody_takes_are_counted_and_the_next_come(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "mail.log"
    write(log)
    follower, taken = start(log)
    take = taken.take

    def fail_once(batch: Batch) -> None:
        follower._on_batch = take
        raise ValueError("a fault")

    follower._on_batch = fail_once
    write(log, b"one")
    wait_until(lambda: follower.losses, 10, "the loss to be counted")
    write(log, b"two")
    taken.wait_for(b"two")
    assert taken.lines == [b"two"]
    assert dict(follower.losses) == {Lost.FAULT: 1}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(max_size=300) | st.sampled_from([b"\0" * 300, b"\n", b"\r\n", b"\xff" * MAX_LINE * 2]))
)
def test_no_bytes_stop_it(tmp_path: Path, pieces: list[bytes]) -> None:
    log = tmp_path / f"{os.urandom(8).hex()}.log"
    log.write_bytes(b"")
    taken = Taken()
    follower = Follower([log], taken.position, taken.take)
    follower.start()
    try:
        taken.wait(lambda: bool(taken.position.files))
        with log.open("ab", buffering=0) as file:
            for piece in pieces:
                file.write(piece)
            file.write(b"\nthe last line\n")
        taken.wait(lambda: taken.lines[-1:] == [b"the last line"])
    finally:
        follower.stop()
    *every, _, _ = (b"".join(pieces) + b"\nthe last line\n").split(b"\n")
    assert taken.lines[:-1] == [line for line in every if len(line) <= MAX_LINE]
    assert follower.losses.bytes >= sum(len(line) for line in every if len(line) > MAX_LINE)
