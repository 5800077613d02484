"""A Postfix host whose mail ends in different ways."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

from fleet.dovecot import Dovecot
from fleet.mail_sink import MailSink
from fleet.own import Agent
from fleet.postfix import Placement, PostfixHost
from fleet.smtp_client import Session

CLIENT = "127.0.9.40"
PASSWORD = "pw"
FORM = "form@weir.test"
BOTH: tuple[Placement, ...] = ("RCPT", "END-OF-MESSAGE")


class Host(PostfixHost):
    """A host that sends each of some domains to a mail sink of its own, all others to the one of domain ""."""

    def __init__(
        self,
        name: str,
        address: str,
        agent: Agent,
        dovecot: Dovecot,
        sinks: Mapping[str, MailSink],
        asks: bool = True,
        main_cf: str = "",
    ) -> None:
        self.directory = agent.directory.parent / name
        super().__init__(
            name,
            address,
            self.directory,
            agent.policy_service,
            dovecot.sasl_path,
            sink=sinks[""].address,
            placements=BOTH if asks else (),
            routes={domain: sink.address for domain, sink in sinks.items() if domain},
        )
        self._main_cf += main_cf
        self.agent = agent

    def session(self, account: str, password: str = PASSWORD) -> Session:
        return Session(self.address, self.port, CLIENT, account, password)

    def submit_locally(self, recipient: str) -> None:
        command = ["sendmail", "-C", str(self.directory), "-f", FORM, recipient]
        subprocess.run(command, input=b"Subject: form\n\ntext\n", check=True, timeout=20)

    def command(self, name: str, *arguments: str) -> str:
        """What one of Postfix's commands says."""
        command = [name, "-c", str(self.directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def change(self, main_cf: str) -> None:
        """More lines for main.cf, in force at once."""
        self._main_cf += main_cf
        self._configure()
        self.reload()

    @property
    def queue(self) -> list[dict[str, Any]]:
        """What `postqueue -j` tells of each message."""
        return [json.loads(line) for line in self.command("postqueue", "-j").splitlines()]

    @property
    def settled(self) -> bool:
        """Every message has been tried for all of its recipients: it is gone, deferred or on hold."""
        return all(message["queue_name"] in ("deferred", "hold") for message in self.queue)
