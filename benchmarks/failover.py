"""`bench failover`: how long decisions stay away when a worker is killed, joins, leaves or is restarted.

Fifty times a second a new account crosses its threshold, in one partition or another; how long each waits for its
decision is read from weir.decisions. An event's figure is the longest wait of the accounts that crossed in its time.
"""

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from benchmarks.fleet import OFF, SETTINGS, running_kafka
from benchmarks.measure import percentile, show
from benchmarks.tally_load import TallyLoad
from fleet.own import Worker, merged
from fleet.process import run_directory, wait_until
from weir import decisions, kafka, settings, subjects, topics

BURST = merged(SETTINGS, {"detectors": {"burst": {"account": {**OFF, "messages_per_minute": 2}}}})
PAUSE = 0.02
AROUND = 12.0
"""Seconds that are watched from each event on: longer than a session."""


class Probe:
    """Crosses thresholds and waits for the decisions until its `with` block ends."""

    def __init__(self, bootstrap: str) -> None:
        self.crossed: dict[str, float] = {}
        self.decided: dict[str, float] = {}
        self._load = TallyLoad(bootstrap)
        self._consumer = Consumer(
            kafka.reader(settings.Kafka(bootstrap_servers=bootstrap)) | {"enable.partition.eof": False}
        )
        self._consumer.assign([TopicPartition(topics.DECISIONS, number, 0) for number in range(subjects.PARTITIONS)])
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._cross), threading.Thread(target=self._read)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._consumer.close()

    def waits(self, since: float, until: float) -> list[float]:
        """Seconds that each account that crossed in that time waited; raises TimeoutError if one gets no decision."""
        names = [subject for subject, time_ in list(self.crossed.items()) if since <= time_ < until]
        wait_until(lambda: all(name in self.decided for name in names), 30, "decisions on all accounts", 0.1)
        return [self.decided[name] - self.crossed[name] for name in names]

    def _cross(self) -> None:
        for number in itertools.count():
            if self._over.wait(PAUSE):
                break
            subject = subjects.sasl_username(f"probe{number}@example.org")
            self.crossed[subject] = time.time()
            self._load.attack(subject, 3)
        self._load.flush()

    def _read(self) -> None:
        while not self._over.is_set():
            for message in self._consumer.consume(100, 0.005):
                if message.error() is None:
                    _, subject = decisions.split_key(message.key() or b"")
                    self.decided.setdefault(subject, time.time())


def main() -> None:
    rows: list[tuple[str, ...]] = []
    with run_directory() as directory, running_kafka(directory) as kafka, ExitStack() as stack:
        workers = [Worker(name, directory / name, kafka.bootstrap, BURST) for name in ("w1", "w2", "w3")]
        first, second, third = workers
        for worker in (first, second):
            stack.enter_context(worker)
        wait_until(lambda: first.owned() + second.owned() == subjects.PARTITIONS, 60, "all partitions")
        with Probe(kafka.bootstrap) as probe:
            rows.append(_row("nothing happens", probe, lambda: None))
            rows.append(_row("kill -9 of one of two workers, restarted at once", probe, first.kill))
            rows.append(_row("a third worker joins", probe, lambda: stack.enter_context(third)))
            rows.append(_row("rolling restart of three", probe, lambda: _roll(workers)))
            rows.append(_row("one of three leaves for good", probe, third.terminate))
    show("the longest wait for a decision", ("event", "accounts", "p50 ms", "longest s"), rows)


def _roll(workers: list[Worker]) -> None:
    """SIGTERM to one after the other; the supervisor starts it again."""
    for worker in workers:
        restarts = worker.restarts
        worker.signal(15)
        wait_until(partial(_is_back, worker, restarts), 30, f"{worker.name} to count again")


def _is_back(worker: Worker, restarts: int) -> bool:
    return worker.restarts > restarts and worker.owned() > 0


def _row(name: str, probe: Probe, event: Callable[[], object]) -> tuple[str, ...]:
    start = time.time()
    event()
    end = time.time() + AROUND
    wait_until(lambda: time.time() >= end, AROUND + 5, "the time watched", 0.2)
    waits = probe.waits(start, end)
    return name, str(len(waits)), f"{percentile(waits, 0.5) * 1000:.0f}", f"{max(waits):.1f}"


if __name__ == "__main__":
    main()
