"""Message counts: one message is counted once, however many policy requests it makes.

Postfix's `instance` ties the requests of one message together. An accepted RCPT adds one recipient, the first one also
the message. At DATA and END-OF-MESSAGE the recipients rise to recipient_count, and the message is added if it was not
yet; END-OF-MESSAGE adds the bytes and ends the message. What was asked for is counted alike, whatever was answered.

Invariants: an accepted message gives the same sums whether Weir is asked at RCPT, at END-OF-MESSAGE or at both (the
bytes at END-OF-MESSAGE only); MAX_MESSAGES are remembered, for MAX_AGE seconds, and at most BATCH beyond; replaying the
events of a message leaves what counting it had left.
"""

from itertools import islice
from typing import NamedTuple

import msgspec

from weir.events import Request, is_accepted

MAX_MESSAGES = 100_000
MAX_AGE = 3600.0
BATCH = 1000
"""New messages after which the old ones are looked at: a dict finds its oldest entry slowly once many are gone."""
_MAX_INSTANCE = 100
"""Characters that tell instances apart; Postfix's have some 25."""


class Counts(NamedTuple):
    """What one request adds."""

    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    attempted_messages: int = 0
    attempted_recipients: int = 0


_NOTHING = Counts()


class _Message(msgspec.Struct, gc=False):
    accepted: int
    """Recipients counted as accepted; so is `attempted`."""
    attempted: int
    since: float


class MessageCounts:
    """The messages that are under way on this host."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        """By instance, the oldest first."""
        self._new = 0
        """Messages since the old ones were looked at."""
        self.forgotten = 0
        """Messages that had to go before their time."""

    def __len__(self) -> int:
        return len(self._messages)

    def count(self, state: str, instance: str, recipient_count: int, size: int, accepted: bool, time: float) -> Counts:
        """What a request adds; `state`, `instance`, `recipient_count` and `size` are its attributes.

        A request without an instance counts by itself. `time` is Unix seconds.
        """
        if state == "RCPT":
            at_least, more = 0, 1
        elif recipient_count > 0 and state in ("DATA", "END-OF-MESSAGE"):
            at_least, more = recipient_count, 0
        else:
            return _NOTHING
        ends = state == "END-OF-MESSAGE"
        message = self._message(instance, ends, time)
        attempted = max(message.attempted + more, at_least)
        accepted_now = max(message.accepted + more, at_least) if accepted else message.accepted
        counts = Counts(
            int(message.accepted == 0 < accepted_now),
            accepted_now - message.accepted,
            size if ends and accepted else 0,
            int(message.attempted == 0),
            attempted - message.attempted,
        )
        message.attempted = attempted
        message.accepted = accepted_now
        return counts

    def replay(self, event: Request) -> None:
        """Take in a request that was counted before a restart."""
        self.count(
            event.protocol_state,
            event.instance,
            event.recipient_count,
            event.size,
            is_accepted(event.action),
            event.time,
        )

    def _message(self, instance: str, ends: bool, time: float) -> _Message:
        """The message as it stands; it is remembered unless it ends here."""
        instance = instance[:_MAX_INSTANCE]
        if ends:
            return self._messages.pop(instance, None) or _Message(0, 0, time)
        message = self._messages.get(instance)
        if message is None:
            message = _Message(0, 0, time)
            if instance:
                self._messages[instance] = message
                self._new += 1
                if self._new >= BATCH:
                    self._forget(time)
        return message

    def _forget(self, time: float) -> None:
        """Let the oldest go."""
        self._new = 0
        excess = len(self._messages) - MAX_MESSAGES
        gone: list[str] = []
        for instance, message in islice(self._messages.items(), 2 * BATCH):
            if len(gone) >= excess and message.since >= time - MAX_AGE:
                break
            self.forgotten += message.since >= time - MAX_AGE
            gone.append(instance)
        for instance in gone:
            del self._messages[instance]
