"""The agent as a service: puts the parts together, and lives from start to SIGTERM.

    start   spool opened, snapshot and messages under way recalled, sockets served; READY=1 when the topics are read to
            their end, or after READY_SECONDS (what is known then counts, marked stale)
    SIGHUP  settings and rules, be it the first ones or none any more, are read again beside the requests, then taken in
            one step; what has an error changes nothing
    stop    nothing more is accepted, what has come is answered, events are shipped for SHIP_SECONDS, and what is left
            lies in the spool; the host's counters of limits are kept

Invariant: the event loop's thread does nothing that waits: disk, Kafka and metrics have threads of their own.
"""

import asyncio
import ctypes
import gc
import signal
import socket
import threading
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvloop
from prometheus_client.registry import Collector

from agents import metrics, process
from agents.agent import Agent, read_for_rules
from agents.follower import Follower, Record
from agents.listeners import listen
from agents.policy_server import PolicyServer
from agents.reloads import Reloads, beside
from agents.rulebook import Rulebook, look_at_own
from agents.shipper import Shipper
from agents.snapshot import Snapshot
from agents.spool import Spool
from agents.state import State
from weir import settings_file, systemd
from weir.settings import Settings

if TYPE_CHECKING:
    from agents.holding import Holding
    from agents.maillog.reader import MailLog
    from agents.maillog.telling import Told

READY_SECONDS = 5.0
SHIP_SECONDS = 3.0
HEARTBEAT_SECONDS = 5.0
HOLD_SECONDS = 5.0
"""Between two looks at which local users may not submit."""
FINISH_SECONDS = 1.0
"""At the stop, for requests whose rules wait for DNS and the like."""
_M_ARENA_MAX = -8  # malloc.h

log = structlog.get_logger(__name__)


