"""The recorded cases of postfwd: read from their files, and each run against a real standalone agent over its socket.

A case is a rule set, the requests sent to one freshly started server, and postfwd's own replies; where ours differ on
purpose it has ours too. `WEIR_POSTFWD_CASES=FILE[:FILE…]` chooses other files than the one beside this module.
"""

import calendar
import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fleet.dns import DnsServer
from fleet.own import CHECKOUT
from fleet.process import Process, free_port, wait_until

ENVIRONMENT = "WEIR_POSTFWD_CASES"
DEFAULT = Path(__file__).with_name("postfwd_cases.json")
LOAD_ERROR = "<load error>"
NO_ANSWER = "<no answer>"
CLOSED = "<closed>"
ANSWER = "<answer>"
START_SECONDS = 20.0
REPLY_SECONDS = 6.0
_NEEDED = {
    "name": str,
    "rules": str,
    "tables": dict,
    "options": list,
    "requests": list,
    "expected": list,
    "weir": str,
}
_USAGE = 2

Case = dict[str, Any]
Expected = list[str | list[str]]


class CasesError(ValueError):
    """A file of cases cannot be used."""


def load(paths: str | None) -> list[Case]:
    """All cases of these files (separated by colons; None or empty: the default's). Raises CasesError."""
    cases: list[Case] = []
    names: set[str] = set()
    for path in [Path(text) for text in paths.split(":") if text] if paths else [DEFAULT]:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CasesError(f"{path}: {error}") from None
        if not isinstance(found, list) or not found:
            raise CasesError(f"{path}: expected a JSON array of cases")
        for number, case in enumerate(found):
            _check(case, f"{path}: case {number}")
            if case["name"] in names:
                raise CasesError(f"{path}: case {case['name']} is there twice")
            names.add(case["name"])
        cases += found
    return cases


def _check(case: Any, place: str) -> None:
    if not isinstance(case, dict):
        raise CasesError(f"{place}: expected an object")
    for field, kind in _NEEDED.items():
        if not isinstance(case.get(field), kind):
            raise CasesError(f"{place}: expected {field} to be of type {kind.__name__}")
    for request in case["requests"]:
        if not isinstance(request, dict) or not isinstance(request.get("attrs"), dict):
            raise CasesError(f"{place}: expected attrs in each request")


def expected(case: Case) -> Expected:
    """Our replies, as the case tells them: texts, or lists of which one is right."""
    replies: Expected = case["expected"]
    if case["weir"] == "same":
        return replies
    if "weir_expected" in case:
        told: Expected = case["weir_expected"]
        return told
    text: str = case["weir"]
    if "hang" in text:
        return [[ANSWER, LOAD_ERROR] for _ in replies]
    if "load error" in text:
        return [LOAD_ERROR]
    if "names weir" in text:
        return [re.sub(r"postfwd\d?", "weir", reply) if isinstance(reply, str) else reply for reply in replies]
    return [f"<as told: {text}>"]


def is_right(replies: list[str], wanted: Expected) -> bool:
    """Tell whether the replies are those that were expected."""
    if replies == [LOAD_ERROR]:
        return all(LOAD_ERROR in _alternatives(one) for one in wanted)
    return len(replies) == len(wanted) and all(
        reply in _alternatives(one) or (ANSWER in _alternatives(one) and reply.startswith("action="))
        for reply, one in zip(replies, wanted, strict=True)
    )


def line(case: Case, replies: list[str]) -> str:
    """What is printed about a case: `ok NAME` or `FAIL NAME: expected […] got […]`."""
    wanted = expected(case)
    if is_right(replies, wanted):
        return f"ok {case['name']}"
    return f"FAIL {case['name']}: expected {json.dumps(wanted)} got {json.dumps(replies)}"


def run(case: Case, directory: Path) -> list[str]:
    """The replies to the case's requests, by an agent with an own empty `directory`; [LOAD_ERROR] if it refuses."""
    for name, text in case["tables"].items():
        _write(directory / name, text, directory)
    rules = directory / "rules.cf"
    _write(rules, case["rules"], directory)
    with ExitStack() as stack:
        arguments = ["--standalone", "--rules", str(rules), "--state", str(directory / "state")]
        if "dns" in case:
            server = stack.enter_context(DnsServer(case["dns"]["zone"], case["dns"].get("silent", ())))
            arguments += ["--resolver", server.address]
        else:
            arguments.append("--no-dns")
        arguments += options(case["options"])
        agent = stack.enter_context(_Agent(arguments, directory, case.get("clock")))
        if not agent.wait_serving():
            return [LOAD_ERROR]
        return [_ask(agent, request, directory) for request in case["requests"]]


