"""The agent's side of the queue's helper.

Invariants: it never waits longer than REPLY_SECONDS for a request of at most MAX_IDS ids; one request is under way at a
time. Whatever fails may be asked again.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from agents.queue.requests import MAX_IDS, MAX_LINE, Delete, Hold, Release, Request, Submit, decode_reply, encode

REPLY_SECONDS = 60.0
"""More than Postfix's commands take for a request: those are given up after 20 s each."""


class QueueError(Exception):
    """A request that was not, or not wholly, carried out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.done: list[str] = []
        """What was done before it."""


class HelperAwayError(QueueError):
    """The helper cannot be reached, or did not answer in time: it may still do what was asked."""


class HelperRefusedError(QueueError):
    """The helper did not understand, may not do it, or Postfix's commands failed: its own words."""


class QueueClient:
    """Asks the helper at the socket `path`. Each method returns what was done of what was asked; raises QueueError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = asyncio.Lock()

    async def hold(self, instance: str, ids: Sequence[str]) -> list[str]:
        """Put messages on hold; returns those that we hold now: not those that are gone, or that others hold."""
        return await self._ask_all([Hold(instance, part) for part in _parts(ids)])

    async def release(self, instance: str, ids: Sequence[str]) -> list[str]:
        """Release, of these, the messages that we hold, and have them delivered now; returns those."""
        return await self._ask_all([Release(instance, part) for part in _parts(ids)])

    async def delete(self, instance: str, ids: Sequence[str]) -> list[str]:
        """Delete, of these, the messages that we hold; returns those."""
        return await self._ask_all([Delete(instance, part) for part in _parts(ids)])

    async def refuse_submission(self, names: Sequence[str]) -> list[str]:
        """Let these login names, and no others, be refused by sendmail(1); at most MAX_NAMES."""
        return await self._ask_all([Submit([*names])])

    async def _ask_all(self, requests: Sequence[Request]) -> list[str]:
        done: list[str] = []
        async with self._turn:
            for request in requests:
                try:
                    done += await self._ask(request)
                except QueueError as error:
                    error.done = done
                    raise
        return done

    async def _ask(self, request: Request) -> list[str]:
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                line = await self._exchange(encode(request) + b"\n")
            reply = decode_reply(line)
        except TimeoutError:
            raise HelperAwayError(f"{self._path}: no answer within {REPLY_SECONDS:g} s") from None
        except OSError as error:
            raise HelperAwayError(f"{self._path}: {error.strerror or error}") from None
        except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise HelperAwayError(f"{self._path}: the connection ended without a reply") from None
        if reply.error:
            raise HelperRefusedError(reply.error)
        return reply.done

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readuntil(b"\n")
        finally:
            writer.close()


def _parts(ids: Sequence[str]) -> list[list[str]]:
    return [[*ids[start : start + MAX_IDS]] for start in range(0, len(ids), MAX_IDS)]
