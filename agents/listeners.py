"""Where Postfix reaches the agent: sockets from systemd, or else our own.

Invariant: while a socket of systemd's is there, no connection is refused, not even while the agent restarts.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from agents.policy_server import PolicyServer
from weir import settings, systemd

BACKLOG = 4096
"""Connections that wait while we do not run; one more is refused, and its smtpd waits a second before it tries again.
Linux's own limit, net.core.somaxconn, is as high since 5.4."""
_UNIX = "unix:"


@asynccontextmanager
async def listen(agent: settings.Agent, server: PolicyServer) -> AsyncIterator[None]:
    """Serve within the block; at its end nothing more is accepted and what has come is answered. Raises OSError."""
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        stack.callback(server.close)
        sockets = systemd.listening_sockets() or [_bound(place, agent, stack) for place in agent.listen]
        for one in sockets:
            if one.family == socket.AF_UNIX:
                listener = await loop.create_unix_server(server.connection, sock=one, backlog=BACKLOG)
            else:
                listener = await loop.create_server(server.connection, sock=one, backlog=BACKLOG)
            stack.callback(listener.close)
        yield


def _bound(place: str, agent: settings.Agent, stack: ExitStack) -> socket.socket:
    """A socket at `unix:PATH` or `HOST:PORT`, closed with the stack."""
    try:
        if place.startswith(_UNIX):
            return _bound_unix(Path(place.removeprefix(_UNIX)), int(agent.socket_mode, 8), stack)
        host, _, port = place.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address = (host.strip("[]"), int(port))
        return stack.enter_context(socket.create_server(address, family=family, backlog=BACKLOG))
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {place}: {error.strerror}") from None


def _bound_unix(path: Path, mode: int, stack: ExitStack) -> socket.socket:
    if path.is_socket():
        path.unlink()  # of an agent that was killed: the spool's lock tells that none runs
    bound = stack.enter_context(socket.socket(socket.AF_UNIX))
    bound.bind(str(path))
    stack.callback(path.unlink, missing_ok=True)
    path.chmod(mode)  # before it listens, so nobody meets another mode
    return bound
