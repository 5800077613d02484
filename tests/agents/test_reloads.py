"""Reloads: one at a time, none lost, none that the stop waits for, and none that stops anything."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import structlog

from agents.reloads import Reloads, beside
from fleet.own import CHECKOUT


class Slow:
    """A reload that ends when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.may_end = asyncio.Semaphore(0)
        self.count = 0
        self.under_way = 0
        self.most = 0

    async def reload(self) -> None:
        self.count += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.begun.release()
        await self.may_end.acquire()
        self.under_way -= 1


@asynccontextmanager
async def running(reloads: Reloads) -> AsyncIterator[None]:
    task = asyncio.create_task(reloads.run())
    try:
        async with asyncio.timeout(10):
            yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("asked", [1, 2, 5])
def test_what_is_asked_while_one_runs_is_one_more_after_it(asked: int) -> None:
    async def client() -> None:
        slow = Slow()
        reloads = Reloads(slow.reload)
        async with running(reloads):
            reloads.ask()
            await slow.begun.acquire()
            for _ in range(asked):
                reloads.ask()
                await asyncio.sleep(0)
            assert slow.count == 1
            slow.may_end.release()
            await slow.begun.acquire()
            slow.may_end.release()
            reloads.ask()
            await slow.begun.acquire()
        assert (slow.count, slow.most) == (3, 1)

    asyncio.run(client())


def test_what_is_asked_before_it_runs_is_done() -> None:
    async def client() -> None:
        slow = Slow()
        reloads = Reloads(slow.reload)
        reloads.ask()
        async with running(reloads):
            await slow.begun.acquire()

    asyncio.run(client())


def test_a_reload_that_fails_is_logged_and_the_next_one_is_done() -> None:
    async def client() -> None:
        done = asyncio.Event()

        async def reload() -> None:
            if not logs:
                await beside(lambda: int("a fault of ours"))
            done.set()

        reloads = Reloads(reload)
        async with running(reloads):
            reloads.ask()
            async with asyncio.timeout(10):
                while not logs:
                    await asyncio.sleep(0.001)
            reloads.ask()
            await done.wait()

    with structlog.testing.capture_logs() as logs:
        asyncio.run(client())
    ((event, error),) = [(entry["event"], entry["exc_info"]) for entry in logs]
    assert (event, type(error)) == ("reload failed", ValueError)


def test_the_loop_goes_on_beside() -> None:
    async def client() -> None:
        may_end = threading.Event()
        task = asyncio.create_task(beside(lambda: may_end.wait(10)))
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        assert await task

    asyncio.run(client())


def test_what_a_reload_that_fails_has_read_is_freed_at_once() -> None:
    """It is in no circle, which only a search for garbage would find."""

    class Read:
        pass

    read: list[weakref.ref[Read]] = []

    def fail() -> None:
        much = Read()
        read.append(weakref.ref(much))
        raise ValueError("a fault of theirs")

    async def client() -> None:
        with pytest.raises(ValueError, match="theirs"):
            await beside(fail)

    gc.disable()
    try:
        asyncio.run(client())
        for thread in threading.enumerate():
            if thread.name == "reload":
                thread.join(10)
        assert [one() for one in read] == [None]
    finally:
        gc.enable()


def test_the_end_waits_for_no_thread(tmp_path: Path) -> None:
    """Nobody ever writes to the pipe that it reads."""
    os.mkfifo(tmp_path / "pipe")
    program = """if True:
        import asyncio, pathlib, sys
        from agents.reloads import Reloads, beside

        async def main():
            reloads = Reloads(lambda: beside(pathlib.Path(sys.argv[1]).read_text))
            task = asyncio.create_task(reloads.run())
            reloads.ask()
            print("reads", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            task.cancel()

        asyncio.run(main())
        """
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "pipe"],
        cwd=CHECKOUT,
        capture_output=True,
        input="",
        text=True,
        timeout=10,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "reads\n", "")