def options(words: list[str]) -> list[str]:
    """Our arguments for postfwd's. Raises CasesError for one that is not known here."""
    ours: list[str] = []
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if name in {"--cache", "--cacheid", "--keep_rates"}:
            continue  # ours has no cache of requests, and keeps its counters over a reload
        if name == "--test":
            ours.append("--dry-run")
        elif name in {"--scores", "--dns_timeout", "--dns_timeout_max"}:
            ours += [_OURS[name], value if equals else next(remaining)]
        else:
            raise CasesError(f"no option of ours is known for {word}")
    return ours


_OURS = {"--scores": "--score", "--dns_timeout": "--dns-timeout", "--dns_timeout_max": "--dns-timeout-max"}


class _Agent:
    """`weir agent` as a process; with a clock its time begins at that."""

    def __init__(self, arguments: list[str], directory: Path, clock: str | None) -> None:
        self._address = ("127.0.0.1", free_port())
        ahead = calendar.timegm(time.strptime(clock, "%Y-%m-%d %H:%M:%S")) - time.time() if clock else 0.0
        module = ["tests.rules.shifted_clock", str(ahead)] if clock else ["weir.cli"]
        self.log = directory / "log"
        self.process = Process(
            "agent",
            [sys.executable, "-m", *module, "agent", *arguments, "--listen", "{}:{}".format(*self._address)],
            self.log,
            env={"TZ": "UTC"},
            cwd=CHECKOUT,
        )
        self.connection: socket.socket | None = None

    def __enter__(self) -> "_Agent":
        self.process.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.disconnect()
        self.process.terminate()

    def wait_serving(self) -> bool:
        """Return True when it answers, False if it has refused its rules; raises RuntimeError for anything else."""

        def serving() -> bool:
            return not self.process.running or self._connects()

        wait_until(serving, START_SECONDS, "the agent to be ready", 0.01)
        if self.process.running:
            return True
        if self.process.wait(1) == _USAGE:
            return False
        raise RuntimeError(f"the agent ended: {self.log.read_text()}")

    def connect(self) -> socket.socket:
        """The present connection, or a new one."""
        if self.connection is None:
            self.connection = socket.create_connection(self._address, REPLY_SECONDS)
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.connection

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def reload(self) -> None:
        """SIGHUP; returns when it has read its rules again."""
        before = self._reloads()
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: self._reloads() > before, REPLY_SECONDS, "the agent to reload")

    def _reloads(self) -> int:
        return len(re.findall("rules (?:not )?reloaded", self.log.read_text(errors="replace")))

    def _connects(self) -> bool:
        try:
            self.connect()
        except OSError:
            return False
        return True


def _ask(agent: _Agent, request: dict[str, Any], directory: Path) -> str:
    time.sleep(request.get("delay_s", 0))
    if request.get("new_connection"):
        agent.disconnect()
    if "signal" in request:
        agent.reload()
        agent.disconnect()
    for name, text in request.get("write", {}).items():
        _rewrite(directory / name, text, directory)
    data = "".join(f"{name}={value}\n" for name, value in request["attrs"].items()).encode() + b"\n"
    connection = agent.connect()
    try:
        _send(connection, data, request.get("chunks", 1))
        reply = _received(connection, request.get("timeout", REPLY_SECONDS))
    except OSError:
        reply = CLOSED
    if not reply.startswith("action="):
        agent.disconnect()
    return reply


def _send(connection: socket.socket, data: bytes, chunks: int) -> None:
    size = -(-len(data) // chunks)
    for start in range(0, len(data), size):
        if start:
            time.sleep(0.1)
        connection.sendall(data[start : start + size])


def _received(connection: socket.socket, seconds: float) -> str:
    """One reply without its end, or what came instead."""
    deadline = time.monotonic() + seconds
    data = b""
    while not data.endswith(b"\n\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            received = connection.recv(65_536)
        except TimeoutError:
            return NO_ANSWER
        if not received:
            return CLOSED
        data += received
    return data[:-2].decode(errors="replace")


def _write(path: Path, text: str, directory: Path) -> None:
    path.write_bytes(text.replace("@DIR@", str(directory)).encode())


def _rewrite(path: Path, text: str, directory: Path) -> None:
    """Write a table anew; its time of change is at least a second later than before."""
    before = path.stat().st_mtime if path.exists() else 0.0
    _write(path, text, directory)
    later = max(time.time(), before + 1)
    os.utime(path, (later, later))


def _alternatives(one: str | list[str]) -> list[str]:
    return [one] if isinstance(one, str) else one
