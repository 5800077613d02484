"""Where Postfix reaches the agent: sockets from systemd, or else our own.

Invariant: while a socket of systemd's is there, no connection is refused, not even while the agent restarts.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents import systemd
from agents.policy_server import PolicyServer
from weir import settings

BACKLOG = 1024
_UNIX = "unix:"


@asynccontextmanager
async def listen(agent: settings.Agent, server: PolicyServer) -> AsyncIterator[None]:
    """Serve within the block; at its end nothing more is accepted and what has come is answered. Raises OSError."""
    loop = asyncio.get_running_loop()
    given = systemd.listening_sockets()
    own = [] if given else [_bound(place, int(agent.socket_mode, 8)) for place in agent.listen]
    listeners = []
    try:
        for one in (*given, *own):
            if one.family == socket.AF_UNIX:
                listeners.append(await loop.create_unix_server(server.connection, sock=one, backlog=BACKLOG))
            else:
                listeners.append(await loop.create_server(server.connection, sock=one, backlog=BACKLOG))
        yield
    finally:
        for one in own:
            if one.family == socket.AF_UNIX:
                Path(one.getsockname()).unlink(missing_ok=True)
        for listener in listeners:
            listener.close()
        server.close()


def _bound(place: str, mode: int) -> socket.socket:
    """A socket at `unix:PATH` or `HOST:PORT`."""
    try:
        if place.startswith(_UNIX):
            return _bound_unix(Path(place.removeprefix(_UNIX)), mode)
        host, _, port = place.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {place}: {error.strerror}") from None


def _bound_unix(path: Path, mode: int) -> socket.socket:
    if path.is_socket():
        path.unlink()  # of an agent that was killed: the spool's lock tells that none runs
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(path))
    path.chmod(mode)  # before it listens, so nobody meets another mode
    return bound
