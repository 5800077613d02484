"""Bad input on the policy socket: whoever sends it costs the others nothing."""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fleet.process import wait_until
from tests.faults.system import COUNTS, System
from tests.faults.timing import assert_as_fast, between

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(120)]

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsasl_username=half@weir.test\n"
SECONDS = 1.5
IDLE_CONNECTIONS = 2000


@contextmanager
def connection(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.settimeout(10)
        opened.connect(str(path))
        yield opened


def all_answers(path: Path, data: bytes) -> bytes:
    """Send it, end our side, and return all that comes until the other side ends too."""
    with connection(path) as opened:
        answer = b""
        try:
            opened.sendall(data)
            opened.shutdown(socket.SHUT_WR)
            while received := opened.recv(65536):
                answer += received
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        return answer


def random_bytes(path: Path, chosen: random.Random) -> None:
    assert all_answers(path, chosen.randbytes(chosen.randint(1, 100_000))) == b""


def half_request(path: Path, chosen: random.Random) -> None:
    assert all_answers(path, REQUEST[: chosen.randint(1, len(REQUEST))]) == b""


def line_of_a_megabyte(path: Path, chosen: random.Random) -> None:
    assert all_answers(path, b"sender=" + b"x" * 1_000_000) == b""
    assert all_answers(path, REQUEST + b"sender=" + b"x" * 1_000_000 + b"\n\n") == b""


def something_else_after_a_request(path: Path, chosen: random.Random) -> None:
    answer = all_answers(path, REQUEST + b"\n" + b"GET / HTTP/1.1\n\n" + REQUEST + b"\n")
    assert answer == b"action=DUNNO\n\n"


def idle_connections(path: Path, chosen: random.Random) -> None:
    with ExitStack() as stack:
        for number in range(IDLE_CONNECTIONS):
            opened = stack.enter_context(connection(path))
            if number % 2:
                opened.sendall(REQUEST[: chosen.randint(1, len(REQUEST))])
        time.sleep(SECONDS)


KINDS = (random_bytes, half_request, line_of_a_megabyte, something_else_after_a_request, idle_connections)


def test_others_are_answered_as_before(system: System, chosen: random.Random) -> None:
    system.start(COUNTS, agents=1, workers=0)
    (agent,) = system.agents.values()
    periods = {}
    with system.load(rate=50):
        began = time.time()
        time.sleep(2 * SECONDS)
        good = wait_until(lambda: agent.metrics()["weir_agent_connections"], 5.0, "the load's connections")
        for send in KINDS:
            start = time.time()
            while time.time() < start + SECONDS:
                send(agent.socket, chosen)
            periods[send.__name__] = start, time.time()
        wait_until(lambda: agent.metrics()["weir_agent_connections"] <= good, 5.0, "the bad ones to be gone")

    truth = system.truth.read()
    assert {asked.action for asked in truth} == {"DUNNO"}
    first, _ = periods["random_bytes"]
    for name, (start, end) in periods.items():
        print(name)
        assert_as_fast(between(truth, start, end), between(truth, began, first))
    assert agent.restarts == 0
    assert agent.metrics()["weir_agent_protocol_errors_total"] > 0
    assert agent.metrics()["weir_agent_failures_total"] == 0


def test_a_burst_of_connections_waits_for_an_agent_that_does_not_run(system: System) -> None:
    system.start(COUNTS, agents=1, workers=0)
    (agent,) = system.agents.values()
    with ExitStack() as stack:
        agent.freeze()
        opened = [stack.enter_context(connection(agent.socket)) for _ in range(IDLE_CONNECTIONS)]
        for one in opened:
            one.sendall(REQUEST + b"\n")
        agent.thaw()
        assert {one.recv(65536) for one in opened} == {b"action=DUNNO\n\n"}
