"""Messages under way: those in this host's queues, and those that did not come there yet.

Invariants
- MAX_MESSAGES are remembered; those that had to go before their end are counted. A message that never came into the
  queue is forgotten after MAX_UNQUEUED seconds, one that the log does not end after MAX_AGE.
- A queue id names one message: the newest.
- Whatever way a message comes into the queues or leaves them, `by_subject` learns of it.
"""

from collections.abc import Iterator
from itertools import chain, islice

from agents.maillog.by_subject import BySubject
from agents.maillog.outcomes import Message

MAX_MESSAGES = 1_000_000
MAX_AGE = 8 * 86400.0
"""Seconds: Postfix gives a message up after five days, unless it is told otherwise (maximal_queue_lifetime)."""
MAX_UNQUEUED = 3600.0
BATCH = 10_000
"""New messages after which the old ones are looked at: a dict finds its oldest entry slowly once many are gone."""


class UnderWay:
    def __init__(self, default_realm: str) -> None:
        self.by_subject = BySubject(default_realm)
        """Of those in a queue."""
        self.evicted = 0
        """Messages that had to go for others before their end."""
        self.forgotten = 0
        """Messages whose end the log did not tell."""
        self._unqueued: dict[str, Message] = {}
        """By queue id, the oldest first: those that did not come into the queue yet."""
        self._queued: dict[str, Message] = {}
        """The others, and those on hold."""
        self._new = 0

    def __len__(self) -> int:
        return len(self._unqueued) + len(self._queued)

    def find(self, queue_id: str) -> Message | None:
        return self._queued.get(queue_id) or self._unqueued.get(queue_id)

    def records(self) -> Iterator[Message]:
        """All of them, the oldest first but for those that were not queued yet."""
        return chain(self._queued.values(), self._unqueued.values())

    def in_queue(self) -> list[Message]:
        """Those that are in a queue, on hold or not."""
        return list(self._queued.values())

    def is_in_queue(self, message: Message) -> bool:
        return self._queued.get(message.queue_id) is message

    def begin(self, message: Message) -> None:
        """A new one; if one of that id is still there, its end was not told."""
        queue_id = message.queue_id
        if queue_id in self._queued or queue_id in self._unqueued:
            self.forgotten += 1
            self.pop(queue_id)
        self._unqueued[queue_id] = message
        self._new += 1
        if self._new >= BATCH:
            self._forget(message.since)

    def queue(self, message: Message) -> None:
        """It is in a queue, if it was not there before."""
        self._unqueued.pop(message.queue_id, None)
        self._queued[message.queue_id] = message
        if self.by_subject.looked_for:
            self.by_subject.add(message)

    def restore(self, message: Message) -> None:
        """One that was known before a restart."""
        if message.recipients or message.held:
            self.queue(message)
        else:
            self._unqueued[message.queue_id] = message

    def tied(self, message: Message) -> None:
        """It is known now who sent it."""
        if self.is_in_queue(message):
            self.by_subject.add(message)

    def pop(self, queue_id: str) -> Message | None:
        """The message, which is under way no more."""
        message = self._queued.pop(queue_id, None)
        if message is None:
            return self._unqueued.pop(queue_id, None)
        if self.by_subject.looked_for:
            self.by_subject.remove(message)
        return message

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
                self.pop(queue_id)
