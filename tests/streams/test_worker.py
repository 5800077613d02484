"""Workers on a real Kafka: exact over kill -9, freeze and garbage; decisions neither lost nor sent twice."""

import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from fleet.kafka import Kafka
from fleet.own import Worker
from fleet.process import wait_until
from fleet.reading import read_topic
from streams import changelog, windows
from tests.streams import made
from weir import dead_letters, decisions, operators, settings, subjects, topics
from weir import kafka as clients
from weir.operators import Word

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

LIMIT = 30
NOTHING = {"messages_per_minute": 0, "recipients_per_minute": 0, "messages_per_hour": 0, "recipients_per_hour": 0}
SETTINGS = {
    "detectors": {"burst": {"account": NOTHING | {"messages_per_minute": LIMIT}, "client": NOTHING}},
    "brake": {"blocks": 10_000, "share": 1},
}

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as running:
        made_topics = [NewTopic(each.name, each.partitions, 1, config=each.config) for each in topics.ALL]
        for future in running.admin.create_topics(made_topics).values():
            future.result(10)
        yield running


@pytest.fixture(scope="module")
def worker(directory: Path, kafka: Kafka) -> Iterator[Worker]:
    with started(directory, kafka, "w1") as running:
        running.wait_counting()
        yield running


@contextmanager
def started(directory: Path, kafka: Kafka, name: str) -> Iterator[Worker]:
    folder = directory / name
    env = {changelog.PAUSE: str(folder / "pause")}
    with Worker(name, folder, kafka.bootstrap, SETTINGS, env=env) as running:
        yield running


class Host:
    """A mail host that sends tallies, with the truth of what it sent."""

    def __init__(self, kafka: Kafka) -> None:
        self.name = f"mx{next(numbers)}"
        self.sent: Counter[str] = Counter()
        self._seq = 0
        self._former: list[tuple[int, bytes]] = []
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "enable.idempotence": True})

    def send(self, subject: str, messages: int = 1, time: float = 0.0, repeat: bool = False) -> None:
        """Send one event; with `repeat`, all of the last envelopes again before it, as after a crash."""
        partition = subjects.partition(subject)
        self._seq += 1
        line = made.tally(self._seq, subject, time or now(), messages)
        again = self._former[-10:] if repeat else []
        self._former.append((partition, made.envelope([line], self.name)))
        for number, value in [*again, self._former[-1]]:
            self._producer.produce(topics.TALLIES, value=value, partition=number)
        self._producer.poll(0)
        self.sent[subject] += messages

    def delivered(self) -> None:
        assert self._producer.flush(10) == 0

    @contextmanager
    def sending(self, accounts: list[str], pause: float = 0.002) -> Iterator[None]:
        """Send all the time, from another thread."""
        stop = threading.Event()
        chosen = random.Random(self.name)

        def send() -> None:
            while not stop.wait(pause):
                self.send(chosen.choice(accounts), repeat=chosen.random() < 0.02)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.delivered()


def now() -> float:
    return time.time()


def accounts(number: int) -> list[str]:
    """New accounts, spread over all partitions."""
    return [f"sasl_username:user{next(numbers)}@example.org" for _ in range(number)]


def counted(kafka: Kafka, wanted: list[str]) -> Counter[str]:
    """Account → messages, as the changelog has it."""
    found: Counter[str] = Counter()
    newest = {message.key: message.value for message in read_topic(kafka.bootstrap, topics.WINDOWS)}
    for subject in wanted:
        value = newest.get(changelog.window_key(subject))
        if value is not None:
            found[subject] = sum(windows.decode(value).messages)
    return found


def wait_exact(kafka: Kafka, *hosts: Host) -> None:
    """Wait until all is counted that the hosts have sent, and see that no more is counted than that."""
    sent = sum((host.sent for host in hosts), Counter())
    try:
        wait_until(lambda: counted(kafka, list(sent)) == sent, 20, "exact counts", interval=0.2)
    except TimeoutError:
        assert counted(kafka, list(sent)) == sent
    assert counted(kafka, list(sent)) == sent


