"""How fast answers were, by the load's truth."""

import statistics
from collections.abc import Sequence

from fleet.load import Asked


def between(truth: Sequence[Asked], start: float, end: float) -> list[float]:
    """How long each answer took that was asked for in this time; seconds."""
    return [asked.answered - asked.sent for asked in truth if start <= asked.sent < end and asked.answered]


def assert_as_fast(now: list[float], before: list[float]) -> None:
    """As far as can be said on a machine that does other work too: who waited for Kafka would wait for seconds."""
    for name, place, factor, more in (("median", 50, 2, 0.002), ("p99", 99, 4, 0.100)):
        was, found = (statistics.quantiles(times, n=100)[place - 1] for times in (before, now))
        print(f"{name} {1000 * found:.2f} ms, before {1000 * was:.2f} ms")
        assert found < factor * was + more