def run(settings: Settings, config: Path | None) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises ValueError for what is wrong with the rules or scores, and OSError
    and SpoolInUseError for what else prevents its start."""
    _tune()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Service(settings, config).run())


class Service:
    def __init__(self, settings: Settings, config: Path | None) -> None:
        self._settings = settings
        self._config = config
        host = settings.agent.host or socket.gethostname()
        directory = settings.agent.spool
        self._spool = Spool(directory, host, settings.agent.spool_max_bytes)
        self._snapshot = Snapshot(directory / "decisions.snapshot")
        self._rulebook = Rulebook()
        self._state: State | None = None
        """Keeps the counters, from the first rules on."""
        self._has_rules = asyncio.Event()
        engine = self._rulebook.engine(settings.rules)
        self._agent = Agent(host, settings.default_realm, self._spool, self._snapshot, engine)
        self._agent.configure(settings.default_realm, settings.rules)
        self._server = PolicyServer(self._agent.answer, self._agent.settle)
        look_at_own(engine, settings.rules)
        self._agent.settle_soon = self._server.settle_soon
        self._shipper = Shipper(self._spool, settings.kafka, self._on_delivered)
        self._follower = Follower(settings.kafka, self._on_records, self._on_ready)
        self._maillog = self._read_log(settings) if settings.log.files or settings.log.journal else None
        self._told = threading.Semaphore()  # as with records, of the mail log
        self._taken = threading.Semaphore()  # one batch of records waits for the loop at a time
        self._read = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reloads = Reloads(self._reload)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reloads.ask)
        async with AsyncExitStack() as stack:  # what is started last stops first
            self._spool.open()
            stack.callback(self._spool.close)
            self._agent.recall(time.time())
            self._of_rules = await stack.enter_async_context(AsyncExitStack())
            if self._agent.engine is not None:
                await self._begin_rules()
            gc.freeze()  # what was recalled stays: no collection need look at it
            self._snapshot.start()
            stack.callback(self._snapshot.close)
            self._shipper.start()
            stack.push_async_callback(asyncio.to_thread, self._shipper.stop, SHIP_SECONDS)
            self._follower.start()
            stack.push_async_callback(asyncio.to_thread, self._follower.stop)
            if self._maillog is not None:
                self._maillog.start()
                stack.push_async_callback(asyncio.to_thread, self._maillog.stop)
            await stack.enter_async_context(listen(self._settings.agent, self._server))
            self._serve_metrics()
            await self._work()
        log.info("stopped")

    async def _begin_rules(self) -> None:
        """Take up the host's counters from before a restart, let commands on this host ask, and ask the rules. Raises
        OSError if counters cannot be kept."""
        from agents import control

        directory = self._settings.agent.spool
        state = State(directory / "limits", self._agent.counters)
        await asyncio.to_thread(state.restore, time.time())
        self._of_rules.callback(state.close)
        await self._of_rules.enter_async_context(control.serve(directory, self._agent))
        self._server.close()  # Postfix comes again, and is read for rules then
        self._server.answer, self._server.read = self._agent.answer_by_rules, read_for_rules
        self._state = state

    async def _keep_counters(self) -> None:
        """From the first rules on, even if there are none at the start. Where they cannot be kept no rules are used; a
        reload that brings some tries again."""
        while self._state is None:
            await self._has_rules.wait()
            self._has_rules.clear()
            try:
                await self._begin_rules()
            except OSError as error:
                log.error("rules cannot be used before another reload", error=str(error))
                self._agent.engine = None
        await self._state.keep()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._tell_ready()),
                group.create_task(process.every(HEARTBEAT_SECONDS, lambda: self._agent.heartbeat(time.time()))),
                group.create_task(process.every(1.0, lambda: self._agent.tick(time.time()))),
                group.create_task(self._keep_counters()),
                group.create_task(self._reloads.run()),
            ]
            holding = self._agent.holding
            if holding is not None and self._maillog is not None:
                tasks.append(group.create_task(self._hold(holding, self._maillog)))
            if (seconds := systemd.watchdog_seconds()) is not None:
                tasks.append(group.create_task(process.every(seconds / 2, lambda: systemd.notify("WATCHDOG=1"))))
            await self._stopping.wait()
            systemd.notify("STOPPING=1")
            for task in tasks:
                task.cancel()
        if holding is not None:
            await holding.stop()
        if self._agent.engine is not None:
            await self._agent.engine.finish(FINISH_SECONDS)
        await self._rulebook.close()

    async def _tell_ready(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._read.wait(), READY_SECONDS)
        systemd.notify("READY=1")
        knowledge = self._agent.knowledge
        log.info("ready", stale=not knowledge.complete, decisions=len(knowledge.decisions))
        if not knowledge.complete:
            await self._read.wait()
            log.info("decisions and words read to their end", decisions=len(knowledge.decisions))

    def _serve_metrics(self) -> None:
        if self._settings.agent.metrics:
            collector = metrics.AgentCollector(self._agent, self._server, self._spool, self._shipper, self._follower)
            collectors: list[Collector] = [collector]
            if self._maillog is not None:
                from agents.maillog.metrics import MailLogCollector

                collectors.append(MailLogCollector(self._maillog, self._agent))
            metrics.serve(self._settings.agent.metrics, collectors)

    async def _reload(self) -> None:
        settings = self._settings
        try:
            settings = await beside(lambda: settings_file.load(self._config))
        except settings_file.SettingsError as error:
            log.error("settings not reloaded, the former ones stay", errors=error.errors)
        restart = self._needs_restart(settings)
        self._agent.engine = await self._rulebook.reload(self._agent.engine, settings.rules)
        if settings is not self._settings:  # in the same step as their rules
            self._settings = settings
            self._agent.configure(settings.default_realm, settings.rules)
            if self._maillog is not None:
                self._maillog.reading.use_realm(settings.default_realm)
            log.info("settings reloaded", restart_needed=restart)
        if self._agent.engine is not None:
            self._has_rules.set()
        look_at_own(self._agent.engine, settings.rules)

    def _needs_restart(self, settings: Settings) -> bool:
        """Whether something is taken at the start only, and differs."""
        old, new = self._settings, settings
        differs = (old.agent, old.kafka, old.log, old.queue) != (new.agent, new.kafka, new.log, new.queue)
        return differs or self._rulebook.needs_restart(old.rules, new.rules)

    async def _hold(self, holding: "Holding", log: "MailLog") -> None:
        """Keep mail of blocked accounts in the queues. Where Kafka is away, what is known from the disk counts."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._read.wait(), READY_SECONDS)
        await asyncio.sleep(HOLD_SECONDS)  # the mail log is taken up meanwhile
        known: bool | None = None
        while True:
            if known is not self._read.is_set():
                known = self._read.is_set()
                self._resume(holding, await asyncio.to_thread(log.looks.senders))
            holding.tell_what_stays()
            await holding.refresh_submitters()
            await asyncio.sleep(HOLD_SECONDS)

    def _resume(self, holding: "Holding", senders: set[str]) -> None:
        """Do what was said of mail in the queues while nobody was here to do it."""
        for subject in senders | self._agent.blocked_local_users():
            if self._agent.cause(subject):
                holding.blocked(subject)
            elif (found := self._agent.released(subject)) is not None:
                word, time = found
                holding.released_meanwhile(subject, word.id, word.queue, time)

    def _read_log(self, settings: Settings) -> "MailLog":
        from agents.holding import Holding
        from agents.maillog.asked import AskedMessages
        from agents.maillog.reader import MailLog
        from agents.queue.client import QueueClient

        self._agent.asked = asked = AskedMessages()
        path = settings.agent.spool / "messages"
        realm = settings.default_realm
        log = MailLog(settings.log, realm, path, asked, self._on_told, lambda: self._spool.log_position)
        client = QueueClient(settings.queue.socket)
        self._agent.holding = Holding(
            client, settings.queue.submit_table, log.looks.queued, self._agent.cause, self._agent.tell_queue
        )
        return log

    def _on_told(self, events: "list[Told]", position: bytes) -> bool:
        """In the mail log's threads: some hundred lines at a time, when the spool has room; False: the agent ends."""
        while self._spool.full:
            if self._stopping.is_set():
                return False
            time.sleep(0.05)
        self._told.acquire()
        self._loop.call_soon_threadsafe(self._take_told, events, position)
        return True

    def _take_told(self, events: "list[Told]", position: bytes) -> None:
        self._told.release()
        self._agent.read(events, position)

    def _on_records(self, records: list[Record]) -> None:
        """In the follower's thread: one batch at a time, and no faster than the disk, so that memory stays small."""
        self._taken.acquire()
        self._snapshot.wait_for_room(0.2)
        self._loop.call_soon_threadsafe(self._take, records)

    def _take(self, records: list[Record]) -> None:
        self._taken.release()
        self._agent.learn(records, time.time())

    def _on_ready(self) -> None:
        """In the follower's thread."""
        self._loop.call_soon_threadsafe(self._finish_reading)

    def _finish_reading(self) -> None:
        self._agent.finish_reading(time.time())
        gc.freeze()
        self._read.set()

    def _on_delivered(self, partition: int, offset: int, newest: float) -> None:
        """In the shipper's thread."""
        self._loop.call_soon_threadsafe(self._agent.freshness.delivered, partition, offset, newest)


def _tune() -> None:
    process.tune()
    # One heap for all threads: each thread's own would keep what reading the topics needed once. (glibc only.)
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
