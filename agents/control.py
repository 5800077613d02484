"""The agent's side of `weir.control`: what commands on this host ask about rules and limits.

Invariant: looking through many counters is done in a thread, beside the requests.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import structlog

from agents.engine import Engine
from weir import control
from weir.control import Answer, LimitCount, Question, RuleHits
from weir.rules.counters import Counters

_MAX_QUESTION = 64 * 1024
_MAX_NUMBER = 10_000

log = structlog.get_logger(__name__)


class Asked(Protocol):
    """Whom the questions are about."""

    @property
    def engine(self) -> Engine | None: ...

    @property
    def counters(self) -> Counters: ...


@asynccontextmanager
async def serve(directory: Path, asked: Asked) -> AsyncIterator[None]:
    """Answer at the socket in this folder while the block runs; what prevents it is logged, and nobody is stopped."""
    path = directory / control.NAME
    with suppress(FileNotFoundError):
        path.unlink()
    mask = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(lambda *pair: _serve(asked, *pair), path, limit=_MAX_QUESTION)
    except OSError as error:
        log.warning("commands on this host cannot ask", socket=str(path), error=str(error))
        server = None
    finally:
        os.umask(mask)
    try:
        yield
    finally:
        if server is not None:
            server.close()
            with suppress(FileNotFoundError):
                path.unlink()


async def answer(asked: Asked, question: Question) -> Answer:
    """What is said to a question."""
    engine, counters, now = asked.engine, asked.counters, time.time()
    if engine is None:
        return Answer(error="this agent has no rules")
    digest = engine.ruleset.digest
    match question.ask:
        case "rules":
            hits = engine.hits
            rules = [RuleHits(rule.id, hits[rule.id]) for rule in engine.ruleset.rules]
            return Answer(digest=digest, rules=rules)
        case "limits":
            number = min(max(question.number, 0), _MAX_NUMBER)
            found = await asyncio.to_thread(counters.fullest, number, now)
            limits = [LimitCount(*counter) for counter in found]
            return Answer(digest=digest, limits=limits, counters=len(counters))
        case "reset":
            return Answer(digest=digest, counters=counters.reset(question.key))
        case unknown:
            return Answer(error=f"expected 'rules', 'limits' or 'reset', got {unknown!r}")


async def _serve(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(control.SECONDS):
            line = await reader.readline()
            try:
                reply = await answer(asked, control.decoder.decode(line))
            except ValueError as error:
                reply = Answer(error=str(error))
            writer.write(control.encoder.encode(reply) + b"\n")
            await writer.drain()
    except (OSError, TimeoutError, ValueError):
        pass  # whoever asked is gone, or sent more than a question
    finally:
        writer.close()