def decided(kafka: Kafka, subject: str) -> list[decisions.Decision]:
    return [
        decisions.decoder.decode(message.value or b"")
        for message in read_topic(kafka.bootstrap, topics.DECISIONS)
        if message.key == decisions.key("burst", subject)
    ]


def wait_decided(kafka: Kafka, subject: str, timeout: float = 10.0) -> list[decisions.Decision]:
    return wait_until(lambda: decided(kafka, subject), timeout, f"a decision on {subject}", interval=0.05)


def say(kafka: Kafka, word: str, subject: str, until: float = 0.0) -> None:
    spoken = Word(operators.VERSION, "id", word, subject, "nora", "why", until)  # type: ignore[arg-type]
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topics.OPERATORS, key=operators.key(spoken), value=operators.encoder.encode(spoken))
    assert producer.flush(10) == 0


def arm(worker: Worker, step: str) -> Path:
    """Have the worker stop itself at a step of its next transaction; returns the file that says it did."""
    pause = worker.directory / "pause"
    reached = worker.directory / "pause.reached"
    reached.unlink(missing_ok=True)
    pause.write_text(step)
    return reached


def test_a_burst_over_two_hosts_is_blocked_once(kafka: Kafka, worker: Worker) -> None:
    (alice,) = accounts(1)
    one, two = Host(kafka), Host(kafka)
    for _ in range(LIMIT // 2):
        one.send(alice)
        two.send(alice)
    one.delivered()
    two.delivered()
    wait_exact(kafka, one, two)
    assert decided(kafka, alice) == []
    for _ in range(5):
        two.send(alice)
    (decision,) = wait_decided(kafka, alice)
    two.delivered()
    wait_exact(kafka, one, two)
    assert decided(kafka, alice) == [decision]
    assert decision.evidence.hosts == sorted([one.name, two.name])
    assert decision.evidence.count == LIMIT + 1


def test_kill_between_the_steps_of_a_transaction(kafka: Kafka, worker: Worker) -> None:
    """Counts are exact, and what crossed a threshold just then is decided, once."""
    bystanders = accounts(30)
    host = Host(kafka)
    attacked = []
    with host.sending(bystanders):
        for step in ("after-begin", "after-produce", "after-commit"):
            (account,) = accounts(1)
            attacked.append(account)
            reached = arm(worker, step)
            burst = Host(kafka)
            burst.send(account, LIMIT + 1)
            burst.delivered()
            wait_until(reached.exists, 10, f"the worker to be {step}")
            restarts = worker.restarts
            worker.kill()
            wait_until(lambda before=restarts: worker.restarts > before, 5, "a restart")  # type: ignore[misc]
            wait_until(lambda: worker.owned() == subjects.PARTITIONS, 10, "the worker to count again")
            time.sleep(random.Random(step).uniform(0, 0.3))
    wait_exact(kafka, host)
    for account in attacked:
        assert len({decision.id for decision in wait_decided(kafka, account)}) == 1
        assert len(decided(kafka, account)) == 1


def test_a_release_holds_although_the_worker_dies_and_old_tallies_come_again(kafka: Kafka, worker: Worker) -> None:
    (alice,) = accounts(1)
    host = Host(kafka)
    host.send(alice, LIMIT + 1, now() - 20)
    host.delivered()
    (first,) = wait_decided(kafka, alice)
    say(kafka, "release", alice)
    restarts = worker.restarts
    worker.kill()
    host.send(alice, LIMIT + 1, now() - 15, repeat=True)
    host.delivered()
    wait_until(lambda: worker.restarts > restarts, 5, "a restart")
    wait_until(lambda: worker.owned() == subjects.PARTITIONS, 10, "the worker to count again")
    host.send(alice, LIMIT, now() + 6)  # in a bucket that begins after the release
    host.send(alice, 1, now() + 6)
    host.delivered()
    again = wait_until(lambda: decided(kafka, alice)[1:], 10, "a decision after the release", interval=0.05)
    assert len(again) == 1
    assert again[0].since > first.since
    assert again[0].after > first.evidence.time
    assert again[0].evidence.count == LIMIT + 1


def test_a_frozen_worker_is_replaced_and_fenced(kafka: Kafka, directory: Path, worker: Worker) -> None:
    """Frozen within a transaction: decisions of the other's partitions arrive at once, its own partitions go on after
    the session's time-out; thawed, it can write nothing any more."""
    with started(directory, kafka, "w2") as other, latencies(kafka) as latency:
        wait_until(lambda: worker.owned() + other.owned() == subjects.PARTITIONS and other.owned(), 20, "two workers")
        attacker = Host(kafka)
        latency(attacker, *accounts(1))
        theirs = set(other.logged("counting")[-1]["partitions"])
        host = Host(kafka)
        with host.sending(accounts(60), pause=0.01):
            died = len(worker.exit_statuses)
            reached = arm(worker, "after-produce")
            wait_until(reached.exists, 10, "the worker to be frozen")
            frozen_at = time.monotonic()
            try:
                attacked = [account for account in accounts(30) if subjects.partition(account) in theirs]
                delays = [latency(attacker, account) for account in attacked]
                assert sorted(delays)[len(delays) // 2] < 0.25
                wait_until(lambda: other.owned() == subjects.PARTITIONS, 20, "the other to take over")
                assert time.monotonic() - frozen_at < 12
            finally:
                worker.signal(signal.SIGCONT)
            wait_until(lambda: len(worker.exit_statuses) > died, 15, "the thawed worker to give up")
            assert worker.exit_statuses[-1] == 70
            wait_until(
                lambda: worker.owned() + other.owned() == subjects.PARTITIONS and worker.owned(),
                20,
                "two workers again",
            )
        wait_exact(kafka, host)
        assert other.terminate() == 0
    wait_until(lambda: worker.owned() == subjects.PARTITIONS, 20, "one worker again")
    wait_exact(kafka, host)


@contextmanager
def latencies(kafka: Kafka) -> Iterator[Callable[[Host, str], float]]:
    """Measures seconds from a burst sent to the decision read, as an agent reads it."""
    consumer = Consumer(clients.reader(settings.Kafka(bootstrap_servers=kafka.bootstrap)))
    consumer.assign([TopicPartition(topics.DECISIONS, number, OFFSET_END) for number in range(subjects.PARTITIONS)])

    def measure(host: Host, account: str) -> float:
        start = time.monotonic()
        host.send(account, LIMIT + 1)
        host.delivered()
        while time.monotonic() < start + 10:
            message = consumer.poll(0.1)
            if message is not None and message.key() == decisions.key("burst", account):
                return time.monotonic() - start
        raise TimeoutError(f"no decision on {account}")

    consumer.poll(2)
    yield measure
    consumer.close()


def test_garbage_goes_to_the_dead_letters_and_stops_nothing(kafka: Kafka, worker: Worker) -> None:
    (alice,) = accounts(1)
    partition = subjects.partition(alice)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    garbage = [b"", b"\xff" * 100, b'{"version":1}', made.envelope([made.tally(1, alice, now(), messages=-1)])]
    for value in garbage:
        producer.produce(topics.TALLIES, value=value, partition=partition)
        producer.produce(topics.OPERATORS, key=value[:50], value=value)
        producer.produce(topics.DECISIONS, key=value[:50], value=value, partition=partition)
        producer.produce(topics.WINDOWS, key=b"?" + value[:50], value=value, partition=partition)
    assert producer.flush(10) == 0
    restarts = worker.restarts
    host = Host(kafka)
    host.send(alice)
    host.delivered()
    wait_exact(kafka, host)
    letters = [
        msgspec.json.decode(message.value or b"", type=dead_letters.DeadLetter)
        for message in read_topic(kafka.bootstrap, topics.DEAD)
    ]
    assert [(letter.topic, letter.partition) for letter in letters] == [(topics.TALLIES, partition)] * len(garbage)
    worker.kill()
    wait_until(lambda: worker.restarts == restarts + 1, 5, "a restart")
    wait_until(lambda: worker.owned() == subjects.PARTITIONS, 10, "the worker to count again")
    host.send(alice)
    host.delivered()
    wait_exact(kafka, host)
    assert worker.restarts == restarts + 1


def test_the_worker_tells_how_far_it_is(kafka: Kafka, worker: Worker) -> None:
    host = Host(kafka)
    (alice,) = accounts(1)
    host.send(alice)
    host.delivered()
    partition = subjects.partition(alice)
    end = max(m.offset or 0 for m in read_topic(kafka.bootstrap, topics.TALLIES) if m.partition == partition) + 1

    def echoed() -> bool:
        newest = {message.key: message.value or b"" for message in read_topic(kafka.bootstrap, topics.ECHO)}
        told = msgspec.json.decode(newest[str(partition).encode()])
        return bool(told == {"version": 1, "partition": partition, "next": end, "worker": "w1"})

    wait_until(echoed, 5, "the echo", interval=0.2)
    newest = {message.key: message.value or b"" for message in read_topic(kafka.bootstrap, topics.STATUS)}
    state = msgspec.json.decode(newest[b"worker w1"])
    assert state["partitions"] == list(range(subjects.PARTITIONS))
    assert state["last_transaction"] > now() - 60


def test_it_stops_in_order_and_tells_of_tallies_deleted_meanwhile(kafka: Kafka, worker: Worker) -> None:
    host = Host(kafka)
    alice, bob = accounts(2)
    host.send(alice)
    host.delivered()
    start = time.monotonic()
    assert worker.terminate() == 0
    assert time.monotonic() - start < 5
    log = worker.log_path.read_text()
    assert '"level": "error"' not in log.rpartition("counting")[2]

    deleted = Host(kafka)
    deleted.send(bob, 7)
    deleted.send(bob, 7)
    deleted.delivered()
    partition = subjects.partition(bob)
    end = TopicPartition(topics.TALLIES, partition, OFFSET_END)
    kafka.admin.delete_records([end])[end].result(10)
    worker.start()
    worker.wait_counting()
    host.send(bob, 1)
    host.delivered()
    wait_exact(kafka, host)
    assert worker.metrics()["weir_streams_gaps_total"] == 2
    (told,) = worker.logged("tallies were deleted before they were counted")
    assert (told["partition"], told["messages"]) == (partition, 2)


def test_a_broken_changelog_stops_its_partition_only(kafka: Kafka, worker: Worker) -> None:
    """Last of all: nothing mends that partition."""
    broken, other = accounts(2)
    while subjects.partition(other) == subjects.partition(broken):
        (other,) = accounts(1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    key = changelog.window_key(broken)
    producer.produce(topics.WINDOWS, key=key, value=b"garbage", partition=subjects.partition(broken))
    assert producer.flush(10) == 0
    restarts = worker.restarts
    worker.kill()
    wait_until(lambda: worker.restarts > restarts, 5, "a restart")
    wait_until(lambda: worker.owned() == subjects.PARTITIONS - 1, 10, "the other partitions")
    assert worker.metrics()["weir_streams_partitions_stopped"] == 1
    host = Host(kafka)
    host.send(other)
    host.send(broken)
    host.delivered()
    wait_until(lambda: counted(kafka, [other])[other] == 1, 10, "another partition's count", interval=0.1)
    newest = {message.key: message.value for message in read_topic(kafka.bootstrap, topics.WINDOWS)}
    assert newest[key] == b"garbage"
    assert worker.logged("a partition stands still: its changelog is broken")
