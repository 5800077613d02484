"""`bench streams`: tallies per CPU second of a worker, and how long it takes to recover a million subjects.

The topic is filled before the worker starts; the CPU time of a start with nothing to count is taken off.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import Producer

from benchmarks.fleet import SETTINGS, running_kafka
from benchmarks.measure import cpu_seconds, rss_mib, show
from benchmarks.tally_load import TallyLoad, account
from fleet.own import Worker
from fleet.process import run_directory, wait_until
from streams import windows
from weir import subjects, topics

SUBJECTS = 2000
RECOVERED = 1_000_000
ROWS = (
    ("one worker, envelopes of 1", 80_000, 1, 3, 1),
    ("one worker, envelopes of 10", 500_000, 10, 3, 1),
    ("one worker, envelopes of 100", 1_000_000, 100, 3, 1),
    ("two workers, envelopes of 10", 500_000, 10, 3, 2),
    ("one worker, 1,000 hosts, envelopes of 1", 80_000, 1, 1000, 1),
)


def main() -> None:
    rows = [_throughput(*row) for row in ROWS]
    show(
        f"tallies counted, {SUBJECTS:,} subjects",
        ("load", "tallies", "per CPU second", "per second", "µs CPU each"),
        rows,
    )
    _recovery()


def _throughput(name: str, number: int, envelope: int, hosts: int, workers: int) -> tuple[str, ...]:
    with run_directory() as directory, running_kafka(directory) as kafka:
        idle_cpu, _ = _start(directory / "idle", kafka.bootstrap, workers, 0)
        TallyLoad(kafka.bootstrap, hosts).preload(number, envelope, SUBJECTS)
        cpu, seconds = _start(directory / "full", kafka.bootstrap, workers, number)
    cost = cpu - idle_cpu
    return name, f"{number:,}", f"{number / cost:,.0f}", f"{number / seconds:,.0f}", f"{cost / number * 1e6:.1f}"


def _start(directory: Path, bootstrap: str, number: int, expected: int) -> tuple[float, float]:
    """CPU seconds of all workers from their start until all is counted, and wall seconds from the first tally on."""
    directory.mkdir()
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(f"w{index}", directory / f"w{index}", bootstrap, SETTINGS))
            for index in range(number)
        ]

        def counted() -> float:
            return sum(worker.metrics().get("weir_streams_tallies_total", 0.0) for worker in workers)

        if expected:
            wait_until(lambda: counted() > 0, 60, "the first tally")
        else:
            wait_until(lambda: sum(worker.owned() for worker in workers) == subjects.PARTITIONS, 60, "all partitions")
        start = time.perf_counter()
        wait_until(lambda: counted() >= expected, 300, "all tallies")
        return sum(cpu_seconds(worker.pid) for worker in workers), time.perf_counter() - start


def _recovery() -> None:
    with run_directory() as directory, running_kafka(directory) as kafka:
        empty = _seconds_to_count(directory / "empty", kafka.bootstrap)[0]
        _fill_windows(kafka.bootstrap, RECOVERED)
        full, memory = _seconds_to_count(directory / "full", kafka.bootstrap)
    show(
        "from the start of the process to counting",
        ("subjects", "seconds", "of it recovery", "RSS MiB"),
        [("0", f"{empty:.1f}", "0", ""), (f"{RECOVERED:,}", f"{full:.1f}", f"{full - empty:.1f}", f"{memory:.0f}")],
    )


def _seconds_to_count(directory: Path, bootstrap: str) -> tuple[float, float]:
    start = time.perf_counter()
    with Worker("w0", directory, bootstrap, SETTINGS) as worker:
        worker.wait_counting(timeout=120)
        return time.perf_counter() - start, rss_mib(worker.pid)


def _fill_windows(bootstrap: str, number: int) -> None:
    """A changelog of subjects that sent three messages each in the last minutes."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 500_000, "linger.ms": 20, "acks": "all"}
    )
    bucket = windows.bucket_of(time.time())
    for index in range(number):
        window = windows.Window()
        for age in (50, 20, 1):
            window.count(bucket - age, 1, 2, f"mx{index % 3}", f"client_address:10.0.{index >> 8 & 255}.{index & 255}")
        subject = account(index)
        while True:
            try:
                producer.produce(
                    topics.WINDOWS, key=f"s:{subject}", value=window.encode(), partition=subjects.partition(subject)
                )
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise TimeoutError("Kafka did not take the changelog within two minutes")


if __name__ == "__main__":
    main()
