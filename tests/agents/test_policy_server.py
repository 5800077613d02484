"""The server over real sockets, in process, on uvloop."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from agents import policy_server
from agents.listeners import listen
from agents.policy_protocol import PolicyRequest, reply
from agents.policy_server import PolicyServer
from weir import settings

ASKED = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=%s\n\n"
Write = Callable[[bytes], None]


def echo(request: PolicyRequest, write: Write) -> None:
    """Answers with the sender; `boom` fails before its reply, `late` after it."""
    if request.sender == "boom":
        raise RuntimeError("a fault of ours")
    write(reply(f"OK {request.sender}"))
    if request.sender == "late":
        raise RuntimeError("a fault of ours")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.sock"


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def serve(
    path: Path,
    client: Callable[[PolicyServer], Coroutine[Any, Any, None]],
    more: list[str] | None = None,
    settle: Callable[[], None] | None = None,
) -> None:
    """Run `client` beside a server at `path`."""

    async def run() -> None:
        server = PolicyServer(echo, settle or (lambda: None))
        async with listen(settings.Agent(listen=[f"unix:{path}", *(more or [])], socket_mode="0600"), server):
            async with asyncio.timeout(20):
                await client(server)

    uvloop.run(run())


async def ask(path: Path, data: bytes, replies: int) -> list[bytes]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    found = [await reader.readuntil(b"\n\n") for _ in range(replies)]
    writer.close()
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_several_requests_on_a_connection_pipelined_and_split(path: Path) -> None:
    async def client(_: PolicyServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % b"a" + ASKED % b"b" + (ASKED % b"c")[:-7])
        assert await reader.readuntil(b"\n\n") == b"action=OK a\n\n"
        assert await reader.readuntil(b"\n\n") == b"action=OK b\n\n"
        writer.write((ASKED % b"c")[-7:])
        assert await reader.readuntil(b"\n\n") == b"action=OK c\n\n"
        writer.close()

    serve(path, client)


def test_many_requests_in_one_write_are_answered_in_order(path: Path) -> None:
    """More than one turn, and more replies than the socket's buffer holds before they are read."""
    number = 20_000

    async def client(server: PolicyServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"".join(ASKED % (b"x" * 100 + str(count).encode()) for count in range(number)))
        await asyncio.sleep(0.05)  # replies pile up; correct with any length of this pause
        for count in range(number):
            assert await reader.readuntil(b"\n\n") == b"action=OK " + b"x" * 100 + str(count).encode() + b"\n\n"
        writer.close()
        await until(lambda: not server.connections)

    serve(path, client)


def test_who_does_not_read_is_not_read_from(path: Path) -> None:
    async def client(server: PolicyServer) -> None:
        greedy = socket.socket(socket.AF_UNIX)
        greedy.connect(str(path))
        greedy.setblocking(False)
        request = ASKED % (b"x" * 400)
        sent = 0
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 0.3:
            try:
                sent += greedy.send(request * 100)
                quiet_since = time.monotonic()
            except BlockingIOError:
                assert await ask(path, ASKED % b"a", 1) == [b"action=OK a\n\n"]
        assert sent < 4 * 1024 * 1024, "what is held for it is bounded"
        greedy.close()
        await until(lambda: not server.connections)

    serve(path, client)


def test_who_waits_for_an_answer_delays_nobody_else(path: Path) -> None:
    """Replies on one connection keep their order; another connection is answered meanwhile."""
    held: list[Write] = []

    async def client(server: PolicyServer) -> None:
        def answer(request: PolicyRequest, write: Write) -> None:
            if request.sender == "later":
                held.append(write)
            else:
                write(b"" if request.sender == "silent" else reply(f"OK {request.sender}"))

        server.answer = answer
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % b"a" + ASKED % b"later" + ASKED % b"silent" + ASKED % b"b" + ASKED % b"later")
        assert await reader.readuntil(b"\n\n") == b"action=OK a\n\n"
        await until(lambda: len(held) == 1)
        assert await ask(path, ASKED % b"other", 1) == [b"action=OK other\n\n"]
        writer.write(ASKED % b"c")
        held.pop()(reply("OK at last"))
        assert await reader.readuntil(b"\n\n") == b"action=OK at last\n\n"
        assert await reader.readuntil(b"\n\n") == b"action=OK b\n\n"
        await until(lambda: len(held) == 1)
        held.pop()(reply("OK again"))
        assert await reader.readuntil(b"\n\n") == b"action=OK again\n\n"
        assert await reader.readuntil(b"\n\n") == b"action=OK c\n\n"
        writer.close()

    serve(path, client)


@pytest.mark.parametrize("ours", [True, False])
def test_an_answer_that_comes_too_late_is_nobodys(path: Path, logs: list[Any], ours: bool) -> None:
    """The connection was closed meanwhile, by us or by the other side."""
    held: list[Write] = []

    async def client(server: PolicyServer) -> None:
        server.answer = lambda _, write: held.append(write)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % b"a")
        await until(lambda: len(held) == 1)
        if ours:
            server.close()
            assert await reader.read(-1) == b""
        writer.close()
        held.pop()(reply("OK"))
        await until(lambda: not server.connections)

    serve(path, client)
    assert logs == []


