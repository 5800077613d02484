"""What the agent tells of Postfix's mail log, on real hosts: each event in Kafka once, and as many as the log says."""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_sink import MailSink
from fleet.own import Agent
from fleet.postfix import Placement, PostfixHost
from fleet.process import free_port, wait_until
from fleet.reading import read_events
from fleet.smtp_client import Session
from tests.faults.system import create_topics
from weir import operators, topics
from weir.events import Delivery, Event, Login, Rejected, Removed, Request, Submitted
from weir.operators import Word

pytestmark = pytest.mark.fleet

CLIENT = "127.0.9.40"
ALICE, BOB, MALLORY = "alice@weir.test", "bob@weir.test", "mallory@weir.test"
PASSWORD = "pw"
FORM = "form@weir.test"
OUTCOMES = ("x@dest.test", "x@hard.test", "x@soft.test")
BOTH: tuple[Placement, ...] = ("RCPT", "END-OF-MESSAGE")

# Its own, apart from weir.maillog's.
_LINE = re.compile(r"\w{3} +\d+ [\d:]{8} \S+ \S+/([\w-]+)\[\d+\]: (?:(\w+): )?(.*)")
_USER = re.compile(r"client=.*, sasl_username=(\S+)$")
_STATUS = re.compile(r"to=<.*>, .*status=(\w+) ")


class Host(PostfixHost):
    """A host whose mail to hard.test is refused for good, to soft.test for now."""

    def __init__(
        self, name: str, address: str, agent: Agent, dovecot: Dovecot, sinks: list[MailSink], asks: bool
    ) -> None:
        super().__init__(
            name,
            address,
            agent.directory.parent / name,
            agent.policy_service,
            dovecot.sasl_path,
            sink=sinks[0].address,
            placements=BOTH if asks else (),
        )
        hops = [f"[{sink.host}]:{sink.port}" for sink in sinks]
        routes = ", ".join(
            f"{{ {domain} = smtp:{hop} }}" for domain, hop in zip(("hard.test", "soft.test"), hops[1:], strict=True)
        )
        self._main_cf += f"transport_maps = inline:{{ {routes} }}\n"
        self.directory = agent.directory.parent / name
        self.agent = agent

    def session(self, account: str, password: str = PASSWORD) -> Session:
        return Session(self.address, self.port, CLIENT, account, password)

    def submit_locally(self) -> None:
        command = ["sendmail", "-C", str(self.directory), "-f", FORM, OUTCOMES[0]]
        subprocess.run(command, input=b"Subject: form\n\ntext\n", check=True, timeout=20)

    @property
    def settled(self) -> bool:
        """Every message is delivered, or was deferred once."""
        text = self.maillog.read_text()
        return all(
            f"{queue_id}: removed" in text or f"{queue_id}: to=" in text for _, queue_id in self.accepted_queue_ids()
        )


class Said(NamedTuple):
    """What a host's log says, counted by who is behind it: an account, a local user, or nobody ("")."""

    accepted: Counter[str]
    delivered: Counter[tuple[str, str]]
    removed: Counter[str]
    refused_by_us: int


def counted(log: Path) -> Said:
    said = Said(Counter(), Counter(), Counter(), 0)
    owner: dict[str, str] = {}
    active: set[str] = set()
    refused = 0
    for row in log.read_text().splitlines():
        found = _LINE.fullmatch(row)
        assert found, row
        daemon, queue_id, text = found.groups("")
        if user := _USER.match(text):
            owner[queue_id] = user[1]
        elif daemon == "pickup":
            owner[queue_id] = text.split()[0].replace("=", ":")
        elif daemon == "qmgr" and text.endswith("(queue active)") and queue_id not in active:
            active.add(queue_id)
            if queue_id in owner:
                said.accepted[owner[queue_id]] += 1
        elif daemon == "qmgr" and text == "removed":
            said.removed[owner.get(queue_id, "")] += 1
        elif status := _STATUS.match(text):
            said.delivered[owner.get(queue_id, ""), status[1]] += 1
        elif text.startswith("reject: ") and "[weir operator " in text:
            refused += 1
    return said._replace(refused_by_us=refused)


def told(events: list[Event]) -> Said:
    said = Said(Counter(), Counter(), Counter(), 0)
    refused = 0
    for event in events:
        if isinstance(event, Submitted):
            said.accepted[_owner(event)] += 1
        elif isinstance(event, Delivery):
            said.delivered[_owner(event), event.status] += 1
        elif isinstance(event, Removed) and event.how == "removed":
            said.removed[_owner(event)] += 1
        elif isinstance(event, Rejected):
            refused += bool(event.decision)
    return said._replace(refused_by_us=refused)


def _owner(event: Submitted | Delivery | Removed) -> str:
    return event.sasl_username or (f"uid:{event.uid}" if event.uid >= 0 else "")


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture(scope="module")
def sinks(directory: Path) -> Iterator[list[MailSink]]:
    with (
        MailSink("127.0.0.21", free_port("127.0.0.21"), directory / "sink") as takes,
        MailSink("127.0.0.22", free_port("127.0.0.22"), directory / "sink", ["-f", "RCPT"]) as refuses,
        MailSink("127.0.0.23", free_port("127.0.0.23"), directory / "sink", ["-r", "RCPT"]) as defers,
    ):
        yield [takes, refuses, defers]


@pytest.fixture(scope="module")
def dovecot(directory: Path) -> Iterator[Dovecot]:
    with Dovecot(directory / "dovecot", dict.fromkeys((ALICE, BOB, MALLORY), PASSWORD)) as one:
        yield one


@pytest.fixture(scope="module")
def hosts(directory: Path, kafka: Kafka, dovecot: Dovecot, sinks: list[MailSink]) -> Iterator[list[Host]]:
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
    wait_until(lambda: told(events_of(kafka, host)) == counted(host.maillog), 20, f"the events of {host.name}", 0.5)


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
    asks.submit_locally()
    before = time.time()
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
    said = counted(asks.maillog)
    assert said.accepted == {ALICE: 80, BOB: 80, MALLORY: 1, "uid:0": 1}
    assert {status for _, status in said.delivered} == {"sent", "deferred", "bounced"}
    assert said.delivered["", "sent"] > 0  # notifications are nobody's
    assert said.refused_by_us == 1
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
