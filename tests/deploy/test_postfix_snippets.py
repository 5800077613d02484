"""The lines for Postfix, as they stand in deploy/postfix, in a real Postfix."""

import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.dovecot import Dovecot
from fleet.mail_sink import MailSink
from fleet.own import CHECKOUT
from fleet.postfix import PostfixHost
from fleet.process import free_port
from fleet.smtp_client import Session

pytestmark = pytest.mark.fleet

DEPLOY = CHECKOUT / "deploy/postfix"
ADDRESS, CLIENT = "127.0.0.14", "127.0.9.14"
AGENT = "inet:127.0.0.1:10040"
ALICE, PASSWORD = "alice@weir.test", "pw-alice"
RECIPIENTS = ["x@dest.test", "y@dest.test"]


class PolicyServer(socketserver.ThreadingTCPServer):
    """Answers DUNNO to all, and keeps what it was asked."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.service = f"inet:127.0.0.1:{self.server_address[1]}"

    def asked(self) -> list[tuple[str, str]]:
        """Stage and recipient of each request so far."""
        return [(request["protocol_state"], request["recipient"]) for request in self.requests]


class _Handler(socketserver.StreamRequestHandler):
    server: PolicyServer

    def handle(self) -> None:
        request: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                request[name] = value
            else:
                self.server.requests.append(request)
                request = {}
                self.wfile.write(b"action=DUNNO\n\n")


class Deployed(PostfixHost):
    """A host with lines of deploy/postfix; its own settings of the same names give way to them.

    Dovecot's socket lies in the queue's folder, as Debian has it, so that an smtpd in a chroot finds it.
    """

    def __init__(self, directory: Path, sink: MailSink, main_cf: str, master_cf: str = "") -> None:
        dovecot = Path("dovecot/run/auth-postfix")
        super().__init__("snippet", ADDRESS, directory, "", dovecot, sink=sink.address, placements=())
        self.directory = directory
        names = {line.partition(" = ")[0] for line in main_cf.splitlines()}
        kept = [line for line in self._main_cf.splitlines() if line.partition(" = ")[0] not in names]
        self._main_cf = "\n".join([*kept, main_cf])
        self._more_services = master_cf

    def _configure(self) -> None:
        super()._configure()
        with (self.directory / "master.cf").open("a") as master_cf:
            master_cf.write(self._more_services)

    def complaints(self) -> str:
        """What Postfix's own tools find wrong."""
        done = [
            subprocess.run(["postconf", "-c", self.directory, "-n"], capture_output=True, text=True, check=True),
            subprocess.run(["postconf", "-c", self.directory, "-P"], capture_output=True, text=True, check=True),
            subprocess.run(["postfix", "-c", self.directory, "check"], capture_output=True, text=True, check=True),
        ]
        logged = [
            line
            for line in self.maillog.read_text().splitlines()
            # Here queue and data lie in the folder of the configuration, where Postfix expects all to be root's.
            if re.search("warning:|error:|fatal:", line) and not re.search("/[.]/(spool|data)", line)
        ]
        return "".join(each.stderr for each in done) + "\n".join(logged)


@pytest.fixture(scope="module")
def policy_server() -> Iterator[PolicyServer]:
    with PolicyServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def sink(directory: Path) -> Iterator[MailSink]:
    with MailSink("127.0.0.24", free_port("127.0.0.24"), directory / "sink") as running:
        yield running


@contextmanager
def served(host: Deployed) -> Iterator[Deployed]:
    """The host, running, with its logins."""
    for folder in (host.directory, host.directory / "spool"):
        folder.mkdir(mode=0o711)
    with Dovecot(host.directory / "spool/dovecot", {ALICE: PASSWORD}), host:
        yield host


def main_cf(policy_server: PolicyServer) -> str:
    text = (DEPLOY / "main.cf").read_text()
    assert AGENT in text
    return text.replace(AGENT, policy_server.service)


def submit(port: int) -> None:
    with Session(ADDRESS, port, CLIENT, ALICE, PASSWORD) as session:
        answer = session.send(ALICE, RECIPIENTS)
        assert answer.accepted, answer


EXPECTED = [("RCPT", "x@dest.test"), ("RCPT", "y@dest.test"), ("END-OF-MESSAGE", "")]
"""Each recipient once, and the whole message once (where Postfix names a recipient only if there is no other)."""


def test_main_cf_asks_once_at_each_stage(directory: Path, policy_server: PolicyServer, sink: MailSink) -> None:
    policy_server.requests.clear()
    with served(Deployed(directory / "mx1", sink, main_cf(policy_server))) as host:
        submit(host.port)
        assert policy_server.asked() == EXPECTED
        assert {request["policy_context"] for request in policy_server.requests} == {"submission"}
        assert {request["sasl_username"] for request in policy_server.requests} == {ALICE}
        assert host.complaints() == ""


def test_master_cf_asks_on_submission_only(directory: Path, policy_server: PolicyServer, sink: MailSink) -> None:
    """As Debian has it, with smtpd in a chroot; our client knows no TLS, so that it may go without here."""
    policy_server.requests.clear()
    submission, submissions = free_port(ADDRESS), free_port(ADDRESS)
    services = (DEPLOY / "master.cf").read_text().replace("submission inet", f"{ADDRESS}:{submission} inet")
    services = services.replace("submissions inet", f"{ADDRESS}:{submissions} inet")
    services = services.replace("level=encrypt", "level=none").replace("auth_only=yes", "auth_only=no")
    weir = next(line for line in main_cf(policy_server).splitlines() if line.startswith("weir = "))
    with served(Deployed(directory / "mx2", sink, weir + "\n", services)) as host:
        submit(host.port)
        assert policy_server.asked() == []
        submit(submission)
        assert policy_server.asked() == EXPECTED
        assert host.complaints() == ""
