"""Looks into the queues: whose messages are there. On threads beside those that read the log.

The first look for a subject walks all messages, for all subjects that wait for it then; later ones find what
`agents.maillog.by_subject` has kept.

Invariant: the lock of what changes with each line is held for a list of all messages at most (6 to 12 ms a million), or
for SLICE of the subject's; after each slice those who wait for it go first.
"""

import threading
import time
from itertools import islice

from agents.maillog.outcomes import Message, Queued
from agents.maillog.under_way import UnderWay

SLICE = 10_000
"""Messages, some 2 ms."""
GATHER = 0.01
"""Seconds before a walk: who is blocked at the same time shares it."""
PAUSE = 0.001
"""Seconds: who lets go of a lock and wants it again at once has it before those who slept."""


class Looks:
    """`lock` guards the messages under way."""

    def __init__(self, under_way: UnderWay, lock: threading.Lock) -> None:
        self._under_way = under_way
        self._lock = lock
        self._filling = threading.Lock()

    def queued(self, subject: str) -> list[Queued]:
        """The messages of an account or a local user that are in a queue of this host."""
        while (mail := self._kept(subject)) is None:
            time.sleep(GATHER)
            with self._filling:
                self._fill(subject)
        return [Queued(one.instance, one.queue_id, one.held, one.since) for one in mail if one.instance]

    def senders(self) -> set[str]:
        """Accounts and local users with messages in a queue."""
        with self._lock:
            mail = self._under_way.in_queue()
        return {subject for subject in self._under_way.by_subject.senders(mail).values() if subject}

    def _kept(self, subject: str) -> list[Message] | None:
        """None if its messages are still to be filled in: what is kept may go before it is looked at."""
        with self._lock:
            by_subject = self._under_way.by_subject
            return None if by_subject.look_for(subject) else by_subject.of(subject)

    def _fill(self, subject: str) -> None:
        """Fill in what was in the queues before; what comes or goes meanwhile is taken in as ever."""
        with self._lock:
            by_subject = self._under_way.by_subject
            wanted = by_subject.unfilled()
            if subject not in wanted:
                return  # another thread has done it
            mail = self._under_way.in_queue()
        theirs = iter(by_subject.theirs(mail, wanted))
        while part := list(islice(theirs, SLICE)):
            with self._lock:
                for message in filter(self._under_way.is_in_queue, part):
                    by_subject.add(message)
            time.sleep(PAUSE)
        with self._lock:
            by_subject.filled(wanted)
