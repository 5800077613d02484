"""Content filters: a message that one gives back comes under another queue id, and is tied to the one put into it.

    smtpd: B: client=localhost[127.0.0.1], orig_queue_id=A                      the filter says so itself (XFORWARD)
    smtp: A: to=<…>, relay=127.0.0.1[127.0.0.1]:10024, … (250 … queued as B)    it answered so
    smtpd: NOQUEUE: proxy-accept: END-OF-MESSAGE from …: 250 … queued as B; …   one before the queue

What becomes of a message that may have come out of a filter waits until it is tied; a filter's answer waits for the
message that it names.

Invariants
- Only a filter's word ties a message that has no login of its own to another one: no remote server's text can.
- Nothing waits longer than WAIT seconds by the clock of the lines, and memory is bounded.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from agents.maillog.outcomes import Accepted, Began, Delivered, Ended, Held, Message, Outcome, Recent, Waiting

WAIT = 10.0
"""Seconds for which the outcomes of a message out of a content filter wait to be tied to its sender."""
MAX_WAITING = 10_000

OfMessage = Began | Accepted | Delivered | Ended | Held
Find = Callable[[str], Message | None]


class Filters:
    def __init__(self, addresses: Collection[str], find: Find, tied: Callable[[Message], None]) -> None:
        """`addresses` are those on other hosts; those on this one need not be named. `find` gives a message under way
        by its id; `tied` is told of one whose sender is known now."""
        self._addresses = frozenset(addresses)
        self._find = find
        self._on_tied = tied
        self.waiting: dict[str, Waiting] = {}
        """By queue id: messages that may have come out of a filter."""
        self.expected: dict[str, Waiting] = {}
        """By the queue id that a filter answered and that is not known yet: what was put into the filter."""
        self.tied: dict[str, str] = {}
        """By queue id of a message out of a filter: the queue id of the one put into it."""

    def __contains__(self, address: str) -> bool:
        return address.startswith(("127.", "/")) or address == "::1" or address in self._addresses

    def flush(self, now: float) -> list[Outcome]:
        """What has waited long enough for the other end."""
        done: list[Outcome] = []
        for kept in (self.waiting, self.expected):
            while kept:
                queue_id, one = next(iter(kept.items()))
                if now < one.until <= now + WAIT and len(kept) <= MAX_WAITING:  # and the clock was not set back
                    break
                del kept[queue_id]
                done += one.outcomes
        return done

    def gave(self, message: Message, original_queue_id: str) -> bool:
        """A filter, or who seems one, gave us a message. Whether it is tied; else what becomes of it waits."""
        expected = self.expected.pop(message.queue_id, None)
        sender = expected.message if expected else self._find(original_queue_id)
        if sender is None:
            self.waiting[message.queue_id] = Waiting(message, message.since + WAIT, [])
            return False
        self._tie(message, sender)
        return True

    def took(self, queue_id: str, sender: Message, delivered: Delivered | None) -> Iterable[Outcome]:
        """A filter took a message and gave it back under that queue id; what becomes of it is told of that one.
        `delivered` is what is to be told if it does not come back to us.
        """
        waiting = self.waiting.pop(queue_id, None)
        if waiting is not None:
            self._tie(waiting.message, sender)
            told = Began | Accepted if sender.queue_id else Began  # of one before the queue nothing was told yet
            return [one for one in waiting.outcomes if not isinstance(one, told)]
        if self.tied.get(queue_id) == sender.queue_id:
            return ()  # another recipient of it
        if self._find(queue_id) is not None:
            return (delivered,) if delivered else ()  # it has a sender of its own
        expected = self.expected.get(queue_id)
        if expected is None:
            until = (delivered.time if delivered else sender.since) + WAIT
            expected = self.expected[queue_id] = Waiting(sender, until, [])
        if delivered:
            expected.outcomes.append(delivered)
        return ()

    def told(self, outcome: OfMessage) -> Iterable[Outcome]:
        """The outcome, unless it waits for its message to be tied."""
        if self.waiting and (waiting := self.waiting.get(outcome.message.queue_id)) is not None:
            waiting.outcomes.append(outcome)
            return ()
        return (outcome,)

    def restore(self, recent: Recent) -> None:
        """Take in what was known before a restart; the messages are there again."""
        self.tied.update(recent.tied)
        self.waiting.update({queue_id: self._again(one) for queue_id, one in recent.waiting.items()})
        self.expected.update({queue_id: self._again(one) for queue_id, one in recent.expected.items()})

    def _again(self, waiting: Waiting) -> Waiting:
        """With the message itself in all places, as it was before."""
        own = waiting.message
        message = self._find(own.queue_id) or own
        outcomes = [
            msgspec.structs.replace(one, message=message) if one.message.queue_id == own.queue_id else one
            for one in waiting.outcomes
        ]
        return Waiting(message, waiting.until, outcomes)

    def _tie(self, message: Message, sender: Message) -> None:
        message.user, message.uid, message.client = sender.user, sender.uid, sender.client
        message.since, message.parent = sender.since, sender.queue_id or message.queue_id
        bounded(self.tied, MAX_WAITING)[message.queue_id] = sender.queue_id
        self._on_tied(message)


def bounded(kept: dict[Any, Any], limit: int) -> dict[Any, Any]:
    """The dict, with room for one more."""
    if len(kept) >= limit:
        del kept[next(iter(kept))]
    return kept
