"""What systemd and a service say to each other: sockets handed over, readiness, watchdog. Nothing without systemd."""

import os
import socket

_FIRST = 3
"""File descriptor of the first socket handed over (sd_listen_fds(3))."""


def listening_sockets() -> list[socket.socket]:
    """Sockets that systemd listens on for us; they stay open over our restarts. Gives them once."""
    ours = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    os.environ.pop("LISTEN_FDNAMES", None)
    sockets = [socket.socket(fileno=_FIRST + number) for number in range(count)] if ours else []
    for one in sockets:
        one.setblocking(False)
        os.set_inheritable(one.fileno(), False)
    return sockets


def notify(state: str) -> None:
    """Tell the service manager, such as `READY=1` (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(state.encode())
        except OSError:
            pass  # a manager that does not listen is no reason to stop


def watchdog_seconds() -> float | None:
    """How often the service manager wants to hear from us, at the latest; None: it does not."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = int(os.environ.get("WATCHDOG_USEC", "0"))
    return microseconds / 1_000_000 if microseconds else None
