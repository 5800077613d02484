"""From the spool to a real Kafka: exact, in order and without a hole, whatever breaks on the way."""

import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import NewTopic

from agents import segments
from agents.segment import Head
from agents.shipper import Shipper
from agents.spool import Spool
from fleet.kafka import Kafka
from fleet.process import run_directory, wait_until
from fleet.reading import read_topic
from weir import envelopes, events, settings, status, subjects, tallies, topics
from weir.events import Event, Heartbeat, Request

pytestmark = pytest.mark.fleet

Identity = tuple[str, int]
"""Epoch and seq."""


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with run_directory() as directory, Kafka(directory / "kafka") as kafka:
        wanted = [t for t in topics.ALL if t.name in (topics.EVENTS, topics.TALLIES, topics.STATUS)]
        for made in kafka.admin.create_topics([NewTopic(t.name, t.partitions, 1) for t in wanted]).values():
            made.result(10.0)
        yield kafka


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("first boot\n")
    monkeypatch.setenv(segments.BOOT_ID_PATH, str(boot_id))
    return tmp_path / "spool"


class Agent:
    """A spool and its shipper; `delivered` is what was reported, newest last."""

    def __init__(self, kafka: Kafka, directory: Path, host: str) -> None:
        self.spool = Spool(directory, host, 2**30)
        self.delivered: list[tuple[int, int, float]] = []
        self.shipper = Shipper(
            self.spool, settings.Kafka(bootstrap_servers=kafka.bootstrap), lambda *report: self.delivered.append(report)
        )
        self.spool.open()
        self.shipper.start()

    def stop(self, timeout: float = 15.0) -> None:
        self.shipper.stop(timeout)
        self.spool.close()

    @contextmanager
    def load(self, rate: float) -> Iterator[None]:
        """Events all the while, so many a second."""
        stop = threading.Event()

        def append() -> None:
            number = 0
            while not stop.wait(1 / rate):
                number += 1
                self.spool.append(request(number))

        thread = threading.Thread(target=append)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def request(number: int) -> Request:
    return Request(
        seq=0,
        time=time.time(),
        protocol_state="RCPT",
        sasl_username=f"user{number % 17}@example.org",
        client_address=f"192.0.2.{number % 13}",
        recipient=f"r{number}@example.net",
        recipients=1,
        attempted_recipients=1,
    )


def spooled(directory: Path) -> dict[Identity, bytes]:
    """What the spool's files hold, in order."""
    found: dict[Identity, bytes] = {}
    for path in sorted(directory.glob("*.jsonl")):
        head, *lines = path.read_bytes().splitlines()
        epoch = msgspec.json.decode(head, type=Head).epoch
        for line in lines:
            with suppress(msgspec.DecodeError):
                found[epoch, events.decoder.decode(line).seq] = line
    return found


def shipped(kafka: Kafka, topic: str, host: str) -> dict[int, list[tuple[Identity, list[bytes]]]]:
    """For each partition the events that it has of this host, in the order of the log: their records, as they are."""
    found: dict[int, list[tuple[Identity, list[bytes]]]] = defaultdict(list)
    for message in read_topic(kafka.bootstrap, topic):
        head, lines = envelopes.decode(message.value or b"", msgspec.json.Decoder(msgspec.Raw))
        if head.host == host:
            by_seq: dict[int, list[bytes]] = defaultdict(list)
            for line in lines:
                by_seq[msgspec.json.decode(line, type=dict)["seq"]].append(bytes(line))
            found[message.partition or 0] += [((head.epoch, seq), records) for seq, records in by_seq.items()]
    return found


def expected(directory: Path) -> tuple[dict[Identity, list[bytes]], dict[int, dict[Identity, list[bytes]]]]:
    """The same from the spool's files: for weir.events, and for each partition of weir.tallies."""
    counted: dict[int, dict[Identity, list[bytes]]] = defaultdict(lambda: defaultdict(list))
    lines = spooled(directory)
    for identity, line in lines.items():
        for tally in tallies.tallies(events.decoder.decode(line)):
            counted[subjects.partition(tally.subject)][identity].append(tallies.encoder.encode(tally))
    return {identity: [line] for identity, line in lines.items()}, counted


