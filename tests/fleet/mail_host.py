"""A Postfix host whose mail ends in different ways, and a count of what its log says: our own, apart from Weir's.

Invariant: nothing of weir.maillog or agents.maillog is used here.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from fleet.dovecot import Dovecot
from fleet.mail_sink import MailSink
from fleet.own import Agent
from fleet.postfix import Placement, PostfixHost
from fleet.smtp_client import Session

CLIENT = "127.0.9.40"
PASSWORD = "pw"
FORM = "form@weir.test"
BOTH: tuple[Placement, ...] = ("RCPT", "END-OF-MESSAGE")

_LINE = re.compile(r"\w{3} +\d+ [\d:]{8} \S+ \S+/([\w-]+)\[(\d+)\]: (?:(\w+): )?(.*)")
_USER = re.compile(r"client=.*, sasl_username=(\S+)$")
_STATUS = re.compile(r"to=<[^>]*@([^>]*)>, .*status=(\w+) ")
_FAILED_LOGIN = re.compile(r"[^:]*:\d+: SASL \S+ authentication failed: .*sasl_username=(\S+)$")
_REFUSED = re.compile(r"reject: \w+ from .*?: [45]\d\d ")
_ACTION = re.compile("(discard|hold|reject): ")
_ACTIONS = {"discard": ["discarded"], "hold": ["held"], "reject": ["rejected", "refused"]}
_DECISION = re.compile(r"\[weir \w+ \w+\]")


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
        )
        routes = (f"{{ {domain} = smtp:[{sink.host}]:{sink.port} }}" for domain, sink in sinks.items() if domain)
        self._main_cf += f"transport_maps = inline:{{ {', '.join(routes)} }}\n{main_cf}"
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
    def settled(self) -> bool:
        """Every message is delivered, or was deferred once."""
        text = self.maillog.read_text()
        return all(
            f"{queue_id}: removed" in text or f"{queue_id}: to=" in text for _, queue_id in self.accepted_queue_ids()
        )


class Outcome(NamedTuple):
    owner: str
    """An account, `uid:N`, or nobody ("")."""
    what: str
    """`submitted`, `sent`, `deferred`, `bounced`, `rejected`, `login`, `login_failed`; of messages `removed`,
    `expired`, `deleted`, `held`, `discarded`, `refused`."""
    where: str = ""
    """The recipient's domain of a delivery; `weir`, if the refusal was ours."""


def counted(log: Path) -> Counter[Outcome]:
    """What a host's log says, each as often as it does."""
    count = _Count()
    for row in log.read_text().splitlines():
        found = _LINE.fullmatch(row)
        assert found, row
        daemon, pid, queue_id, text = found.groups("")
        count.take(daemon, int(pid), queue_id, text)
    return count.said


class _Count:
    def __init__(self) -> None:
        self.said: Counter[Outcome] = Counter()
        self._owner: dict[str, str] = {}
        self._active: set[str] = set()
        self._ended: set[str] = set()
        self._session: dict[int, str] = {}

    def take(self, daemon: str, pid: int, queue_id: str, text: str) -> None:
        owner = self._owner.get(queue_id, "")
        if daemon == "smtpd":
            self._smtpd(pid, queue_id, text)
        elif daemon == "pickup":
            uid, _, _ = text.partition(" ")
            self._owner[queue_id] = uid.replace("=", ":")
        elif daemon == "cleanup" and (action := _ACTION.match(text)):
            for what in _ACTIONS[action[1]]:
                self._add(owner, what)
        elif daemon == "postsuper" and text == "removed":
            self._add(owner, "deleted")
        elif daemon == "qmgr":
            self._qmgr(owner, queue_id, text)
        elif status := _STATUS.match(text):
            self._add(owner, status[2], status[1])

    def _qmgr(self, owner: str, queue_id: str, text: str) -> None:
        if text.endswith("(queue active)") and queue_id not in self._active:
            self._active.add(queue_id)
            if owner:
                self._add(owner, "submitted")
        elif text.endswith("status=expired, returned to sender"):
            self._ended.add(queue_id)
            self._add(owner, "expired")
        elif text == "removed" and queue_id not in self._ended:
            self._add(owner, "removed")

    def _smtpd(self, pid: int, queue_id: str, text: str) -> None:
        if text.startswith(("connect from", "disconnect from")):
            self._session.pop(pid, None)
        elif user := _USER.match(text):
            self._owner[queue_id] = user[1]
            if self._session.get(pid) != user[1]:
                self._session[pid] = user[1]
                self._add(user[1], "login")
        elif _REFUSED.match(text):
            self._add(self._session.get(pid, ""), "rejected", "weir" if _DECISION.search(text) else "")
            if queue_id and "END-OF-MESSAGE" in text:
                self._add(self._owner[queue_id], "refused")
        elif failed := _FAILED_LOGIN.match(text):
            self._add(failed[1], "login_failed")

    def _add(self, owner: str, what: str, where: str = "") -> None:
        self.said[Outcome(owner, what, where)] += 1


def of(said: Mapping[Outcome, int], *what: str, where: Callable[[str], str] = str) -> Counter[tuple[str, str, str]]:
    """What is of these kinds, with something else said of `where`."""
    some: Counter[tuple[str, str, str]] = Counter()
    for one, number in said.items():
        if one.what in what:
            some[one.owner, one.what, where(one.where)] += number
    return some
