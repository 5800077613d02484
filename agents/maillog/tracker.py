"""The tracker ties the lines of a message together: from its queue id to who sent it and what became of it.

Postfix's lines name a queue id, only the first one names the login. A content filter gives a message back as a new
one: see `agents.maillog.filters`. The messages themselves are in `agents.maillog.under_way`.

Invariants
- What is made here (notifications, forwards, replies of the null sender) has no user.
- The clock is that of the lines.
"""

import re
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from typing import Any

import msgspec

from agents.maillog.filters import WAIT, Filters, bounded
from agents.maillog.outcomes import (
    Accepted,
    Began,
    Delivered,
    Ended,
    Held,
    LoggedIn,
    Message,
    Outcome,
    Recent,
    Refused,
)
from agents.maillog.under_way import UnderWay
from weir.events import MAX_TEXT
from weir.maillog import messages
from weir.maillog.bounces import classify
from weir.maillog.messages import Line
from weir.maillog.patterns import QUEUE_ID

MAX_SESSIONS = 10_000
MAX_RECENT = 10_000
"""Of each that is remembered for a moment only."""

_QUEUED_AS = re.compile(rf"queued as ({QUEUE_ID})$").search
_STATUSES = {"sent": "sent", "bounced": "bounced", "deferred": "deferred", "SOFTBOUNCE": "deferred"}
_NOTHING: tuple[Outcome, ...] = ()


