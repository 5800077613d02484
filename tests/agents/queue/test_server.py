"""The helper's socket and the agent's side of it."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agents.queue import client, server
from agents.queue.client import HelperAwayError, HelperRefusedError, QueueClient, QueueError
from agents.queue.helper import Helper, UnknownInstanceError
from agents.queue.postfix_queue import CommandError
from agents.queue.requests import MAX_IDS, MAX_LINE, Hold, Request, Submit, decode_reply

ID = "4jYmyW0Nsyz1SWGt"
IDS = [f"3C1F2{number:05X}" for number in range(2 * MAX_IDS + 1)]
OUR_UID = os.getuid()


class PlayedHelper(Helper):
    """Does all that it is asked, or raises what it is told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.raises: Exception | None = None

    def carry_out(self, request: Request) -> list[str]:
        self.requests.append(request)
        if self.raises:
            raise self.raises
        return request.names if isinstance(request, Submit) else request.ids


@contextmanager
def served(path: Path, helper: Helper, users: Container[int] = frozenset({OUR_UID})) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            with suppress(OSError):  # of accept: the listener was shut down
                server.serve(listener, helper, users)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.sock"


@pytest.fixture
def helper() -> PlayedHelper:
    return PlayedHelper()


def said(path: Path, data: bytes, end: bool = False) -> str:
    """The error in the reply to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(path))
        with suppress(BrokenPipeError):  # what is too long is not read to its end
            connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return decode_reply(connection.makefile("rb").readline()).error


def test_each_verb_of_the_client(path: Path, helper: PlayedHelper) -> None:
    async def ask() -> list[list[str]]:
        asked = QueueClient(path)
        return [
            await asked.hold("postfix", [ID]),
            await asked.release("postfix", [ID]),
            await asked.delete("postfix-out", [ID]),
            await asked.refuse_submission(["www-data"]),
            await asked.refuse_submission([]),
            await asked.hold("postfix", []),
        ]

    with served(path, helper):
        assert asyncio.run(ask()) == [[ID], [ID], [ID], ["www-data"], [], []]
    assert [type(request).__name__ for request in helper.requests] == ["Hold", "Release", "Delete", "Submit", "Submit"]


def test_many_ids_are_several_requests(path: Path, helper: PlayedHelper) -> None:
    with served(path, helper):
        assert asyncio.run(QueueClient(path).hold("postfix", IDS)) == IDS
    assert [len(request.ids) for request in helper.requests if isinstance(request, Hold)] == [MAX_IDS, MAX_IDS, 1]


def test_an_error_tells_what_was_done_before_it(path: Path, helper: PlayedHelper) -> None:
    with served(path, helper), pytest.raises(HelperRefusedError, match=r"Invalid|Expected") as raised:
        asyncio.run(QueueClient(path).hold("postfix", [*IDS[:MAX_IDS], "ALL"]))
    assert raised.value.done == IDS[:MAX_IDS]


@pytest.mark.parametrize(
    "error", [UnknownInstanceError("no instance"), CommandError("postsuper failed"), OSError(28, "disk full")]
)
def test_what_fails_is_told_and_the_next_is_served(path: Path, helper: PlayedHelper, error: Exception) -> None:
    with served(path, helper):
        helper.raises = error
        with pytest.raises(HelperRefusedError, match=str(error.args[-1])):
            asyncio.run(QueueClient(path).hold("postfix", [ID]))
        helper.raises = None
        assert asyncio.run(QueueClient(path).hold("postfix", [ID])) == [ID]


def test_another_user_is_refused(path: Path, helper: PlayedHelper) -> None:
    with served(path, helper, {OUR_UID + 1}), pytest.raises(HelperRefusedError, match=f"user {OUR_UID} may not ask"):
        asyncio.run(QueueClient(path).hold("postfix", [ID]))
    assert helper.requests == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\n", "not understood"),
        (b"postsuper -d ALL\n", "not understood"),
        (b"\xff\xfe\n", "not understood"),
        (b'{"verb":"hold","instance":"postfix","ids":["' + b"[" * 100_000 + b"\n", "not understood"),
        (b'{"verb":"hold","instance":"postfix","ids":' + b"[" * 100_000 + b"\n", "not understood"),
        (b'{"verb":"hold","instance":' + b'{"a":' * 10_000 + b"\n", "not understood"),
        (b'{"verb":"submit","names":[]}\n' * 2, "not understood"),
        (b"x" * (MAX_LINE + 1) + b"\n", f"a line of at most {MAX_LINE} bytes"),
        (b"x" * MAX_LINE * 20, f"a line of at most {MAX_LINE} bytes"),
    ],
)
def test_what_is_no_request_is_told_and_the_next_is_served(
    path: Path, helper: PlayedHelper, data: bytes, told: str
) -> None:
    with served(path, helper):
        with suppress(ConnectionResetError):  # the reply may be lost with what was not read
            assert told in said(path, data)
        assert helper.requests == []
        assert asyncio.run(QueueClient(path).hold("postfix", [ID])) == [ID]


def test_a_line_without_an_end_is_no_request(path: Path, helper: PlayedHelper) -> None:
    with served(path, helper):
        assert "expected a line" in said(path, b'{"verb":"submit","names":[]}', end=True)
    assert helper.requests == []


def test_whoever_says_nothing_keeps_the_others_waiting_for_a_bounded_time(
    path: Path, helper: PlayedHelper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READ_SECONDS", 0.1)
    with served(path, helper), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(path))
        assert asyncio.run(QueueClient(path).hold("postfix", [ID])) == [ID]


def test_with_a_time_out_it_ends_when_nobody_comes(path: Path, helper: PlayedHelper) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0.01)
        server.serve(listener, helper, {OUR_UID})


def test_a_helper_that_is_away(path: Path) -> None:
    with pytest.raises(HelperAwayError, match=r"queue\.sock: .*[Nn]o such file"):
        asyncio.run(QueueClient(path).hold("postfix", [ID]))


@pytest.mark.parametrize("answer", [b"", b"{}", b"nonsense\n", b'{"done":3}\n', b"x" * 3 * MAX_LINE])
def test_a_reply_that_is_none(path: Path, answer: bytes) -> None:
    def reply(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.recv(MAX_LINE)
            connection.sendall(answer)

    with played(path, reply), pytest.raises(QueueError, match="without a reply"):
        asyncio.run(QueueClient(path).hold("postfix", [ID]))


def test_a_helper_that_does_not_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "REPLY_SECONDS", 0.1)
    answered = threading.Event()
    with played(path, lambda _: answered.wait()):
        with pytest.raises(HelperAwayError, match=r"within 0\.1 s"):
            asyncio.run(QueueClient(path).hold("postfix", [ID]))
        answered.set()


@contextmanager
def played(path: Path, reply: Callable[[socket.socket], object]) -> Iterator[None]:
    """A helper that does something else with its one connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            with listener.accept()[0] as connection:
                reply(connection)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join()
