"""The helper's socket: one connection, one request, one reply, one after the other.

Invariants: the kernel says who asks, and nobody else is listened to; a connection gets READ_SECONDS, and a request
MAX_LINE bytes; whatever comes in, the next connection is served.
"""

import socket
import sqlite3
import struct
import time
from collections.abc import Container

import structlog

from agents.queue.helper import Helper, UnknownInstanceError
from agents.queue.postfix_queue import CommandError
from agents.queue.requests import MAX_LINE, Reply, decode_request, encode

READ_SECONDS = 5.0
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid: unix(7)."""

log = structlog.get_logger(__name__)


def serve(listener: socket.socket, helper: Helper, users: Container[int]) -> None:
    """Serve those users (uids) until nobody has come for as long as the listener's own time-out."""
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        with connection:
            try:
                connection.settimeout(READ_SECONDS)
                connection.sendall(encode(_reply(connection, helper, users)) + b"\n")
            except OSError as error:
                log.warning("connection failed", error=str(error))


def _reply(connection: socket.socket, helper: Helper, users: Container[int]) -> Reply:
    try:
        line = _read_line(connection)  # of others too: if it were not read, they might not see our reply
        _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in users:
            log.warning("request refused", uid=uid)
            return Reply(error=f"user {uid} may not ask")
        request = decode_request(line)
    except ValueError as error:
        log.warning("request not understood", error=str(error))
        return Reply(error=f"request not understood: {error}")
    verb = type(request).__name__.lower()
    try:
        done = helper.carry_out(request)
    except (UnknownInstanceError, CommandError, OSError, sqlite3.Error) as error:
        log.error("request not carried out", verb=verb, error=str(error))
        return Reply(error=str(error))
    log.info("request carried out", verb=verb, instance=getattr(request, "instance", None), done=len(done))
    return Reply(done=done)


def _read_line(connection: socket.socket) -> bytes:
    """Up to the first newline; raises ValueError for a line that is too long or has no end, and TimeoutError."""
    deadline = time.monotonic() + READ_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(MAX_LINE)
        line += part
        if not part or len(line) > MAX_LINE:
            raise ValueError(f"expected a line of at most {MAX_LINE} bytes")
    connection.settimeout(READ_SECONDS)
    return line
