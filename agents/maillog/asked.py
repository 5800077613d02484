"""Which messages Weir was asked about: policy requests of the last minutes, for the mail log to be compared with.

A request before the message has a queue id is known by its `instance`, whose first part is the smtpd's process id in
hexadecimal: it belongs to the first message that this smtpd begins after it. Later ones have the queue id. Before RCPT
there is none (Postfix 3.7): with a check at MAIL FROM alone every message is told as unasked.

Invariants
- A request that is refused before there is a queue id begins no message, and is left out.
- A message is not said to be unasked where that is not known: a line may be read before its request is noted, and the
  log may be so far behind that requests had to be forgotten.
- Memory is bounded. `note` is called on one thread, all else on another.
"""

from collections import deque

import msgspec

from weir.events import Request, is_accepted

MAX_SMTPDS = 10_000
MAX_BEGUN = 100
"""Of one smtpd."""
MAX_QUEUE_IDS = 100_000
MAX_UNSURE = 1000
MAX_SECONDS = 600.0
"""From a request to the first line of its message: recipients may be refused in between."""
AHEAD = 2.0
"""Seconds: times in the log may have lost their fractions."""
_STATES = frozenset(("RCPT", "DATA", "END-OF-MESSAGE"))


class _Smtpd(msgspec.Struct):
    instance: str
    """The newest."""
    begun: deque[float]
    """When the messages were first asked about that the log did not tell of yet; oldest first."""
    forgotten: float = 0.0
    """The last of them that had to go for others."""


class AskedMessages:
    def __init__(self) -> None:
        self._smtpds: dict[str, _Smtpd] = {}
        """By process id in hexadecimal, as in an instance."""
        self._queue_ids: set[str] = set()
        self._older_queue_ids: set[str] = set()
        self._unsure: dict[str, tuple[int, float]] = {}
        """By queue id, smtpd and time of messages whose request was not noted when they began."""
        self.passed: dict[str, float] = {}
        """By process id, when the message was asked about that began last: what is older began before it. Kept over a
        restart."""

    def note(self, request: Request) -> None:
        """Remember a request that was answered, now or before a restart."""
        if request.protocol_state not in _STATES:
            return
        if request.queue_id:
            if len(self._queue_ids) >= MAX_QUEUE_IDS:
                self._older_queue_ids, self._queue_ids = self._queue_ids, set()
            self._queue_ids.add(request.queue_id)
            return
        if not is_accepted(request.action) and not request.action.upper().startswith("DEFER_IF_REJECT"):
            return
        pid = request.instance.partition(".")[0]
        smtpd = self._smtpds.get(pid)
        if smtpd is None:
            if len(self._smtpds) >= MAX_SMTPDS:
                del self._smtpds[next(iter(self._smtpds))]
            smtpd = self._smtpds[pid] = _Smtpd("", deque(maxlen=MAX_BEGUN))
        if smtpd.instance != request.instance:
            smtpd.instance = request.instance
            if len(smtpd.begun) == MAX_BEGUN:
                smtpd.forgotten = smtpd.begun[0]
            smtpd.begun.append(request.time)

    def began(self, queue_id: str, pid: int, time: float) -> bool:
        """Whether the message was asked about that this smtpd began at that time (Unix seconds, by the log)."""
        if self._take(pid, time):
            return True
        if len(self._unsure) >= MAX_UNSURE:
            del self._unsure[next(iter(self._unsure))]
        self._unsure[queue_id] = pid, time
        return False

    def knows(self, queue_id: str) -> bool:
        """Whether the message was asked about, now that it is in the queue."""
        unsure = self._unsure.pop(queue_id, None)
        is_taken = unsure is not None and self._take(*unsure)
        return is_taken or queue_id in self._queue_ids or queue_id in self._older_queue_ids

    def _take(self, pid: int, time: float) -> bool:
        """Take the request of the message that this smtpd began then, if there is one."""
        name = f"{pid:x}"
        smtpd = self._smtpds.get(name)
        if smtpd is not None and time <= smtpd.forgotten + AHEAD:
            if smtpd.begun and smtpd.begun[0] <= time:
                self._pass(name, smtpd.begun.popleft())
            return True
        passed = self.passed.get(name, 0.0)
        while smtpd is not None and smtpd.begun:
            first = smtpd.begun[0]
            if first > time + AHEAD:
                break  # of a later one
            smtpd.begun.popleft()
            if first > passed and first > time - MAX_SECONDS:
                self._pass(name, first)
                return True
        self._pass(name, max(passed, time - AHEAD))
        return False

    def _pass(self, name: str, time: float) -> None:
        if name not in self.passed and len(self.passed) >= MAX_SMTPDS:
            del self.passed[next(iter(self.passed))]
        self.passed[name] = time
