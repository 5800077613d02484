"""Mail of a blocked account that is in this host's queues already: held, and later released or deleted by an operator.

Invariants
- Only the queue's helper touches a queue, and it releases or deletes nothing but what it was told to hold.
- Mail of accounts and of local users is held, never a client's: many people may be behind one address.
- Nothing here waits in the agent's way: the helper is asked by tasks, one for each subject, and what fails is tried
  again as long as the block is in force.
"""

import asyncio
import pwd
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from agents.maillog.outcomes import Queued
from agents.queue.client import QueueClient, QueueError
from weir import subjects

AGAIN_SECONDS = (0.0, 2.0, 8.0, 50.0)
"""Pauses before each look at the queues after a block: what was accepted just before it comes there a little later."""
LOG_SECONDS = 60.0
"""Between two log lines about a helper that cannot be asked."""
RELEASE, DELETE = "release", "delete"

log = structlog.get_logger(__name__)


Tell = Callable[[str, str, int, str, str], None]
"""Keeps an event: subject, how, number of messages, id of the decision or word, error."""


class Holding:
    """`queued` gives the messages of a subject (called in a thread), `cause` the id of what blocks it now, or ""."""

    def __init__(
        self, client: QueueClient, queued: Callable[[str], list[Queued]], cause: Callable[[str], str], tell: Tell
    ) -> None:
        self.failures = 0
        """Requests that the helper did not carry out."""
        self._client = client
        self._queued = queued
        self._cause = cause
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._local_users: set[str] = set()
        """Subjects of local users that were ever blocked."""
        self._refused: list[str] | None = None
        """Login names in the submit table; None: not known."""
        self._told = -LOG_SECONDS

    def blocked(self, subject: str) -> None:
        """A block of this subject came: hold what it has in the queues."""
        if subjects.is_uid(subject):
            self._local_users.add(subject)
        elif not subjects.is_account(subject):
            return
        self._begin(subject, self._hold(subject))

    def released(self, subject: str, word: str, queue: str) -> None:
        """An operator's release, whose id is `word`, says what is to become of the subject's mail on hold. It is
        answered by an event in any case: the operator waits for it."""
        if subjects.is_account(subject) or subjects.is_uid(subject):
            self._begin(subject, self._let_go(subject, word, queue))

    async def refresh_submitters(self) -> None:
        """Bring the submit table up to date: to be called every few seconds."""
        wanted = sorted(filter(None, (_login(one) for one in self._local_users if self._cause(one))))
        if wanted == self._refused:
            return  # but at the start the table may still name who was refused before
        try:
            await self._client.refuse_submission(wanted)
        except QueueError as error:
            if wanted:  # where nobody is refused, no helper is missed
                self._fail(error)
        else:
            self._refused = wanted

    async def stop(self) -> None:
        """Give up what is under way: after a restart what is blocked is held again."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, subject: str, work: Coroutine[Any, Any, None]) -> None:
        """Do this for the subject, in place of what is under way for it."""
        former = self._tasks.get(subject)
        if former is not None:
            former.cancel()
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[subject] = task
        task.add_done_callback(lambda done: self._ended(subject, done))

    def _ended(self, subject: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(subject) is task:
            del self._tasks[subject]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures += 1
            log.error("the queues were not looked at", exc_info=error)

    async def _hold(self, subject: str) -> None:
        for pause in AGAIN_SECONDS:
            await asyncio.sleep(pause)
            cause = self._cause(subject)
            if not cause:
                return
            free = [message for message in await asyncio.to_thread(self._queued, subject) if not message.held]
            if free:
                await self._ask(subject, "held", cause, self._client.hold, free)

    async def _let_go(self, subject: str, word: str, queue: str) -> None:
        held = [message for message in await asyncio.to_thread(self._queued, subject) if message.held]
        if queue == RELEASE:
            await self._ask(subject, "released", word, self._client.release, held)
        elif queue == DELETE:
            await self._ask(subject, "deleted", word, self._client.delete, held)
        else:
            self._tell(subject, "left", len(held), word, "")

    async def _ask(
        self,
        subject: str,
        how: str,
        cause: str,
        ask: Callable[[str, list[str]], Coroutine[Any, Any, list[str]]],
        messages: Iterable[Queued],
    ) -> None:
        """Ask the helper, instance by instance, and tell what came of it."""
        by_instance: dict[str, list[str]] = {}
        for message in messages:
            by_instance.setdefault(message.instance, []).append(message.queue_id)
        number, trouble = 0, ""
        for instance, ids in by_instance.items():
            try:
                number += len(await ask(instance, ids))
            except QueueError as error:
                number += len(error.done)
                trouble = str(error)
                self._fail(error)
        self._tell(subject, how, number, cause, trouble)

    def _fail(self, error: QueueError) -> None:
        self.failures += 1
        now = time.monotonic()
        if now - self._told > LOG_SECONDS:
            self._told = now
            log.warning("the queue's helper did not do what was asked", trouble=str(error))


def _login(subject: str) -> str:
    """The login name of a local user's subject, "" if this host has no such user."""
    try:
        return pwd.getpwuid(int(subjects.value(subject))).pw_name
    except (KeyError, ValueError, OverflowError):
        return ""
