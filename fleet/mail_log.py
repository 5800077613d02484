"""What a Postfix host's mail log says became of its messages: a count of our own, apart from Weir's.

Invariant: nothing of weir.maillog or agents.maillog is used here.
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

_LINE = re.compile(r"\w{3} +\d+ [\d:]{8} \S+ \S+/([\w-]+)\[(\d+)\]: (?:(\w+): )?(.*)")
_USER = re.compile(r"client=.*, sasl_username=(\S+)$")
_STATUS = re.compile(r"to=<[^>]*@([^>]*)>, .*status=(\w+) ")
_FAILED_LOGIN = re.compile(r"[^:]*:\d+: SASL \S+ authentication failed: .*sasl_username=(\S+)$")
_REFUSED = re.compile(r"reject: [\w-]+ from .*?: [45]\d\d ")
_ACTION = re.compile("(discard|hold|reject): ")
_ACTIONS = {"discard": ["discarded"], "hold": ["held"], "reject": ["rejected", "refused"]}
_DECISION = re.compile(r"\[weir \w+ \w+\]")


class Outcome(NamedTuple):
    owner: str
    """An account, `uid:N`, or nobody ("")."""
    what: str
    """`submitted`, `sent`, `deferred`, `bounced`, `rejected`, `login`, `login_failed`; of messages `removed`,
    `expired`, `deleted`, `held`, `discarded`, `refused`."""
    where: str = ""
    """The recipient's domain of a delivery; `weir`, if the refusal was ours."""


def counted(log: Path) -> Counter[Outcome]:
    """What a host's log says, each as often as it does. Raises ValueError for a line that is none of Postfix's."""
    count = _Count()
    whole, _, _ = log.read_text().rpartition("\n")
    for row in whole.splitlines():
        found = _LINE.fullmatch(row)
        if found is None:
            raise ValueError(f"expected a line of Postfix, got {row!r}")
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
