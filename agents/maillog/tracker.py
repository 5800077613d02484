"""The tracker ties the lines of a message together: from its queue id to who sent it and what became of it.

Postfix's lines name a queue id, only the first one names the login. A content filter gives a message back as a new
one: see `agents.maillog.filters`.

Invariants
- What is made here (notifications, forwards, replies of the null sender) has no user.
- MAX_MESSAGES are remembered; those that had to go before their end are counted. A message that never came into the
  queue is forgotten after MAX_UNQUEUED seconds, one that the log does not end after MAX_AGE.
- The clock is that of the lines.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
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
from weir.events import MAX_TEXT
from weir.maillog import messages
from weir.maillog.bounces import classify
from weir.maillog.messages import Line
from weir.maillog.patterns import QUEUE_ID

MAX_MESSAGES = 1_000_000
MAX_AGE = 8 * 86400.0
"""Seconds: Postfix gives a message up after five days, unless it is told otherwise (maximal_queue_lifetime)."""
MAX_UNQUEUED = 3600.0
BATCH = 10_000
"""New messages after which the old ones are looked at: a dict finds its oldest entry slowly once many are gone."""
MAX_SESSIONS = 10_000
MAX_RECENT = 10_000
"""Of each that is remembered for a moment only."""

_QUEUED_AS = re.compile(rf"queued as ({QUEUE_ID})$").search
_STATUSES = {"sent": "sent", "bounced": "bounced", "deferred": "deferred", "SOFTBOUNCE": "deferred"}
_NOTHING: tuple[Outcome, ...] = ()


class Tracker:
    """The messages that are in this host's queues."""

    def __init__(self, filters: Collection[str] = ()) -> None:
        """`filters` are the addresses of content filters on other hosts."""
        self._filters = Filters(filters, self.message)
        self._unqueued: dict[str, Message] = {}
        """By queue id, the oldest first: those that did not come into the queue yet."""
        self._queued: dict[str, Message] = {}
        """The others, and those on hold."""
        self._sessions: dict[int, tuple[str, str]] = {}
        """By the smtpd's process id: user and client of a session in which a message was sent."""
        self._ahead: dict[int, str] = {}
        """By the smtpd's process id: `hold` or `discard`, said of a message before its first line."""
        self._ended: dict[str, float] = {}
        """Queue ids of refused and discarded messages: a line of theirs may still come."""
        self._same: dict[str, str] = {}
        """Names that stand in many messages, each once."""
        self._new = 0
        self.evicted = 0
        """Messages that had to go for others before their end."""
        self.forgotten = 0
        """Messages whose end the log did not tell."""
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

    def __len__(self) -> int:
        return len(self._unqueued) + len(self._queued)

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

    def message(self, queue_id: str) -> Message | None:
        return self._queued.get(queue_id) or self._unqueued.get(queue_id)

    def records(self) -> Iterator[Message]:
        """All that is remembered, as plain records, the oldest first but for those that were not queued yet."""
        return chain(self._queued.values(), self._unqueued.values())

    def recent(self) -> Recent:
        """What is known beside them, as it is now: to be encoded before the next line."""
        filters = self._filters
        return Recent(self._sessions, self._ahead, filters.waiting, filters.expected, filters.tied, self._ended)

    def restore(self, records: Iterable[Message], recent: Recent | None = None) -> None:
        """Take in what `records` and `recent` told before a restart; all records before what is `recent`."""
        for record in records:
            for name in ("user", "client", "instance"):
                setattr(record, name, self._once(getattr(record, name)))
            (self._queued if record.recipients or record.held else self._unqueued)[record.queue_id] = record
        if recent is None:
            return
        self._sessions.update(recent.sessions)
        self._ahead.update(recent.ahead)
        self._ended.update(recent.ended)
        self._filters.restore(recent)

    def in_queue(self) -> Iterator[Message]:
        """The messages that are in a queue, on hold or not."""
        return iter(self._queued.values())

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
        old = self._pop(said.original_queue_id) if said.original_queue_id else None
        if old is not None:  # the same message under a new id
            changes = {"queue_id": said.queue_id, "parent": old.queue_id, "recipients": 0, "held": False}
            self._begin(msgspec.structs.replace(old, **changes))
            return _NOTHING
        is_new = said.sender and not said.original_queue_id  # no reply of a program, and none that was requeued
        uid = said.uid if is_new else -1
        message = self._begin(Message(said.queue_id, line.time, uid=uid, sender=self._once(said.sender[:MAX_TEXT])))
        return self._filters.told(Began(message, line.time, line.pid))

    def _message_id(self, line: Line, said: messages.MessageId) -> Iterable[Outcome]:
        message = self._unqueued.get(said.queue_id) or self._queued.get(said.queue_id)
        if message is None or message.recipients:  # one that was in the queue has been read: its id comes again
            if self._ended.pop(said.queue_id, 0.0) >= line.time - WAIT:
                return _NOTHING
            message = self._begin(Message(said.queue_id, line.time))
        if not said.resent and not message.message_id:  # a sender may have written several
            message.message_id = said.message_id[:MAX_TEXT]
        message.instance = self._instance(line)
        return _NOTHING

    def _queued_up(self, line: Line, said: messages.Queued) -> Iterable[Outcome]:
        message = self._unqueued.pop(said.queue_id, None)
        if message is None:
            known = self._queued.get(said.queue_id)
            if known is not None and known.recipients:
                return _NOTHING  # tried once more
            message = known or self._begin(Message(said.queue_id, line.time))
            self._unqueued.pop(said.queue_id, None)
        message.sender = message.user if said.sender == message.user else self._once(said.sender[:MAX_TEXT])
        message.size, message.recipients, message.held = said.size, said.recipients, False
        message.instance = self._instance(line)
        self._queued[said.queue_id] = message
        if message.parent not in ("", said.queue_id) or not (message.client or message.uid >= 0):
            return _NOTHING  # it was accepted before, or made here
        return self._filters.told(Accepted(message, line.time))

    def _delivery(self, line: Line, said: messages.Delivery) -> Iterable[Outcome]:
        status = _STATUSES.get(said.status)
        if status is None:
            return _NOTHING  # the probe of an address
        message = self.message(said.queue_id) or self._begin(Message(said.queue_id, line.time))
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
        if message := self.message(said.queue_id):
            return message.user, message.client
        user, client = self._sessions.get(line.pid, ("", ""))
        if said.client_address and said.client_address != client:
            user, client = "", said.client_address
        return said.sasl_username or user, client

    def _notified(self, line: Line, said: messages.Notified) -> Iterable[Outcome]:
        message = self.message(said.notification_id)
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
        message = self._unqueued.pop(queue_id, None) or self._queued.get(queue_id)
        if message is None or (held and message.held):  # said for each recipient
            return _NOTHING
        message.held = held
        self._queued[queue_id] = message
        return self._filters.told(Held(message, time, held))

    def _begin(self, message: Message) -> Message:
        """A new message; if one of that id is still there, its end was not told."""
        self.forgotten += self._pop(message.queue_id) is not None
        self._filters.waiting.pop(message.queue_id, None)
        self._unqueued[message.queue_id] = message
        self._new += 1
        if self._new >= BATCH:
            self._forget(message.since)
        return message

    def _end(self, queue_id: str, time: float, how: str) -> Iterable[Outcome]:
        message = self._pop(queue_id)
        if message is None:
            return _NOTHING
        if how in ("refused", "discarded"):
            bounded(self._ended, MAX_RECENT)[queue_id] = time
        return self._filters.told(Ended(message, time, how))

    def _pop(self, queue_id: str) -> Message | None:
        return self._queued.pop(queue_id, None) or self._unqueued.pop(queue_id, None)

    def _forget(self, now: float) -> None:
        """Let the oldest go."""
        self._new = 0
        for kept, age in ((self._queued, MAX_AGE), (self._unqueued, MAX_UNQUEUED)):
            excess = len(self) - MAX_MESSAGES
            gone: list[str] = []
            for queue_id, message in islice(kept.items(), 2 * BATCH):
                if len(gone) >= excess and message.since >= now - age:
                    break
                self.evicted += message.since >= now - age
                self.forgotten += message.since < now - age
                gone.append(queue_id)
            for queue_id in gone:
                del kept[queue_id]

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
