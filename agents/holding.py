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
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import structlog

from agents.maillog.outcomes import Queued
from agents.queue import submit_table
from agents.queue.client import QueueClient, QueueError
from agents.queue.requests import MAX_NAMES, is_login_name
from weir import subjects

AGAIN_SECONDS = (0.0, 2.0, 8.0, 50.0)
"""Pauses before each look at the queues after a block: what was accepted just before it comes there a little later.
The last one also stands between tries of what fails."""
LOG_SECONDS = 60.0
"""Between two log lines about a helper that cannot be asked."""
RELEASE, DELETE = "release", "delete"

log = structlog.get_logger(__name__)


Tell = Callable[[str, str, int, str, str], None]
"""Keeps an event: subject, how, number of messages, id of the decision or word, error."""


class Holding:
    """`table` is the submit table, which the helper writes; `queued` gives the messages of a subject (called in a
    thread), `cause` the id of what blocks it now, or "".
    """

    def __init__(
        self,
        client: QueueClient,
        table: Path,
        queued: Callable[[str], list[Queued]],
        cause: Callable[[str], str],
        tell: Tell,
    ) -> None:
        self.failures = 0
        """Requests that the helper did not carry out."""
        self._client = client
        self._table = table
        self._queued = queued
        self._cause = cause
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, str] = {}
        """Subject whose mail was put on hold → id of what blocked it, until that is over."""
        self._local_users: set[str] = set()
        """Subjects of local users that were ever blocked."""
        self._refused: list[str] | None = None
        """Login names that the helper wrote into the table; None: not known."""
        self._not_refused: set[str] = set()
        """Blocked local users whom the table cannot name, as the log was told."""
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
            self._held.pop(subject, None)
            self._begin(subject, self._let_go(subject, word, queue))

    def tell_what_stays(self) -> None:
        """Tell of mail that stays on hold although the block is over by itself: to be called every few seconds."""
        for subject, cause in [one for one in self._held.items() if not self._cause(one[0])]:
            del self._held[subject]
            self._begin(subject, self._stays(subject, cause))

    def released_meanwhile(self, subject: str, word: str, queue: str, time: float) -> None:
        """A release of `time`, Unix seconds, that was said while nobody was here to carry it out."""
        if queue in (RELEASE, DELETE) and subject not in self._tasks:
            self._begin(subject, self._let_go(subject, word, queue, time))

    async def refresh_submitters(self) -> None:
        """Bring the submit table up to date: to be called every few seconds."""
        wanted = self._wanted()
        try:
            refused = submit_table.read(self._table)
        except OSError:  # not for us to read
            refused = self._refused
        if wanted == refused:
            return
        try:
            await self._client.refuse_submission(wanted)
        except QueueError as error:
            if wanted:  # where nobody is refused, no helper is missed
                self._fail(error)
        else:
            self._refused = wanted

    def _wanted(self) -> list[str]:
        """Login names of the local users that are blocked; one that the table cannot name keeps out no other."""
        blocked = {one for one in self._local_users if self._cause(one)}
        logins = {one: _login(one) for one in blocked}
        wanted = sorted({login for login in logins.values() if is_login_name(login)})[:MAX_NAMES]
        nameless = {one for one, login in logins.items() if login not in wanted}
        for one in sorted(nameless - self._not_refused):
            log.warning("a blocked local user may go on submitting mail: no name for Postfix's list", subject=one)
        self._not_refused = nameless
        return wanted

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
        trouble = ""
        for pause in chain(AGAIN_SECONDS, repeat(AGAIN_SECONDS[-1])):
            await asyncio.sleep(pause)
            cause = self._cause(subject)
            if not cause:
                return
            free = [message for message in await asyncio.to_thread(self._queued, subject) if not message.held]
            number, again = await self._ask(self._client.hold, free)
            if number:
                self._held[subject] = cause
            if number or again not in ("", trouble):
                self._tell(subject, "held", number, cause, again)
            trouble = again
            if not trouble and pause == AGAIN_SECONDS[-1]:
                return

    async def _stays(self, subject: str, cause: str) -> None:
        number = sum(message.held for message in await asyncio.to_thread(self._queued, subject))
        if number:
            self._tell(subject, "left", number, cause, "")
            log.warning(
                "a block is over, and mail stays on hold: see weir release --queue", subject=subject, messages=number
            )

    async def _let_go(self, subject: str, word: str, queue: str, before: float | None = None) -> None:
        """Do it with what was submitted before that time, or with all: the helper does it with what it holds, which the
        log may not tell of yet."""
        mail = await asyncio.to_thread(self._queued, subject)
        if queue not in (RELEASE, DELETE):
            self._tell(subject, "left", sum(message.held for message in mail), word, "")
            return
        how, ask = ("released", self._client.release) if queue == RELEASE else ("deleted", self._client.delete)
        number, trouble = await self._ask(ask, (one for one in mail if before is None or one.since < before))
        if number or trouble or before is None:
            self._tell(subject, how, number, word, trouble)

    async def _ask(
        self, ask: Callable[[str, list[str]], Coroutine[Any, Any, list[str]]], messages: Iterable[Queued]
    ) -> tuple[int, str]:
        """Ask the helper, instance by instance: with how many messages it was done, and why not with all."""
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
        return number, trouble

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
