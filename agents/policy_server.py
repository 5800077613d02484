"""The policy server: Postfix's connections, over unix sockets and TCP.

Invariants: replies go out in the order of the requests; a connection that is slow, silent, broken or greedy, or whose
answer takes its time, costs the others nothing; in trouble a connection is closed without a reply, and Postfix goes on
by its default_action.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

from agents.policy_protocol import ProtocolError, RequestReader, parse

BATCH = 32
"""Requests of one connection that are answered before others have their turn."""
LOG_SECONDS = 1.0
"""Between two log lines about connections: who floods us does not flood the log."""

Write = Callable[[bytes], None]
"""Writes the reply to a request, b"" for none at all. It is called once, at once or later: until then the connection's
next request waits."""
Answer = Callable[[Any, Write], None]
"""Answers one request, as `Read` made it, and calls the second argument as soon as the reply is known."""
Read = Callable[[bytes], Any]
"""A request from its lines, as of `agents.policy_protocol`."""
Settle = Callable[[], None]
"""Does what remains to be done about the requests answered, after the replies that were due with theirs."""

log = structlog.get_logger(__name__)


class PolicyServer:
    """All connections, and what is counted about them."""

    def __init__(self, answer: Answer, settle: Settle | None = None, read: Read = parse) -> None:
        self.answer = answer
        self.read = read
        self._settle = settle
        self._unsettled = False
        self.connections: set[Connection] = set()
        self.protocol_errors = 0
        self.failures = 0
        """Requests that met a fault of our own."""
        self._told = -LOG_SECONDS

    def connection(self) -> "Connection":
        """The protocol factory for asyncio's servers."""
        return Connection(self)

    def close(self) -> None:
        """Answer what has come, and close all connections: Postfix asks again on a new one."""
        for connection in tuple(self.connections):
            connection.finish()
        self.settle()

    def settle_soon(self) -> None:
        """When all that could be read just now is answered."""
        if not self._unsettled and self._settle is not None:
            self._unsettled = True
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        self._unsettled = False
        if self._settle is None:
            return
        try:
            self._settle()
        except Exception as error:
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """Count, and tell now and then, why a connection is closed."""
        ours = not isinstance(error, ProtocolError)
        if ours:
            self.failures += 1
        else:
            self.protocol_errors += 1
        now = time.monotonic()
        if now - self._told < LOG_SECONDS:
            return
        self._told = now
        if ours:
            log.error("request failed, connection closed without a reply", exc_info=error)
        else:
            log.warning("no policy request, connection closed", error=str(error))


class Connection(asyncio.Protocol):
    """One connection. Reading pauses while there is something to answer that must wait."""

    _transport: asyncio.Transport

    def __init__(self, server: PolicyServer) -> None:
        self._server = server
        self._requests = RequestReader(server.read)
        self._reading = True
        self._writable = True
        """The other side reads its replies."""
        self._owed = False
        """The newest request has no reply yet."""
        self._held = False
        """Nothing more is answered until that reply comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio's own signature is this wide
        self._server.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._requests.receive(data)
        if not self._answer(BATCH):
            self._reading = False
            self._transport.pause_reading()
            self._schedule()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if not self._reading:
            self._take_turn()

    def write(self, data: bytes) -> None:
        """The reply to the newest request."""
        self._owed = False
        if data and not self._transport.is_closing():
            self._transport.write(data)
        if self._held:
            self._held = False
            self._server.settle_soon()
            self._take_turn()

    def finish(self) -> None:
        """Answer all that has come, as far as that can be done at once, and close."""
        self._answer(sys.maxsize)
        self._transport.close()

    def _take_turn(self) -> None:
        if self._transport.is_closing():
            return
        if not self._answer(BATCH):
            self._schedule()
        elif not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _schedule(self) -> None:
        if self._writable and not self._held:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _answer(self, limit: int) -> bool:
        """Answer at most `limit` requests; tells whether nothing is left to answer."""
        try:
            for _ in range(limit):
                if self._owed:
                    self._held = True
                    return False
                if not self._writable:
                    return False
                request = self._requests.next_request()
                if request is None:
                    return True
                self._owed = True
                self._server.answer(request, self.write)
                self._server.settle_soon()
        except Exception as error:  # whatever it is, mail goes on
            self._server.fault(error)
            self._transport.close()
            return True
        return False
