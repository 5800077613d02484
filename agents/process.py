"""What every process that answers policy requests does with itself."""

import asyncio
import gc
import resource
import sys
from collections.abc import Callable


def tune() -> None:
    """Allow a connection for each smtpd, and look for garbage rarely: requests leave no cycles behind.

    A request waits at most half a millisecond at a time for the interpreter while another thread computes: with
    Python's 5 ms they come in faster than they are answered while long lists are reloaded.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(0.0005)


async def every(seconds: float, do: Callable[[], None]) -> None:
    """Do it now, and again and again."""
    while True:
        do()
        await asyncio.sleep(seconds)
