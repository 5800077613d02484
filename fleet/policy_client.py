"""A client of the policy protocol, as Postfix's smtpd is one: one connection, one request at a time."""

import itertools
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

_instances = itertools.count(1)


def new_instance() -> str:
    """A message's `instance`, different from all others of this machine's processes."""
    return f"{os.getpid():x}.{next(_instances):x}.{os.urandom(4).hex()}.0"


class PolicyClient:
    """Leaving its `with` block closes the connection. Errors of the connection are OSErrors."""

    def __init__(self, address: Path | tuple[str, int], timeout: float = 10.0) -> None:
        if isinstance(address, tuple):
            self._socket = socket.create_connection(address, timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(str(address))
            except OSError:
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, **attributes: str | int) -> str:
        """The action of the reply. Raises ConnectionError if the server ends the connection without one."""
        lines = {"request": "smtpd_access_policy", **attributes}
        self._socket.sendall("".join(f"{name}={value}\n" for name, value in lines.items()).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n\n"):
            received = self._socket.recv(4096)
            if not received:
                raise ConnectionResetError(f"the policy server ended the connection after {answer!r}")
            answer += received
        return answer.decode().strip().removeprefix("action=")

    def at_recipient(self, account: str, client: str, instance: str, recipient: str = "x@dest.test") -> str:
        """Ask as smtpd does at RCPT."""
        return self.ask(
            protocol_state="RCPT",
            protocol_name="ESMTP",
            client_address=client,
            client_name="unknown",
            helo_name="client.test",
            sender=account,
            recipient=recipient,
            recipient_count=0,
            queue_id="",
            instance=instance,
            size=0,
            sasl_method="PLAIN",
            sasl_username=account,
            policy_context="submission",
        )

    def at_end_of_message(self, account: str, client: str, instance: str, recipients: int = 1, size: int = 500) -> str:
        """Ask as smtpd does at END-OF-MESSAGE."""
        return self.ask(
            protocol_state="END-OF-MESSAGE",
            protocol_name="ESMTP",
            client_address=client,
            client_name="unknown",
            helo_name="client.test",
            sender=account,
            recipient="x@dest.test" if recipients == 1 else "",
            recipient_count=recipients,
            queue_id="4jYmyW0Nsyz1SWGt",
            instance=instance,
            size=size,
            sasl_method="PLAIN",
            sasl_username=account,
            policy_context="submission",
        )
