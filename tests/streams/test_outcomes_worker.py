"""Outcomes on a real Kafka: events of the mail log, made by hand and sent as agents do, over kill -9 and repeats."""

import itertools
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from fleet import truth
from fleet.kafka import Kafka
from fleet.own import Worker
from fleet.process import wait_until
from fleet.truth import Found
from streams.changelog import PAUSE
from tests.faults.system import arm, create_topics, kill, wait_counted, wait_stopped, weir
from weir import envelopes, events, subjects, tallies, topics
from weir.events import Delivery, Event, Login, Rejected, Submitted

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

SETTINGS = {"detectors": {"burst": {"own": {"uid:33": {"messages_per_minute": 20}}}}}
ALICE, BOB = "alice@example.org", "bob@example.org"
CLIENT = "192.0.2.10"
BOUNCES = [result.removeprefix("bounced_") for result in tallies.RESULTS if result.startswith("bounced_")]


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as running:
        create_topics(running, directory)
        yield running


@pytest.fixture(scope="module")
def worker(directory: Path, kafka: Kafka) -> Iterator[Worker]:
    env = {PAUSE: str(directory / "w1" / "pause")}
    with Worker("w1", directory / "w1", kafka.bootstrap, SETTINGS, env=env) as running:
        running.wait_counting()
        yield running


class Host:
    """A mail host whose agent ships what the mail log told, with the truth of it."""

    def __init__(self, kafka: Kafka, name: str) -> None:
        self.name = name
        self.told: dict[str, Counter[str]] = defaultdict(Counter)
        """Subject → result → how often."""
        self._head = envelopes.head(name, "e1")
        self._seqs = itertools.count(1)
        self._sent: list[tuple[str, int, bytes]] = []
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "enable.idempotence": True})

    def tell(self, *told: tuple[type[Event], dict[str, Any]], repeated: int = 0) -> None:
        """Ship events, in one envelope for each partition; then the last `repeated` envelopes again."""
        made = [kind(seq=next(self._seqs), **facts) for kind, facts in told]
        lines: dict[int, list[bytes]] = defaultdict(list)
        for tally in itertools.chain.from_iterable(map(tallies.tallies, made)):
            lines[subjects.partition(tally.subject)].append(tallies.encoder.encode(tally))
        self._sent.append((topics.EVENTS, 0, envelopes.encode(self._head, map(events.encoder.encode, made))))
        self._sent += [(topics.TALLIES, number, envelopes.encode(self._head, own)) for number, own in lines.items()]
        shipped = len(lines) + 1
        for topic, partition, value in self._sent[-shipped:] + self._sent[len(self._sent) - repeated :]:
            self._producer.produce(topic, value, partition=partition)
        assert self._producer.flush(10) == 0

    def day(self, chosen: random.Random, mails: int) -> None:
        """Mail of the last day with every outcome, bounces long after their submission, and logins."""
        for _ in range(mails):
            account, repeated = chosen.choice([ALICE, BOB]), chosen.choice([0, 0, 0, 5])
            self.tell(self._mail(chosen, account), self._login(chosen, account), repeated=repeated)

    def _mail(self, chosen: random.Random, account: str) -> tuple[type[Event], dict[str, Any]]:
        now = time.time()
        facts: dict[str, Any] = {"sasl_username": account, "client_address": CLIENT, "time": now}
        status = chosen.choice(["sent", "deferred", "bounced", "rejected", "refused by us"])
        if status in ("rejected", "refused by us"):
            if status == "rejected":
                self._tell_of(account, "rejected")
            return Rejected, facts | {"decision": "" if status == "rejected" else "0" * 12}
        bounce = chosen.choice(BOUNCES)
        self._tell_of(account, f"bounced_{bounce}" if status == "bounced" else status)
        more = {"status": status, "bounce": bounce if status == "bounced" else "", "queue_id": "4bXYZ"}
        return Delivery, facts | more | {"submitted": now - chosen.uniform(0, 24 * 3600)}

    def _login(self, chosen: random.Random, account: str) -> tuple[type[Event], dict[str, Any]]:
        failed, tries = chosen.choice(["", "credentials"]), chosen.randint(1, 3)
        self._tell_of(account, "login_failed" if failed else "login", tries)
        facts = {"sasl_username": account, "client_address": CLIENT, "time": time.time()}
        return Login, facts | {"failed": failed, "tries": tries}

    def _tell_of(self, account: str, result: str, number: int = 1) -> None:
        self.told[subjects.sasl_username(account)][result] += number
        self.told[subjects.client_address(CLIENT)][result] += number


