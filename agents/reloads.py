"""Reloads: each SIGHUP is followed by one, which works beside the requests.

    signal ─▶ ask ─▶ run ─▶ the reload: what takes time in `beside`, then one step on the loop

Invariants
- One runs at a time. Signals that come meanwhile, however many, are followed by one more.
- A reload that fails is logged and stops nothing.
- The stop waits for none: a thread that still computes ends with the process.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Reloads:
    def __init__(self, reload: Callable[[], Awaitable[object]]) -> None:
        self._reload = reload
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Have one done soon."""
        self._asked.set()

    async def run(self) -> None:
        """Do what is asked for, until this is cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()  # before it reads anything: who asks from now on means what it may have read already
            try:
                await self._reload()
            except Exception as error:  # whatever it is, mail goes on
                log.error("reload failed", exc_info=error)


async def beside(compute: Callable[[], T]) -> T:
    """What `compute` returns or raises in a thread, while the loop answers. No executor: the end would wait for it."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()
    threading.Thread(target=_work, args=(compute, done), name="reload", daemon=True).start()
    try:
        return await asyncio.wrap_future(done)
    finally:
        del done  # see `_work`


def _work(compute: Callable[[], T], done: Future[T]) -> None:
    try:
        done.set_result(compute())
    except Exception as error:  # it is raised where the result is awaited
        done.set_exception(error)
    finally:
        del done  # an error has this frame, and the future has the error: all that was read would stay in that circle
