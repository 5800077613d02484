"""`bench maillog`: lines of a mixed mail log per CPU second, and the memory of a million messages in flight.

Lines are read from a file by the follower's own reader; parsing and tying together come on top.
"""

import gc
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agents.maillog.tail import Tail
from agents.maillog.tracker import Tracker
from benchmarks import maillog_load
from benchmarks.maillog_load import Said
from benchmarks.measure import rss_mib, show
from fleet.process import run_directory
from weir.maillog.lines import Parser

MESSAGES = 60_000
"""Some 480,000 lines."""
IN_FLIGHT = 1_000_000
SINCE = 1_795_534_000.0

Heads = Callable[[Iterable[Said], float], Iterator[bytes]]


def main() -> None:
    full, memory = _in_flight()
    with run_directory() as directory:
        rows = [
            _throughput("RFC 3164", maillog_load.classic, directory / "classic.log", Tracker()),
            _throughput("RFC 3339", maillog_load.precise, directory / "precise.log", Tracker()),
            _throughput("journal", maillog_load.journal, directory / "journal.log", Tracker()),
            _throughput(f"RFC 3164, {IN_FLIGHT:,} in flight", maillog_load.classic, directory / "full.log", full),
        ]
    show(
        f"mixed lines of {MESSAGES:,} messages, per CPU second",
        ("heads", "lines", "read", "and parsed", "and tied together", "µs CPU a line", "outcomes"),
        rows,
    )
    show("memory (RSS)", ("state", "MiB"), memory)


def _throughput(name: str, heads: Heads, path: Path, tracker: Tracker) -> tuple[str, ...]:
    with path.open("wb") as file:
        file.writelines(heads(maillog_load.mixed(MESSAGES, IN_FLIGHT), SINCE))
    lines = sum(1 for _ in _read(path))
    read = _cpu(lambda: sum(1 for _ in _read(path)))
    parse = Parser(lambda: SINCE).parse
    parsed = _cpu(lambda: sum(parse(line) is not None for line in _read(path)))
    outcomes = 0

    def tie() -> None:
        nonlocal outcomes
        outcomes = 0
        for raw in _read(path):
            line = parse(raw)
            if line is not None:
                for _ in tracker.track(line):
                    outcomes += 1

    known = len(tracker)
    tied = _cpu(tie)
    if len(tracker) > known or tracker.forgotten:
        raise RuntimeError(f"{len(tracker) - known + tracker.forgotten} messages have no end")
    figures = [f"{lines / seconds:,.0f}" for seconds in (read, parsed, tied)]
    return name, f"{lines:,}", *figures, f"{tied / lines * 1e6:.1f}", f"{outcomes:,}"


def _in_flight() -> tuple[Tracker, list[tuple[str, str]]]:
    """A tracker with messages that are accepted and have no end yet, and the memory that it takes."""
    gc.collect()
    before = rss_mib(os.getpid())
    parser, tracker = Parser(lambda: SINCE), Tracker()
    said = (one for one in maillog_load.mixed(IN_FLIGHT) if not one[2].endswith(": removed"))
    for raw in maillog_load.classic(said, SINCE):
        line = parser.parse(raw.rstrip(b"\n"))
        if line is not None:
            for _ in tracker.track(line):
                pass
    if len(tracker) != IN_FLIGHT:
        raise RuntimeError(f"{len(tracker)} messages are remembered, expected {IN_FLIGHT}")
    gc.collect()
    after = rss_mib(os.getpid())
    return tracker, [
        ("before", f"{before:.0f}"),
        (f"{IN_FLIGHT:,} messages in flight", f"{after:.0f}"),
        ("bytes a message", f"{(after - before) * 1024 * 1024 / IN_FLIGHT:.0f}"),
    ]


def _read(path: Path) -> Iterator[bytes]:
    tail = Tail(path)
    try:
        yield from itertools.chain.from_iterable(iter(tail.read, None))
    finally:
        tail.close()


def _cpu(work: Callable[[], object]) -> float:
    """CPU seconds of the best of three runs."""
    taken = []
    for _ in range(3):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)
