"""`bench maillog`: lines of a mixed mail log per CPU second, the memory of a million messages in flight, looks for
somebody's among them, and the time from a line in the file to its event in Kafka.

Lines are read from a file by the follower's own reader; parsing and tying together come on top. The events come from a
whole agent, which has nothing else to do, and are timed when a consumer has them.
"""

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from agents.maillog.looks import Looks
from agents.maillog.tail import Tail
from agents.maillog.tracker import Tracker
from benchmarks import maillog_load
from benchmarks.fleet import SETTINGS, running_kafka
from benchmarks.maillog_load import Said
from benchmarks.measure import percentile, rss_mib, show
from fleet.own import Agent, merged
from fleet.process import run_directory, wait_until
from weir import envelopes, events, topics
from weir.events import Delivery, Login, Rejected, Removed, Submitted
from weir.kafka import reader
from weir.maillog.lines import Parser
from weir.settings import Kafka

MESSAGES = 60_000
"""Some 480,000 lines."""
IN_FLIGHT = 1_000_000
RATES = (100, 1000, 5000)
SECONDS = 20.0
OF_THE_LOG = (Submitted, Delivery, Removed, Rejected, Login)
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
    show(
        f"looks among {IN_FLIGHT:,} messages, the slowest of each",
        ("look for", "ms CPU", "ms that the log waited for it"),
        _looks(full),
    )
    _delays()


def _delays() -> None:
    rows = []
    with run_directory() as directory, running_kafka(directory) as kafka:
        path = directory / "mail.log"
        path.touch()
        settings = merged(SETTINGS, {"log": {"files": [str(path)]}})
        with Agent("mx1", directory / "mx1", kafka.bootstrap, settings) as agent, Arrivals(kafka.bootstrap) as arrivals:
            agent.wait_serving()
            for first, rate in enumerate(RATES):
                lines = itertools.islice(maillog_load.mixed(MESSAGES, first * MESSAGES), int(rate * SECONDS))
                _write(path, lines, rate)
                delays = arrivals.settled()
                shares = (f"{percentile(delays, share):.0f}" for share in (0.5, 0.95, 0.99, 1.0))
                rows.append((f"{rate:,} lines a second", f"{len(delays):,}", *shares))
    show("line written → its event read from Kafka, ms", ("load", "events", "p50", "p95", "p99", "slowest"), rows)


def _write(path: Path, lines: Iterable[Said], rate: int) -> None:
    """Each line with the time when it is written, so many a second."""
    begin = time.time()
    with path.open("ab", buffering=0) as file:
        for number, said in enumerate(lines):
            if number % max(1, rate // 500) == 0:
                time.sleep(max(0.0, begin + number / rate - time.time()))
            now = time.time()
            head = datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
            program, pid, text = said
            file.write(f"{head} mx1 {program}[{pid}]: {text}\n".encode())


class Arrivals:
    """Reads weir.events as they come; the delays of those of the mail log, ms."""

    def __init__(self, bootstrap: str) -> None:
        self._delays: list[float] = []
        self._newest = time.monotonic()
        self._consumer = Consumer(reader(Kafka(bootstrap_servers=bootstrap)) | {"fetch.wait.max.ms": 5})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        partitions = self._consumer.list_topics(topics.EVENTS, 20).topics[topics.EVENTS].partitions
        self._consumer.assign([TopicPartition(topics.EVENTS, number, 0) for number in partitions])
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def settled(self) -> list[float]:
        """All since the last call, once none has come for two seconds."""
        wait_until(lambda: self._delays and time.monotonic() > self._newest + 2, 60, "the events")
        delays, self._delays = self._delays, []
        return delays

    def _run(self) -> None:
        while not self._stopping.is_set():
            message = self._consumer.poll(0.05)
            if message is None or message.error():
                continue
            now = time.time()
            _, found = envelopes.decode(message.value() or b"", events.decoder)
            delays = [1000 * (now - event.time) for event in found if isinstance(event, OF_THE_LOG)]
            if delays:
                self._delays += delays
                self._newest = time.monotonic()


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

    under_way = tracker.under_way
    known = len(under_way)
    tied = _cpu(tie)
    if len(under_way) > known or under_way.forgotten:
        raise RuntimeError(f"{len(under_way) - known + under_way.forgotten} messages have no end")
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
    if len(tracker.under_way) != IN_FLIGHT:
        raise RuntimeError(f"{len(tracker.under_way)} messages are remembered, expected {IN_FLIGHT}")
    gc.collect()
    after = rss_mib(os.getpid())
    return tracker, [
        ("before", f"{before:.0f}"),
        (f"{IN_FLIGHT:,} messages in flight", f"{after:.0f}"),
        ("bytes a message", f"{(after - before) * 1024 * 1024 / IN_FLIGHT:.0f}"),
    ]


def _looks(tracker: Tracker) -> list[tuple[str, ...]]:
    lock = threading.Lock()
    looks = Looks(tracker.under_way, lock)
    accounts = iter(sorted(looks.senders()))
    some = [next(accounts) for _ in range(5)]
    many = [next(accounts) for _ in range(60)]
    with ThreadPoolExecutor(6) as pool:
        kinds: list[tuple[str, Callable[[], object]]] = [
            *(("an account, the first time", partial(looks.queued, account)) for account in some),
            *(("the same once more", partial(looks.queued, account)) for account in some),
            (f"{len(many)} accounts at once, the first time", lambda: list(pool.map(looks.queued, many))),
            ("all senders", looks.senders),
        ]
        slowest: dict[str, tuple[float, float]] = {}
        for kind, look in kinds:
            cpu, waited = slowest.get(kind, (0.0, 0.0))
            with Log(lock) as log:
                begin = time.process_time()
                look()
                cpu = max(cpu, time.process_time() - begin)
            slowest[kind] = cpu, max(waited, log.waited)
    return [(kind, f"{1000 * cpu:.1f}", f"{1000 * waited:.1f}") for kind, (cpu, waited) in slowest.items()]


class Log:
    """A thread that wants the lock for each line, as one that reads the log does."""

    def __init__(self, lock: threading.Lock) -> None:
        self.waited = 0.0
        """Seconds, at most."""
        self._lock = lock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.0005):
            begin = time.perf_counter()
            with self._lock:
                self.waited = max(self.waited, time.perf_counter() - begin)


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
