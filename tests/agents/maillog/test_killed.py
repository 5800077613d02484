"""The mail log and the spool in a process that is killed again and again: each line is told once, and as it would have
been by a process that never ended."""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents.maillog.asked import AskedMessages
from agents.maillog.reading import Reading
from agents.segment import POSITION
from benchmarks import maillog_load
from weir import events, settings
from weir.events import Event, Submitted

_AGENT = """\
import sys, threading, time
from pathlib import Path
from agents.maillog import reader
from agents.maillog.asked import AskedMessages
from agents.maillog.reader import MailLog
from agents.spool import Spool
from weir.settings import Log

reader.TICK_SECONDS, reader.SAVE_LINES, reader.SAVE_SECONDS = 0.003, int(sys.argv[3]), 600
spool = Spool(Path(sys.argv[1]), "mx1", 2**30)
spool.open()
lock = threading.Lock()

def tell(events, position):
    with lock:
        spool.append_with_position(events, position)
    return True

path = Path(sys.argv[1]) / "messages"
log = MailLog(Log(files=[sys.argv[2]]), "", path, AskedMessages(), tell, lambda: spool.log_position)
print("started", flush=True)
log.start()
time.sleep(600)
"""
SINCE = 1_795_534_000.0


def told(spool: Path) -> list[Event]:
    found = []
    for path in sorted(spool.glob("*.jsonl")):
        whole = path.read_bytes().rpartition(b"\n")[0]
        found += [events.decoder.decode(line) for line in whole.split(b"\n")[1:] if not line.startswith(POSITION)]
    return found


def without_seq(found: list[Event]) -> list[Event]:
    for event in found:
        event.seq = 0
    return found


@contextmanager
def killed(agent: "subprocess.Popen[bytes]") -> Iterator[None]:
    try:
        yield
    finally:
        agent.kill()


def pieces(lines: list[bytes], chance: random.Random) -> Iterator[list[bytes]]:
    while lines:
        size = chance.randrange(1, 120)
        yield lines[:size]
        del lines[:size]


def rotate(log: Path) -> None:
    for back in range(8, 0, -1):
        older = log.with_name(f"mail.log.{back}")
        if older.exists():
            older.rename(log.with_name(f"mail.log.{back + 1}"))
    log.rename(log.with_name("mail.log.1"))
    log.touch()


@pytest.mark.parametrize("save_lines", [1, 150, 2000])
def test_whenever_it_is_killed_each_line_is_told_once(tmp_path: Path, save_lines: int) -> None:
    spool, log = tmp_path / "spool", tmp_path / "mail.log"
    log.touch()
    chance = random.Random(save_lines)
    lines = list(maillog_load.precise(maillog_load.mixed(700), SINCE))
    expected = Reading(settings.Log(), "", AskedMessages()).events("", [line.rstrip(b"\n") for line in lines])
    assert sum(isinstance(event, Submitted) for event in expected) > 500
    command = [sys.executable, "-c", _AGENT, str(spool), str(log), str(save_lines)]
    written = pieces(lines, chance)
    left = True
    turn = 0
    while left:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as agent, killed(agent):
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"started\n"
            deadline = time.monotonic() + 20
            while not (spool / "messages").exists():
                assert time.monotonic() < deadline
                time.sleep(0.005)
            for _ in range(chance.randrange(1, 20)):
                piece = next(written, None)
                left = piece is not None
                with log.open("ab") as file:
                    file.writelines(piece or [])
                time.sleep(chance.random() / 100)
            if turn % 2:
                rotate(log)
        turn += 1
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent, killed(agent):
        deadline = time.monotonic() + 20
        while len(told(spool)) < len(expected) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert without_seq(told(spool)) == expected