class Tracker:
    """Takes the lines one by one."""

    def __init__(self, filters: Collection[str] = (), default_realm: str = "") -> None:
        """`filters` are the addresses of content filters on other hosts."""
        self.under_way = UnderWay(default_realm)
        self._filters = Filters(filters, self.under_way.find, self.under_way.tied)
        self._sessions: dict[int, tuple[str, str]] = {}
        """By the smtpd's process id: user and client of a session in which a message was sent."""
        self._ahead: dict[int, str] = {}
        """By the smtpd's process id: `hold` or `discard`, said of a message before its first line."""
        self._ended: dict[str, float] = {}
        """Queue ids of refused and discarded messages: a line of theirs may still come."""
        self._same: dict[str, str] = {}
        """Names that stand in many messages, each once."""
        self._handlers: dict[type, Callable[[Line, Any], Iterable[Outcome]]] = {
            messages.Connected: self._connected,
            messages.Disconnected: self._connected,
            messages.Submitted: self._submitted,
            messages.PickedUp: self._picked_up,
            messages.MessageId: self._message_id,
            messages.Queued: self._queued_up,
            messages.Delivery: self._delivery,
            messages.Removed: self._removed,
            messages.Expired: self._expired,
            messages.Action: self._action,
            messages.Notified: self._notified,
            messages.QueueChanged: self._changed,
        }

    def track(self, line: Line) -> Iterable[Outcome]:
        """Take in the next line; what it tells, and what now is known of lines before it."""
        handler = self._handlers.get(type(line.message))
        if handler is None:
            return _NOTHING
        if self.waiting:
            return chain(self.flush(line.time), handler(line, line.message))
        return handler(line, line.message)

    def flush(self, now: float) -> list[Outcome]:
        """What has waited long enough for the other end of a filter; also to be asked for while no lines come."""
        return self._filters.flush(now)

    @property
    def waiting(self) -> bool:
        """Whether outcomes of lines before are still to be told."""
        return bool(self._filters.waiting or self._filters.expected)

    def recent(self) -> Recent:
        """What is known beside messages, as it is now: to be encoded before the next line."""
        filters = self._filters
        return Recent(self._sessions, self._ahead, filters.waiting, filters.expected, filters.tied, self._ended)

    def restore(self, records: Iterable[Message], recent: Recent | None = None) -> None:
        """Take in what `records` and `recent` told before a restart; all records before what is `recent`."""
        for record in records:
            for name in ("user", "client", "instance"):
                setattr(record, name, self._once(getattr(record, name)))
            self.under_way.restore(record)
        if recent is None:
            return
        self._sessions.update(recent.sessions)
        self._ahead.update(recent.ahead)
        self._ended.update(recent.ended)
        self._filters.restore(recent)

    def _connected(self, line: Line, _: object) -> Iterable[Outcome]:
        self._sessions.pop(line.pid, None)
        self._ahead.pop(line.pid, None)
        return _NOTHING

    def _submitted(self, line: Line, said: messages.Submitted) -> Iterable[Outcome]:
        user, client = self._once(said.sasl_username), self._once(said.client_address)
        outcomes: list[Outcome] = []
        if user:
            if self._sessions.get(line.pid) != (user, client):
                outcomes.append(LoggedIn(line.time, user, client))
                bounded(self._sessions, MAX_SESSIONS)[line.pid] = user, client
        else:
            self._sessions.pop(line.pid, None)
        if not said.queue_id:
            return outcomes
        message = self._begin(Message(said.queue_id, line.time, user, client=client))
        if not user and client in self._filters and self._filters.gave(message, said.original_queue_id):
            return outcomes
        outcomes += self._filters.told(Began(message, line.time, line.pid))
        match self._ahead.pop(line.pid, ""):
            case "discard":
                outcomes += self._end(said.queue_id, line.time, "discarded")
            case "hold":
                outcomes += self._hold(said.queue_id, line.time, True)
        return outcomes

    def _picked_up(self, line: Line, said: messages.PickedUp) -> Iterable[Outcome]:
        old = self.under_way.pop(said.original_queue_id) if said.original_queue_id else None
        if old is not None:  # the same message under a new id
            changes = {"queue_id": said.queue_id, "parent": old.queue_id, "recipients": 0, "held": False}
            self._begin(msgspec.structs.replace(old, **changes))
            return _NOTHING
        is_new = said.sender and not said.original_queue_id  # no reply of a program, and none that was requeued
        uid = said.uid if is_new else -1
        message = self._begin(Message(said.queue_id, line.time, uid=uid, sender=self._once(said.sender[:MAX_TEXT])))
        return self._filters.told(Began(message, line.time, line.pid))

    def _message_id(self, line: Line, said: messages.MessageId) -> Iterable[Outcome]:
        message = self.under_way.find(said.queue_id)
        if message is None or message.recipients:  # one that was in the queue has been read: its id comes again
            if self._ended.pop(said.queue_id, 0.0) >= line.time - WAIT:
                return _NOTHING
            message = self._begin(Message(said.queue_id, line.time))
        if not said.resent and not message.message_id:  # a sender may have written several
            message.message_id = said.message_id[:MAX_TEXT]
        message.instance = self._instance(line)
        return _NOTHING

    def _queued_up(self, line: Line, said: messages.Queued) -> Iterable[Outcome]:
        message = self.under_way.find(said.queue_id) or self._begin(Message(said.queue_id, line.time))
        if message.recipients:
            return _NOTHING  # tried once more
        message.sender = message.user if said.sender == message.user else self._once(said.sender[:MAX_TEXT])
        message.size, message.recipients, message.held = said.size, said.recipients, False
        message.instance = self._instance(line)
        self.under_way.queue(message)
        if message.parent not in ("", said.queue_id) or not (message.client or message.uid >= 0):
            return _NOTHING  # it was accepted before, or made here
        return self._filters.told(Accepted(message, line.time))

    def _delivery(self, line: Line, said: messages.Delivery) -> Iterable[Outcome]:
        status = _STATUSES.get(said.status)
        if status is None:
            return _NOTHING  # the probe of an address
        message = self.under_way.find(said.queue_id) or self._begin(Message(said.queue_id, line.time))
        if status == "sent":
            delivered = Delivered(message, line.time, status, said.recipient, said.relay, said.dsn, None, said.text)
            if (found := _QUEUED_AS(said.text)) and _address(said.relay) in self._filters:
                return self._filters.took(found[1], message, delivered)
            return self._filters.told(delivered)
        bounce = classify(said.dsn, said.text)
        told = Delivered(message, line.time, status, said.recipient, said.relay, said.dsn, bounce, said.text)
        return self._filters.told(told)

    def _removed(self, line: Line, said: messages.Removed) -> Iterable[Outcome]:
        return self._end(said.queue_id, line.time, "removed")

    def _expired(self, line: Line, said: messages.Expired) -> Iterable[Outcome]:
        return self._end(said.queue_id, line.time, "expired")

    def _action(self, line: Line, said: messages.Action) -> Iterable[Outcome]:
        verb = said.action.removeprefix("milter-").removeprefix("proxy-")
        outcomes: list[Outcome] = []
        if verb == "reject":
            user, client = self._sender(line, said)
            refused = (said.stage, said.code, said.dsn, said.recipient, said.queue_id, said.decision)
            outcomes.append(Refused(line.time, user, client, *refused))
            if said.stage in ("END-OF-MESSAGE", "header", "body"):
                outcomes += self._end(said.queue_id, line.time, "refused")
        elif verb in ("hold", "discard") and not said.queue_id:
            self._ahead[line.pid] = verb
        elif verb == "discard":
            outcomes += self._end(said.queue_id, line.time, "discarded")
        elif verb in ("hold", "quarantine"):
            outcomes += self._hold(said.queue_id, line.time, True)
        elif said.action == "proxy-accept" and (found := _QUEUED_AS(said.text)):
            user, client = self._sessions.get(line.pid, ("", ""))
            if user and client == said.client_address:
                outcomes += self._filters.took(found[1], Message("", line.time, user, client=client), None)
        return outcomes

    def _sender(self, line: Line, said: messages.Action) -> tuple[str, str]:
        """User and client that are refused; what cleanup and milters refuse is told of the message alone."""
        if message := self.under_way.find(said.queue_id):
            return message.user, message.client
        user, client = self._sessions.get(line.pid, ("", ""))
        if said.client_address and said.client_address != client:
            user, client = "", said.client_address
        return said.sasl_username or user, client

    def _notified(self, line: Line, said: messages.Notified) -> Iterable[Outcome]:
        message = self.under_way.find(said.notification_id)
        if message is not None and not message.client:
            message.parent = said.queue_id
        return _NOTHING

    def _changed(self, line: Line, said: messages.QueueChanged) -> Iterable[Outcome]:
        if said.change == "removed":
            return self._end(said.queue_id, line.time, "deleted")
        if said.change in ("placed on hold", "released from hold"):
            return self._hold(said.queue_id, line.time, said.change == "placed on hold")
        return _NOTHING  # one that is requeued goes on under another id: pickup tells which

    def _hold(self, queue_id: str, time: float, held: bool) -> Iterable[Outcome]:
        message = self.under_way.find(queue_id)
        if message is None or (held and message.held):  # said for each recipient
            return _NOTHING
        message.held = held
        self.under_way.queue(message)
        return self._filters.told(Held(message, time, held))

    def _begin(self, message: Message) -> Message:
        """A new message: what waits for one of that id before it is over."""
        self._filters.waiting.pop(message.queue_id, None)
        self.under_way.begin(message)
        return message

    def _end(self, queue_id: str, time: float, how: str) -> Iterable[Outcome]:
        message = self.under_way.pop(queue_id)
        if message is None:
            return _NOTHING
        if how in ("refused", "discarded"):
            bounded(self._ended, MAX_RECENT)[queue_id] = time
        return self._filters.told(Ended(message, time, how))

    def _instance(self, line: Line) -> str:
        """The name of the instance; smtpd's may say more (`postfix/submission`), these daemons' does not."""
        return self._once(line.service.partition("/")[0])

    def _once(self, name: str) -> str:
        if len(self._same) >= MAX_SESSIONS:
            self._same.clear()
        return self._same.setdefault(name, name)


def _address(relay: str) -> str:
    """Of `name[address]:port`.

    >>> _address("127.0.0.1[127.0.0.1]:10024"), _address("none")
    ('127.0.0.1', '')
    """
    return relay.partition("[")[2].partition("]")[0]