def test_what_is_answered_later_is_settled_too(path: Path) -> None:
    held: list[Write] = []
    settled: list[int] = []

    async def client(server: PolicyServer) -> None:
        server.answer = lambda _, write: held.append(write)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % b"a")
        await until(lambda: bool(held and settled))
        settled.clear()
        held.pop()(reply("OK"))
        await until(lambda: bool(settled))
        assert await reader.readuntil(b"\n\n") == b"action=OK\n\n"
        writer.close()

    serve(path, client, settle=lambda: settled.append(1))


@pytest.mark.parametrize(
    "bad", [b"nonsense\n\n", b"\x00\xff" * 50_000, b"x" * 1_000_000, b"request=other\n\n", b"\n\n"]
)
def test_what_is_no_request_gets_no_reply(path: Path, bad: bytes, logs: list[Any]) -> None:
    async def client(server: PolicyServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % b"a" + bad)
        try:
            received = await reader.read(-1)
        except ConnectionError:  # we close while it still writes
            received = b"action=OK a\n\n"
        assert received == b"action=OK a\n\n"
        writer.close()
        assert server.protocol_errors == 1
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert await ask(path, ASKED % b"b", 1) == [b"action=OK b\n\n"]

    serve(path, client)


@pytest.mark.parametrize(("sender", "received"), [(b"boom", b""), (b"late", b"action=OK late\n\n")])
def test_our_own_fault_closes_that_connection_only(path: Path, sender: bytes, received: bytes, logs: list[Any]) -> None:
    async def client(server: PolicyServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(ASKED % sender + ASKED % b"b")
        assert await reader.read(-1) == received
        writer.close()
        assert server.failures == 1
        assert [entry["log_level"] for entry in logs] == ["error"]
        assert await ask(path, ASKED % b"b", 1) == [b"action=OK b\n\n"]

    serve(path, client)


def test_what_was_answered_is_settled_soon_and_at_the_end(path: Path, logs: list[Any]) -> None:
    """A fault there is told, and the next time comes."""
    order: list[str] = []

    def settle() -> None:
        order.append("settled")
        if order.count("settled") == 1:
            raise RuntimeError("a fault of ours")

    async def client(server: PolicyServer) -> None:
        answer = server.answer

        def recorded(request: PolicyRequest, write: Write) -> None:
            answer(request, write)
            order.append(request.sender)

        server.answer = recorded
        for senders in ([b"a", b"b"], [b"c"]):
            await ask(path, b"".join(ASKED % sender for sender in senders), len(senders))
            await until(lambda: order[-1] == "settled")

    serve(path, client, settle=settle)
    assert order == ["a", "b", "settled", "c", "settled", "settled"]
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_who_floods_us_does_not_flood_the_log(path: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_server, "LOG_SECONDS", 60.0)

    async def client(server: PolicyServer) -> None:
        for _ in range(20):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"nonsense\n\n")
            assert await reader.read(-1) == b""
            writer.close()
        assert server.protocol_errors == 20

    serve(path, client)
    assert len(logs) == 1


def test_idle_half_and_broken_connections_do_not_matter(path: Path) -> None:
    async def client(server: PolicyServer) -> None:
        idle = [await asyncio.open_unix_connection(path) for _ in range(400)]
        for _, writer in idle[::2]:
            writer.write(b"request=smtpd_access_policy\nsen")
        await until(lambda: len(server.connections) == 400)
        assert await ask(path, ASKED % b"a", 1) == [b"action=OK a\n\n"]
        for _, writer in idle:
            writer.transport.abort()
        await until(lambda: not server.connections)

    serve(path, client)


def test_a_greedy_connection_leaves_others_their_turn(path: Path) -> None:
    """One connection sends thousands of requests at once; another's single request overtakes them."""
    order: list[str] = []

    async def client(server: PolicyServer) -> None:
        answer = server.answer

        def recorded(request: PolicyRequest, write: Write) -> None:
            order.append(request.sender)
            answer(request, write)

        server.answer = recorded
        greedy_reader, greedy = await asyncio.open_unix_connection(path)
        _, other = await asyncio.open_unix_connection(path)
        await until(lambda: len(server.connections) == 2)
        greedy.write(ASKED % b"greedy" * 3000)
        other.write(ASKED % b"other")
        for _ in range(3000):
            await greedy_reader.readuntil(b"\n\n")
        greedy.close()
        other.close()

    serve(path, client)
    assert order.index("other") < 2000


def test_at_the_end_what_has_come_is_answered(path: Path) -> None:
    async def client(server: PolicyServer) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        connection = server.connection()
        writer.write(ASKED % b"first")
        await reader.readuntil(b"\n\n")
        (connection,) = server.connections
        connection._requests.receive(ASKED % b"waiting" * 100)  # as if its turn were still to come
        server.close()
        assert await reader.read(-1) == b"action=OK waiting\n\n" * 100
        writer.close()

    serve(path, client)


def test_listens_on_tcp_too_and_cleans_up(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async def client(_: PolicyServer) -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED % b"a")
        assert await reader.readuntil(b"\n\n") == b"action=OK a\n\n"
        writer.close()

    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))  # by an agent that was killed
    left.close()
    serve(path, client, [f"127.0.0.1:{port}"])
    assert not path.exists()


def test_a_place_that_cannot_be_had_is_named(path: Path) -> None:
    async def client(_: PolicyServer) -> None:
        raise AssertionError("it must not serve")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {place}"):
            serve(path, client, [place])