def counted(kafka: Kafka, *hosts: Host) -> Found:
    """What the topics hold when all is counted; seen to be whole."""
    wait_counted(kafka.bootstrap, 30.0)
    found = truth.read(kafka.bootstrap, [host.name for host in hosts])
    assert found.contradictions == []
    assert truth.holes(found) == []
    assert truth.unlike_events(found) == []
    assert truth.wrong_windows(found) == []
    return found


def told_of(*hosts: Host) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for host in hosts:
        for subject, results in host.told.items():
            found[subject] += results
    return found


def test_outcomes_are_exact_over_kills_and_repeats(kafka: Kafka, worker: Worker) -> None:
    chosen = random.Random(7)
    hosts = [Host(kafka, "mx1"), Host(kafka, "mx2")]
    for step in ("after-begin", "after-produce", "after-commit"):
        for host in hosts:
            host.day(chosen, 20)
        arm(worker, step)
        for host in hosts:
            host.day(chosen, 20)
        wait_stopped(worker)
        kill(worker)
    found = counted(kafka, *hosts)
    expected = told_of(*hosts)
    assert truth.miscounted_outcomes(expected, found) == []
    assert len(expected) == 3
    wait_until(lambda: worker.owned() == subjects.PARTITIONS, 20.0, "the worker to count again")
    assert worker.metrics()["weir_streams_outcomes"] == 3
    before = worker.metrics()["weir_streams_results_total login_failed"]
    hosts[0].tell((Login, {"time": time.time(), "sasl_username": ALICE, "failed": "credentials", "tries": 5}))
    counted(kafka, *hosts)
    assert worker.metrics()["weir_streams_results_total login_failed"] == before + 5


def test_the_comparison_finds_what_is_wrong(kafka: Kafka) -> None:
    """The oracle itself: one outcome more or less, or in another bucket, is told."""
    found = truth.read(kafka.bootstrap, ["mx1", "mx2"])
    account = subjects.sasl_username(ALICE)
    record = found.outcomes[account]
    result, counts = next(iter(record.counts.items()))
    bucket, number = next(iter(counts.items()))
    counts[bucket] = number + 1
    (wrong,) = truth.wrong_windows(found)
    assert wrong.startswith(f"outcomes of {account}")
    total = sum(counts.values())
    assert truth.miscounted_outcomes({account: {result: total}}, found)
    counts[bucket], counts[bucket + 1] = number, counts.get(bucket + 1, 0) + 1
    assert truth.wrong_windows(found)
    del found.outcomes[account]
    assert truth.wrong_windows(found)


def test_a_burst_of_a_web_form_is_decided_and_operators_have_their_word(kafka: Kafka, worker: Worker) -> None:
    """Mail of a local user on two hosts; the own threshold of `uid:33` counts, and what is said of it holds."""

    def submit(number: int) -> None:
        for host in hosts:
            facts = {"uid": 33, "login": "www-data", "recipients": 1, "queue_id": "4bXYZ", "size": 700}
            host.tell(*[(Submitted, facts | {"time": time.time()})] * number)

    def listed(*options: str) -> list[dict[str, Any]]:
        done = weir(worker.config, "decisions", "list", "uid:33", "--json", *options)
        found: list[dict[str, Any]] = msgspec.json.decode(done.stdout) if done.stdout else []
        return found

    hosts = [Host(kafka, "web1"), Host(kafka, "web2")]
    submit(10)
    counted(kafka, *hosts)
    assert listed() == []
    submit(1)
    (decision,) = wait_until(listed, 10.0, "the decision", interval=0.2)
    assert (decision["subject"], decision["cause"], decision["state"]) == ("uid:33", "burst", "in force")
    assert decision["evidence"]["hosts"] == ["web1", "web2"]
    assert (decision["evidence"]["count"], decision["evidence"]["threshold"]) == (21, 20)
    shown = weir(worker.config, "decisions", "list").stdout
    assert "uid:33" in shown
    counted(kafka, *hosts)

    done = weir(worker.config, "release", "uid:33", "--reason", "form mended")
    assert done.returncode == 0, done.stderr
    assert "released uid:33" in done.stdout
    assert f"ended: burst [{decision['id']}]" in done.stdout
    assert [(one["kind"], one["state"]) for one in listed("--all")] == [("decision", "released"), ("word", "released")]

    for word in ("block", "allow"):
        done = weir(worker.config, word, "uid:33", "--for", "1h", "--reason", "ticket 1")
        assert done.returncode == 0, done.stderr
        assert [(one["word"], one["subject"]) for one in listed()] == [(word, "uid:33")]
