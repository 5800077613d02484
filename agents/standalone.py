"""The standalone agent: rules on one host, without Kafka and without a settings file; it lives from start to SIGTERM.

Invariant: a request waits for nothing but what its own rules need.
"""

import asyncio
import gc
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import uvloop

from agents import control, process
from agents.engine import Engine
from agents.listeners import listen
from agents.policy_protocol import MAX_RULES_ACTION, parse_attributes, reply
from agents.policy_server import PolicyServer, Write
from agents.reloads import Reloads
from agents.state import State
from weir import settings, systemd
from weir.rules import scores
from weir.rules.counters import Counters
from weir.rules.needs import Outcome
from weir.rules.ruleset import Source
from weir.settings_checks import CHECKS

if TYPE_CHECKING:  # where DNS is off, nobody pays for it
    from agents.resolver import Resolver

FINISH_SECONDS = 1.0
"""At the stop, for requests that wait for DNS and the like."""

log = structlog.get_logger(__name__)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The command line."""

    sources: Sequence[Source]
    listen: Sequence[str]
    """`HOST:PORT` or `unix:PATH`."""
    state: Path | None = None
    """Folder where counters are kept over a restart; None: they are not."""
    scores: Sequence[str] = ()
    """`LIMIT=ACTION`."""
    dns: bool = True
    resolver: str = ""
    """`HOST:PORT`; empty: the system's."""
    dns_timeout: float = 14.0
    """Seconds for a question."""
    dns_timeout_max: int = 10
    """Time-outs after which a list is switched off."""
    dry_run: bool = False
    """Say what would be answered, answer DUNNO."""


def run(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises ValueError for what is wrong with the options or the rules, and OSError."""
    process.tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Standalone(options).run())


def _resolver(options: Options) -> "Resolver":
    from agents import resolver

    return resolver.Resolver(resolver.servers(options.resolver), options.dns_timeout, options.dns_timeout_max)


class Standalone:
    def __init__(self, options: Options) -> None:
        if expected := CHECKS[settings.Agent]["listen"](list(options.listen)):
            raise ValueError(f"places to listen at, {', '.join(options.listen)}: expected {expected}")
        self._options = options
        self._resolver = _resolver(options) if options.dns else None
        self.engine = Engine(options.sources, dict(map(scores.parse, options.scores)), self._resolver)
        self.counters = Counters()
        self._server = PolicyServer(self._dry_run if options.dry_run else self._answer, read=parse_attributes)
        self._stopping = asyncio.Event()
        self._reloads = Reloads(self.engine.reload)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloads.ask)
        state = self._restored()
        async with AsyncExitStack() as stack:  # what is started last stops first
            if state is not None:
                stack.callback(state.close)
                await stack.enter_async_context(control.serve(state.directory, self))
            gc.freeze()  # rules and counters stay: no collection need look at them
            places = settings.Agent(listen=list(self._options.listen))
            await stack.enter_async_context(listen(places, self._server))
            await self._work(state)
            await self.engine.finish(FINISH_SECONDS)
            if self._resolver is not None:
                await self._resolver.close()
        log.info("stopped")

    async def _work(self, state: State | None) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(process.every(1.0, lambda: self.counters.sweep(time.time()))),
                group.create_task(self._reloads.run()),
            ]
            if state is not None:
                tasks.append(group.create_task(state.keep()))
            if (seconds := systemd.watchdog_seconds()) is not None:
                tasks.append(group.create_task(process.every(seconds / 2, lambda: systemd.notify("WATCHDOG=1"))))
            systemd.notify("READY=1")
            log.info("ready", rules=len(self.engine.ruleset.rules), digest=self.engine.ruleset.digest)
            await self._stopping.wait()
            systemd.notify("STOPPING=1")
            for task in tasks:
                task.cancel()

    def _restored(self) -> State | None:
        if self._options.state is None:
            return None
        state = State(self._options.state, self.counters)
        state.restore(time.time())
        return state

    def _answer(self, attributes: dict[str, str], write: Write) -> None:
        if attributes.get("request") != "smtpd_access_policy":
            write(b"")  # as postfwd: it is not meant for us
            return
        self.engine.evaluate(
            attributes,
            time.time(),
            self.counters,
            lambda outcome: write(reply(outcome.action, MAX_RULES_ACTION)),
        )

    def _dry_run(self, attributes: dict[str, str], write: Write) -> None:
        """As `_answer`, but what the rules say is only logged."""
        rules = self.engine.ruleset.rules  # others may be in use at the end

        def tell(outcome: Outcome) -> None:
            write(reply("DUNNO"))
            rule = rules[outcome.rule].id if outcome.rule >= 0 else ""
            log.info("dry run", action=outcome.action, rule=rule, hits=len(outcome.hits))

        if attributes.get("request") != "smtpd_access_policy":
            write(b"")
            return
        self.engine.evaluate(attributes, time.time(), self.counters, tell)
