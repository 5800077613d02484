"""What every process that answers policy requests does with itself."""

import asyncio
import gc
import resource
from collections.abc import Callable


def tune() -> None:
    """Allow a connection for each smtpd, and look for garbage rarely: requests leave no cycles behind."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(20_000, 50, 100)


async def every(seconds: float, do: Callable[[], None]) -> None:
    """Do it now, and again and again."""
    while True:
        do()
        await asyncio.sleep(seconds)
