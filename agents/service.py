"""The agent as a service: puts the parts together, and lives from start to SIGTERM.

    start   spool opened, snapshot and messages under way recalled, sockets served; READY=1 when the topics are read to
            their end, or after READY_SECONDS (what is known then counts, marked stale)
    SIGHUP  settings are read again; a file with an error changes nothing
    stop    nothing more is accepted, what has come is answered, events are shipped for SHIP_SECONDS, and what is left
            lies in the spool

Invariant: the event loop's thread does nothing that waits: disk, Kafka and metrics have threads of their own.
"""

import asyncio
import ctypes
import gc
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import structlog
import uvloop

from agents import metrics
from agents.agent import Agent
from agents.follower import Follower, Record
from agents.listeners import listen
from agents.policy_server import PolicyServer
from agents.shipper import Shipper
from agents.snapshot import Snapshot
from agents.spool import Spool
from weir import settings_file, systemd
from weir.settings import Settings

READY_SECONDS = 5.0
SHIP_SECONDS = 3.0
HEARTBEAT_SECONDS = 5.0
_M_ARENA_MAX = -8  # malloc.h

log = structlog.get_logger(__name__)


def run(settings: Settings, config: Path | None) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises OSError and SpoolInUseError for what prevents its start."""
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
        self._agent = Agent(host, settings.default_realm, self._spool, self._snapshot)
        self._server = PolicyServer(self._agent.answer, self._agent.settle)
        self._shipper = Shipper(self._spool, settings.kafka, self._on_delivered)
        self._follower = Follower(settings.kafka, self._on_records, self._on_ready)
        self._taken = threading.Semaphore()  # one batch of records waits for the loop at a time
        self._read = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with AsyncExitStack() as stack:  # what is started last stops first
            self._spool.open()
            stack.callback(self._spool.close)
            self._agent.recall(time.time())
            gc.freeze()  # what was recalled stays: no collection need look at it
            self._snapshot.start()
            stack.callback(self._snapshot.close)
            self._shipper.start()
            stack.push_async_callback(asyncio.to_thread, self._shipper.stop, SHIP_SECONDS)
            self._follower.start()
            stack.push_async_callback(asyncio.to_thread, self._follower.stop)
            await stack.enter_async_context(listen(self._settings.agent, self._server))
            self._serve_metrics()
            await self._work()
        log.info("stopped")

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._tell_ready()),
                group.create_task(_every(HEARTBEAT_SECONDS, lambda: self._agent.heartbeat(time.time()))),
                group.create_task(_every(1.0, lambda: self._agent.tick(time.time()))),
            ]
            if (seconds := systemd.watchdog_seconds()) is not None:
                tasks.append(group.create_task(_every(seconds / 2, lambda: systemd.notify("WATCHDOG=1"))))
            await self._stopping.wait()
            systemd.notify("STOPPING=1")
            for task in tasks:
                task.cancel()

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
            metrics.serve(self._settings.agent.metrics, collector)

    def _reload(self) -> None:
        try:
            settings = settings_file.load(self._config)
        except settings_file.SettingsError as error:
            log.error("settings not reloaded, the former ones stay", errors=error.errors)  # noqa: TRY400
            return
        restart = (settings.agent, settings.kafka) != (self._settings.agent, self._settings.kafka)
        self._settings = settings
        self._agent.default_realm = settings.default_realm
        log.info("settings reloaded", restart_needed=restart)

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


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        do()
        await asyncio.sleep(seconds)


def _tune() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # A request waits at most so long for the interpreter while another thread computes.
    sys.setswitchinterval(0.0005)
    # Requests leave no cycles behind, and what is in memory for long is no garbage: rare collections are enough.
    gc.set_threshold(20_000, 50, 100)
    # One heap for all threads: each thread's own would keep what reading the topics needed once. (glibc only.)
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
