"""Where the fleet's mail ends: Postfix' smtp-sink, which takes (or refuses) every message and keeps none."""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from fleet.process import Process

BACKLOG = 200


class MailSink:
    """An smtp-sink on host:port under the user nobody; leaving its `with` block stops it.

    `options` are those of smtp-sink, such as ("-f", "RCPT") to refuse recipients for good, ("-r", "RCPT") for now.
    """

    def __init__(self, host: str, port: int, directory: Path, options: Sequence[str] = ()) -> None:
        self.host = host
        self.port = port
        self._directory = directory
        # Not its own option -u: a change of user drops the death signal, which therefore has to be set after it.
        as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL"]
        self._greeting = f"weir-sink-{id(self)}.test"  # tells it from another sink at its address
        sink = ["smtp-sink", "-h", self._greeting, *options, f"inet:{host}:{port}", str(BACKLOG)]
        self._process = Process(f"mail sink {host}:{port}", [*as_nobody, *sink], directory / f"sink-{host}.log")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """host:port, as PostfixHost takes it."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start and return when it greets; raises RuntimeError with the log's tail otherwise."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._process.start()
        try:
            self._process.wait_ready(self._greets, 10.0)
        except BaseException:
            self._process.terminate()
            raise

    def stop(self) -> None:
        if self._process.running:
            self._process.terminate()

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1.0) as connection:
                return connection.recv(512).startswith(f"220 {self._greeting} ".encode())
        except OSError:
            return False
