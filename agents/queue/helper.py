"""The queue's helper: carries out what the agent asks, on the instances of the settings only.

Invariants
- A message that others put on hold is never touched; which ones are ours is on disk before they are on hold.
- Released and deleted is what is ours and asked for; so a request may be asked again, whatever became of the first.
"""

from collections.abc import Mapping
from pathlib import Path

import structlog

from agents.queue import submit_table
from agents.queue.held import Held
from agents.queue.postfix_queue import CommandError, PostfixQueue
from agents.queue.requests import Delete, Hold, Release, Request, Submit

log = structlog.get_logger(__name__)


class UnknownInstanceError(Exception):
    """The settings name no such instance."""


class Helper:
    """Answers one request after the other. `queues` are those of the instances, by name."""

    def __init__(self, queues: Mapping[str, PostfixQueue], held: Held, table: Path) -> None:
        self._queues = queues
        self._held = held
        self._table = table

    def recall(self) -> None:
        """Make out what became of the messages that were being put on hold when the last process ended."""
        for name, queue in self._queues.items():
            try:
                self._held.ours(name, queue.on_hold())
            except CommandError as error:
                log.warning("queue cannot be looked at", instance=name, error=str(error))

    def carry_out(self, request: Request) -> list[str]:
        """What was done, of what was asked. Raises UnknownInstanceError, CommandError, OSError and sqlite3.Error."""
        if isinstance(request, Submit):
            submit_table.write(self._table, request.names)
            return request.names
        queue = self._queues.get(request.instance)
        if queue is None:
            raise UnknownInstanceError(f"no instance {request.instance!r} in the settings ({', '.join(self._queues)})")
        on_hold = queue.on_hold()
        ours = self._held.ours(request.instance, on_hold)
        match request:
            case Hold():
                done = ours | self._hold(queue, request.instance, [one for one in request.ids if one not in on_hold])
            case Release():
                done = self._release(queue, request.instance, [one for one in request.ids if one in ours])
            case Delete():
                done = queue.delete([one for one in request.ids if one in ours])
                self._held.forget(request.instance, done)
        return [one for one in request.ids if one in done]

    def _hold(self, queue: PostfixQueue, instance: str, ids: list[str]) -> set[str]:
        self._held.intend(instance, ids)
        done = queue.hold(ids)
        self._held.forget(instance, {*ids} - done)
        return done

    def _release(self, queue: PostfixQueue, instance: str, ids: list[str]) -> set[str]:
        done = queue.release(ids)
        self._held.forget(instance, done)
        try:
            queue.deliver(sorted(done))
        except CommandError as error:  # Postfix is down, for example
            log.warning("released messages wait for the next run of the queue", instance=instance, error=str(error))
        return done
