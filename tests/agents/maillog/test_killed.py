"""Follower and spool together in a process that is killed again and again: the event of each line is there once."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from agents.segment import POSITION

_AGENT = """\
import sys, time
from pathlib import Path
from agents.maillog.follow import Follower
from agents.maillog.position import Position, decode, encode
from agents.spool import Spool
from weir.events import Request

spool = Spool(Path(sys.argv[1]), "mx1", 2**30)
spool.open()
position = decode(spool.log_position or b"") or Position()

def take(batch):
    global position
    position = position.moved(batch.path, batch.places)
    events = [Request(seq=0, time=0.0, protocol_state="RCPT", helo_name=line.decode()) for line in batch.lines]
    spool.append_with_position(events, encode(position))

Follower([Path(sys.argv[2])], position, take).start()
print("started", flush=True)
time.sleep(600)
"""


def events(spool: Path) -> list[str]:
    found = []
    for path in sorted(spool.glob("*.jsonl")):
        whole = path.read_bytes().rpartition(b"\n")[0]
        for line in whole.split(b"\n")[1:]:
            if not line.startswith(POSITION):
                found.append(json.loads(line)["helo_name"])
    return found


def test_whenever_it_is_killed_each_line_has_one_event(tmp_path: Path) -> None:
    spool, log = tmp_path / "spool", tmp_path / "mail.log"
    log.touch()
    chance = random.Random(7)
    written: list[str] = []
    command = [sys.executable, "-c", _AGENT, str(spool), str(log)]
    for turn in range(8):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"started\n"
            deadline = time.monotonic() + 20
            while not any(POSITION in path.read_bytes() for path in spool.glob("*.jsonl")):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            for _ in range(chance.randrange(1, 60)):
                lines = [f"{len(written) + number}" for number in range(chance.randrange(1, 300))]
                written += lines
                with log.open("a") as file:
                    file.write("".join(line + "\n" for line in lines))
                time.sleep(chance.random() / 500)
            if turn % 2:
                for back in range(8, 0, -1):
                    older = tmp_path / f"mail.log.{back}"
                    if older.exists():
                        older.rename(tmp_path / f"mail.log.{back + 1}")
                log.rename(tmp_path / "mail.log.1")
                log.touch()
            os.kill(agent.pid, signal.SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        deadline = time.monotonic() + 20
        while len(events(spool)) < len(written) and time.monotonic() < deadline:
            time.sleep(0.05)
        agent.kill()
    assert events(spool) == written