def assert_whole(got: list[tuple[Identity, list[bytes]]], wanted: dict[Identity, list[bytes]]) -> int:
    """Assert that a partition holds what it should, in order, with at most repeated tails; return how much is repeated.

    Of each epoch an event comes at most one further than the furthest before it.
    """
    order: dict[str, list[int]] = defaultdict(list)
    for epoch, seq in wanted:
        order[epoch].append(seq)
    reached: dict[str, int] = defaultdict(int)
    for (epoch, seq), records in got:
        assert records == wanted[epoch, seq]
        place = order[epoch].index(seq)
        assert place <= reached[epoch], f"a hole before seq {seq} of epoch {epoch}"
        reached[epoch] = max(reached[epoch], place + 1)
    assert reached == {epoch: len(seqs) for epoch, seqs in order.items()}
    return len(got) - len(wanted)


def assert_exact(kafka: Kafka, directory: Path, host: str) -> int:
    """Compare all of a host with its spool; return how many events came more than once."""
    lines, counted = expected(directory)
    assert lines
    got = shipped(kafka, topics.EVENTS, host)
    assert set(got) == {subjects.partition(host)}
    repeated = assert_whole(got[subjects.partition(host)], lines)
    got = shipped(kafka, topics.TALLIES, host)
    assert set(got) == set(counted)
    for partition in got:
        assert_whole(got[partition], counted[partition])
    return repeated


def test_events_arrive_as_they_are_and_once(kafka: Kafka, directory: Path) -> None:
    agent = Agent(kafka, directory, "plain")
    beat = Heartbeat(seq=0, time=time.time(), version="1", host="plain", quiet_partitions=list(range(12)))
    for number in range(2000):
        agent.spool.append(request(number))
    agent.spool.append(beat)
    wait_until(lambda: agent.spool.unacknowledged_bytes == 0, 10.0, "the acknowledgement of all")
    assert (agent.shipper.shipped, agent.shipper.errors, agent.shipper.in_flight) == (2001, 0, 0)
    agent.stop()
    assert assert_exact(kafka, directory, "plain") == 0
    newest = {m.key: m.value for m in read_topic(kafka.bootstrap, topics.STATUS)}
    assert newest[status.agent_key("plain")] == events.encoder.encode(beat)


def test_reports_name_the_last_offset_of_each_partition(kafka: Kafka, directory: Path) -> None:
    agent = Agent(kafka, directory, "reports")
    beat = Heartbeat(seq=0, time=1234.5, version="1", host="reports", quiet_partitions=list(range(12)))
    agent.spool.append(beat)
    wait_until(lambda: len(agent.delivered) == 12, 10.0, "twelve reports")
    agent.stop()
    last = {m.partition: m.offset for m in read_topic(kafka.bootstrap, topics.TALLIES)}
    assert sorted(agent.delivered) == [(partition, last[partition], 1234.5) for partition in range(12)]


