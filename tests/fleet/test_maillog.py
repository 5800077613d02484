"""What the agent tells of Postfix's mail log, on real hosts: each event in Kafka once, and as many as the log says."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_log import Outcome, counted
from fleet.mail_sink import MailSink
from fleet.own import Agent
from fleet.process import free_port, wait_until
from fleet.reading import read_events
from tests.faults.system import create_topics
from tests.fleet.mail_host import CLIENT, FORM, PASSWORD, Host
from weir import operators, topics
from weir.events import Delivery, Event, Login, Rejected, Removed, Request, Submitted
from weir.operators import Word

pytestmark = pytest.mark.fleet

ALICE, BOB, MALLORY = "alice@weir.test", "bob@weir.test", "mallory@weir.test"
OUTCOMES = ("x@dest.test", "x@hard.test", "x@soft.test")
TELLING = {"submitted", "sent", "bounced", "deferred", "removed", "rejected"}


def told(events: list[Event]) -> Counter[Outcome]:
    """What the events say, but for logins."""
    said: Counter[Outcome] = Counter()
    for event in events:
        if isinstance(event, Submitted):
            said[Outcome(_owner(event), "submitted")] += 1
        elif isinstance(event, Delivery):
            said[Outcome(_owner(event), event.status, event.recipient.rpartition("@")[2])] += 1
        elif isinstance(event, Removed) and event.how == "removed":
            said[Outcome(_owner(event), "removed")] += 1
        elif isinstance(event, Rejected):
            said[Outcome(event.sasl_username, "rejected", "weir" if event.decision else "")] += 1
    return said


def _owner(event: Submitted | Delivery | Removed) -> str:
    return event.sasl_username or (f"uid:{event.uid}" if event.uid >= 0 else "")


def logged(host: Host) -> Counter[Outcome]:
    """What the log says of that."""
    return Counter({one: number for one, number in counted(host.maillog).items() if one.what in TELLING})


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture(scope="module")
def sinks(directory: Path) -> Iterator[dict[str, MailSink]]:
    """Mail to hard.test is refused for good, to soft.test for now."""
    with (
        MailSink("127.0.0.21", free_port("127.0.0.21"), directory / "sink") as takes,
        MailSink("127.0.0.22", free_port("127.0.0.22"), directory / "sink", ["-f", "RCPT"]) as refuses,
        MailSink("127.0.0.23", free_port("127.0.0.23"), directory / "sink", ["-r", "RCPT"]) as defers,
    ):
        yield {"": takes, "hard.test": refuses, "soft.test": defers}


@pytest.fixture(scope="module")
def dovecot(directory: Path) -> Iterator[Dovecot]:
    with Dovecot(directory / "dovecot", dict.fromkeys((ALICE, BOB, MALLORY), PASSWORD)) as one:
        yield one


@pytest.fixture(scope="module")
def hosts(directory: Path, kafka: Kafka, dovecot: Dovecot, sinks: dict[str, MailSink]) -> Iterator[list[Host]]:
    """The first one asks its agent, the other one has no line of ours in main.cf."""
    logs = {name: {"log": {"files": [str(directory / name / "maillog")]}} for name in ("mx1", "mx2")}
    with (
        Agent("mx1", directory / "agent1", kafka.bootstrap, logs["mx1"]) as first,
        Agent("mx2", directory / "agent2", kafka.bootstrap, logs["mx2"]) as second,
    ):
        for agent in (first, second):
            agent.wait_serving()
        with (
            Host("mx1", "127.0.0.41", first, dovecot, sinks, asks=True) as asks,
            Host("mx2", "127.0.0.42", second, dovecot, sinks, asks=False) as asks_not,
        ):
            yield [asks, asks_not]


def block(kafka: Kafka, subject: str) -> None:
    word = Word(
        operators.VERSION,
        "op1",
        "block",
        subject,
        "me",
        "why",
        time.time() + 600,
        "521 5.7.1 by hand [weir operator op1]",
    )
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topics.OPERATORS, key=operators.key(word), value=operators.encoder.encode(word), partition=0)
    assert producer.flush(10) == 0


def events_of(kafka: Kafka, host: Host) -> list[Event]:
    found = read_events(kafka.bootstrap)
    return [event for (name, _, _), event in sorted(found.items()) if name == host.name]


def wait_told(kafka: Kafka, host: Host) -> None:
    wait_until(lambda: host.settled, 20, "the deliveries")
    wait_until(lambda: told(events_of(kafka, host)) == logged(host), 20, f"the events of {host.name}", 0.5)


def send(host: Host, account: str, messages: int) -> None:
    with host.session(account) as session:
        for number in range(messages):
            if not session.send(account, [OUTCOMES[number % 3], f"y{number}@dest.test"]).accepted:
                return


def test_events_are_what_the_log_says_although_the_agent_is_killed(kafka: Kafka, hosts: list[Host]) -> None:
    asks, asks_not = hosts
    with asks.session(MALLORY) as session:
        assert session.send(MALLORY, [OUTCOMES[0]]).accepted
    block(kafka, f"sasl_username:{MALLORY}")
    wait_until(lambda: asks.agent.metrics().get("weir_agent_operators_words"), 20, "the word")
    send(asks, MALLORY, 1)
    asks.submit_locally(OUTCOMES[0])
    before = int(time.time())  # a log tells whole seconds
    for turn in range(4):
        send(asks, ALICE, 20)
        if turn % 2:
            asks.agent.kill()
        send(asks, BOB, 20)
        send(asks_not, BOB, 10)
        asks.agent.wait_serving()
    with asks.session(ALICE, "wrong"):
        pass
    for host in hosts:
        wait_told(kafka, host)
    events = events_of(kafka, asks)
    said = logged(asks)
    submitted_by = {one.owner: number for one, number in said.items() if one.what == "submitted"}
    assert submitted_by == {ALICE: 80, BOB: 80, MALLORY: 1, "uid:0": 1}
    assert {one.what for one in said} == TELLING
    assert said[Outcome("", "sent", "weir.test")] > 0  # notifications are nobody's
    assert [(one.owner, number) for one, number in said.items() if one.where == "weir"] == [("", 1)]
    (failed,) = [event for event in events if isinstance(event, Login) and event.failed]
    assert (failed.sasl_username, failed.client_address, failed.failed) == (ALICE, CLIENT, "credentials")
    (form,) = [event for event in events if isinstance(event, Submitted) and event.uid == 0]
    assert (form.login, form.sender, form.unasked) == ("root", FORM, False)
    asked = {event.queue_id for event in events if isinstance(event, Request) and event.queue_id}
    submitted = [event for event in events if isinstance(event, Submitted) and event.sasl_username]
    unasked = {event.queue_id for event in submitted if event.unasked}
    assert not unasked & asked
    assert len({event.queue_id for event in submitted} - asked - unasked) <= 4  # asked of at RCPT, at each kill
    assert not [event for event in submitted if event.unasked and event.submitted < before]


def test_a_host_that_does_not_ask_is_told(kafka: Kafka, hosts: list[Host]) -> None:
    _, asks_not = hosts
    send(asks_not, ALICE, 3)
    wait_told(kafka, asks_not)
    submitted = [event for event in events_of(kafka, asks_not) if isinstance(event, Submitted)]
    assert submitted
    assert all(event.unasked for event in submitted)
    assert asks_not.agent.metrics()["weir_agent_log_unasked_total"] == len(submitted)