def test_without_kafka_memory_is_bounded_and_the_backlog_follows_in_order(
    kafka: Kafka, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.shipper.IN_FLIGHT_ENVELOPES", 50)
    agent = Agent(kafka, directory, "away")
    with agent.load(500):
        wait_until(lambda: agent.shipper.shipped > 300, 10.0, "the first events")
        kafka.stop()
        wait_until(lambda: agent.shipper.in_flight >= 50, 20.0, "the bound of what is in flight")
        appended = len(spooled(directory))
        wait_until(lambda: len(spooled(directory)) > appended + 500, 20.0, "a backlog")
        assert agent.shipper.in_flight < 50 + 14
    begun = time.monotonic()
    agent.stop(0.5)
    assert time.monotonic() - begun < 3.0
    assert agent.spool.unacknowledged_bytes > 0
    agent = Agent(kafka, directory, "away")
    agent.spool.append(request(0))
    kafka.start()
    wait_until(lambda: agent.spool.unacknowledged_bytes == 0, 5.0, "the backlog in Kafka")
    agent.stop()
    assert_exact(kafka, directory, "away")


def failed_since(agent: Agent, errors: int) -> bool:
    return agent.shipper.errors > errors


def test_withdrawn_permission_costs_no_event(kafka: Kafka, directory: Path) -> None:
    agent = Agent(kafka, directory, "denied")
    with agent.load(500):
        wait_until(lambda: agent.shipper.shipped > 100, 10.0, "the first events")
        for topic in (topics.TALLIES, topics.EVENTS):
            errors = agent.shipper.errors
            kafka.deny_writes(topic)
            wait_until(partial(failed_since, agent, errors), 10.0, "a failure")
            kafka.allow_writes(topic)
        shipped_before = agent.shipper.shipped
        wait_until(lambda: agent.shipper.shipped > shipped_before + 500, 15.0, "shipping that goes on")
    agent.stop()
    assert agent.spool.unacknowledged_bytes == 0
    assert_exact(kafka, directory, "denied")


CHILD = """
import itertools, sys, time
from pathlib import Path
from fleet.kafka import Kafka
from tests.agents.test_shipper import Agent, request

class Broker:
    bootstrap = sys.argv[1]

agent = Agent(Broker, Path(sys.argv[2]), sys.argv[3])
for number in itertools.count():
    agent.spool.append(request(number))
    print(number, flush=True)
    time.sleep(0.001)
"""


def kill_at_random(kafka: Kafka, directory: Path, host: str, times: int, seed: int) -> None:
    """An agent's spool and shipper in a process of their own, killed after some events, again and again."""
    chance = random.Random(seed)
    for _ in range(times):
        arguments = [sys.executable, "-c", CHILD, kafka.bootstrap, str(directory), host]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(1, 1000)):
                assert child.stdout.readline()
            child.kill()


def test_killed_at_any_moment_it_goes_on_in_the_same_epoch(kafka: Kafka, directory: Path) -> None:
    kill_at_random(kafka, directory, "killed", 5, seed=4)
    agent = Agent(kafka, directory, "killed")
    agent.stop()
    assert agent.spool.unacknowledged_bytes == 0
    assert len({epoch for epoch, _ in spooled(directory)}) == 1
    assert assert_exact(kafka, directory, "killed") > 0


def test_after_a_power_loss_each_epoch_is_exact_by_itself(kafka: Kafka, directory: Path) -> None:
    agent = Agent(kafka, directory, "power")
    for number in range(100):
        agent.spool.append(request(number))
    wait_until(lambda: agent.shipper.shipped == 100, 10.0, "the events in Kafka")
    agent.stop()
    (path,) = directory.glob("*.jsonl")
    (directory / "clean.json").unlink()
    (directory / "position.json").unlink()
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:61]))  # the rest was not synced, but had left
    (directory.parent / "boot_id").write_text("second boot\n")
    agent = Agent(kafka, directory, "power")
    for number in range(50):
        agent.spool.append(request(number))
    agent.stop()
    assert agent.spool.unacknowledged_bytes == 0
    path.write_bytes(whole)  # what the comparison goes by
    assert [epoch for epoch, _ in spooled(directory)].count(agent.spool.epoch) == 50
    assert assert_exact(kafka, directory, "power") == 60


def test_damaged_lines_are_counted_and_the_rest_goes_on(kafka: Kafka, directory: Path) -> None:
    spool = Spool(directory, "damaged", 2**30)
    spool.open()
    for number in range(10):
        spool.append(request(number))
    spool.close()
    (path,) = directory.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\0" * (len(lines[3]) - 1) + b"\n"
    lines[5] = lines[4]
    path.write_bytes(b"".join(lines))
    (directory / "clean.json").unlink()
    agent = Agent(kafka, directory, "damaged")
    agent.stop()
    assert agent.spool.unacknowledged_bytes == 0
    assert agent.spool.dropped == 2
    assert assert_exact(kafka, directory, "damaged") == 0


def test_every_kind_of_event_is_shipped(kafka: Kafka, directory: Path) -> None:
    agent = Agent(kafka, directory, "kinds")
    kinds: list[Event] = [request(1), Heartbeat(seq=0, time=1.0, version="1", host="kinds")]
    for event in kinds:
        agent.spool.append(event)
    agent.stop()
    got = shipped(kafka, topics.EVENTS, "kinds")[subjects.partition("kinds")]
    assert [events.decoder.decode(records[0]) for _, records in got] == kinds
