"""The whole agent as a process, with a real Kafka."""

import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer

from agents.follower import Record
from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Agent
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import free_port, tail, wait_until
from fleet.reading import read_events, read_topic
from tests.agents.test_agent import blocked
from tests.agents.test_decisions import decision
from tests.faults.system import create_topics
from tests.fleet.conftest import directory
from weir import envelopes, operators, subjects, tallies, topics
from weir.events import Heartbeat, Request
from weir.operators import Word

__all__ = ["directory"]

pytestmark = pytest.mark.fleet

CLIENT = "192.0.2.10"
Start = Callable[..., Agent]


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture
def start(directory: Path, kafka: Kafka) -> Iterator[Start]:
    """Starts the agent of a host; all are stopped at the end."""
    started: list[Agent] = []

    def start(host: str, bootstrap: str = kafka.bootstrap, env: dict[str, str] | None = None) -> Agent:
        agent = Agent(host, directory / host, bootstrap, {"default_realm": "example.org"}, env=env)
        agent.start()
        started.append(agent)
        return agent

    yield start
    for agent in started:
        agent.terminate()


def say(kafka: Kafka, word: str, subject: str) -> None:
    action = "521 5.7.1 by hand [weir operator op1]" if word == "block" else ""
    until = time.time() + 600 if word != "release" else 0.0
    made = Word(operators.VERSION, "op1", word, subject, "me", "why", until, action)  # type: ignore[arg-type]
    produce(kafka, topics.OPERATORS, 0, operators.key(made), operators.encoder.encode(made))


def block(kafka: Kafka, subject: str) -> str:
    """A decision on its way; returns its action."""
    record: Record = blocked(0, subject)
    produce(kafka, topics.DECISIONS, subjects.partition(subject), record.key, record.value)
    return decision(subject).action


def produce(kafka: Kafka, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topic, key=key, value=value, partition=partition)
    assert producer.flush(10) == 0


def ask(agent: Agent, account: str) -> str:
    with PolicyClient(agent.socket) as client:
        return client.at_recipient(account, CLIENT, new_instance())


def requests_of(kafka: Kafka, host: str) -> list[Request]:
    """In order of seq; repeated ones once."""
    found = {identity: event for identity, event in read_events(kafka.bootstrap).items() if identity[0] == host}
    return [event for _, event in sorted(found.items()) if isinstance(event, Request)]


def test_requests_become_events_and_tallies(start: Start, kafka: Kafka) -> None:
    agent = start("plain")
    agent.wait_serving()
    for address in (agent.socket, agent.tcp):
        with PolicyClient(address) as client:
            instance = new_instance()
            assert client.at_recipient("Alice", CLIENT, instance) == "DUNNO"
            assert client.at_end_of_message("Alice", CLIENT, instance, recipients=2, size=700) == "DUNNO"
    assert agent.terminate() == 0
    first = next(event for (host, _, seq), event in read_events(kafka.bootstrap).items() if (host, seq) == ("plain", 1))
    assert isinstance(first, Heartbeat)
    assert (first.host, first.stale) == ("plain", True)
    events = requests_of(kafka, "plain")
    assert [(event.protocol_state, event.sasl_username) for event in events] == 2 * [
        ("RCPT", "alice@example.org"),
        ("END-OF-MESSAGE", "alice@example.org"),
    ]
    assert [(event.messages, event.recipients, event.bytes) for event in events] == 2 * [(1, 1, 0), (0, 1, 700)]
    sums = {"sasl_username:alice@example.org": [0, 0, 0], f"client_address:{CLIENT}": [0, 0, 0]}
    quiet = set()
    for message in read_topic(kafka.bootstrap, topics.TALLIES):
        head, counted = envelopes.decode(message.value or b"", tallies.decoder)
        for tally in counted if head.host == "plain" else []:
            assert subjects.partition(tally.subject) == message.partition
            if subjects.is_heartbeat(tally.subject):
                quiet.add(message.partition)
                continue
            for place, count in enumerate((tally.messages, tally.recipients, tally.bytes)):
                sums[tally.subject][place] += count
    assert sums == {subject: [2, 4, 1400] for subject in sums}
    assert quiet == {*range(subjects.PARTITIONS)}


def test_words_and_decisions_take_effect_and_are_lifted(start: Start, kafka: Kafka) -> None:
    agent = start("blocks")
    agent.wait_serving()
    action = block(kafka, "sasl_username:bob@example.org")
    wait_until(lambda: ask(agent, "bob@example.org") == action, 5, "the decision")
    (told,) = agent.logged("decision applied")
    assert (told["subject"], told["cause"]) == ("sasl_username:bob@example.org", "burst")
    assert 0 < told["delay_ms"] < 5000
    say(kafka, "release", "sasl_username:bob@example.org")
    wait_until(lambda: ask(agent, "bob@example.org") == "DUNNO", 5, "the release")
    say(kafka, "block", "sasl_username:carol@example.org")
    wait_until(lambda: ask(agent, "carol@example.org") == "521 5.7.1 by hand [weir operator op1]", 5, "the word")
    produce(kafka, topics.OPERATORS, 0, b"standing sasl_username:carol@example.org", b"garbage")
    wait_until(lambda: agent.metrics().get("weir_agent_records_not_understood_total") == 1, 5, "the garbage")
    assert ask(agent, "carol@example.org") == "521 5.7.1 by hand [weir operator op1]"
    produce(kafka, topics.OPERATORS, 0, b"standing sasl_username:carol@example.org", None)
    wait_until(lambda: ask(agent, "carol@example.org") == "DUNNO", 5, "the tombstone")
    metrics = agent.metrics()
    assert metrics["weir_agent_decision_delay_seconds_count"] == 1
    assert metrics["weir_agent_requests_total decision RCPT"] > 0
    assert metrics["weir_agent_requests_total operator RCPT"] > 0


def test_sigterm_under_load_loses_no_event(start: Start, kafka: Kafka) -> None:
    """Whatever was answered is in weir.events once; what was not answered may be."""
    agent = start("busy")
    agent.wait_serving()
    asked: list[set[str]] = [set() for _ in range(4)]
    answered: list[set[str]] = [set() for _ in range(4)]

    def send(number: int) -> None:
        with PolicyClient(agent.socket) as client:
            for count in range(1_000_000):
                instance = f"{number}.{count}"
                asked[number].add(instance)
                try:
                    client.at_recipient("dave@example.org", CLIENT, instance)
                except OSError:
                    return
                answered[number].add(instance)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(map(len, answered)) > 300, 20, "some load")
    assert agent.terminate() == 0
    for thread in threads:
        thread.join()
    events = requests_of(kafka, "busy")
    instances = [event.instance for event in events]
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert len({*instances}) == len(instances)
    assert set().union(*answered) <= {*instances} <= set().union(*asked)
    assert agent.exit_statuses == [0]


def test_idle_and_hostile_connections_do_not_matter(start: Start) -> None:
    agent = start("hostile")
    agent.wait_serving()
    chosen = random.Random(4)
    nasty = [
        chosen.randbytes(100_000),
        b"x" * 1_000_000,
        b"request=smtpd_access_policy\nsen",
        b"\n\n",
        b"sender=a@b\n\n",
    ]
    with more_files(), ExitStack() as stack:
        for number in range(2000):
            idle = stack.enter_context(socket.socket(socket.AF_UNIX))
            idle.connect(str(agent.socket))
            if number < 200:
                idle.settimeout(5)
                with suppress(ConnectionError):
                    idle.sendall(nasty[number % len(nasty)])
        wait_until(
            lambda: agent.metrics().get("weir_agent_protocol_errors_total") == 160, 10, "the faults to be counted"
        )
        wait_until(lambda: agent.metrics().get("weir_agent_connections") == 1840, 10, "the others to be accepted")
        with PolicyClient(agent.socket) as client:
            assert {client.at_recipient("judy@example.org", CLIENT, new_instance()) for _ in range(100)} == {"DUNNO"}
    wait_until(lambda: agent.metrics().get("weir_agent_connections") == 0, 10, "all to be gone")


@contextmanager
def more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_sighup_reads_the_settings_again(start: Start, kafka: Kafka) -> None:
    agent = start("reload")
    agent.wait_serving()
    good = agent.config.read_text()

    def reload(text: str, event: str) -> None:
        before = len(agent.logged(event))
        agent.config.write_text(text)
        agent.signal(signal.SIGHUP)
        wait_until(lambda: len(agent.logged(event)) > before, 5, f"'{event}' in the log")

    ask(agent, "erin")
    reload(good.replace("example.org", "example.net"), "settings reloaded")
    ask(agent, "erin")
    reload(good + "nonsense = 1\n", "settings not reloaded, the former ones stay")
    ask(agent, "erin")
    assert "nonsense" in str(agent.logged("settings not reloaded, the former ones stay")[0]["errors"])
    assert agent.terminate() == 0
    names = [event.sasl_username for event in requests_of(kafka, "reload")]
    assert names == ["erin@example.org", "erin@example.net", "erin@example.net"]


def test_sockets_of_systemd_refuse_nobody_over_a_restart(directory: Path, kafka: Kafka) -> None:
    """The manager's side is played here: it listens, hands over, hears of readiness and of the watchdog."""
    agent = Agent("activated", directory / "activated", kafka.bootstrap)
    path = directory / "activated" / "systemd.sock"
    notify_path = directory / "activated" / "notify"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listener.bind(str(path))
        listener.listen()
        manager.bind(str(notify_path))
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": str(notify_path), "WATCHDOG_USEC": "200000"}
        for _ in range(2):
            with PolicyClient(path, timeout=20) as client:  # it waits in the queue for whoever comes
                with socket_activated(agent, listener, environment) as child:
                    assert client.at_recipient("frank@example.org", CLIENT, new_instance()) == "DUNNO"
                    hear(manager, {b"READY=1", b"WATCHDOG=1"})
                    assert not agent.socket.exists(), "the sockets of the settings are not ours then"
                assert child.returncode == 0
                hear(manager, {b"STOPPING=1"})
    assert len(requests_of(kafka, "activated")) == 2


def hear(manager: socket.socket, awaited: set[bytes]) -> None:
    """Return when all that is awaited was heard; the socket's own time-out bounds each wait."""
    while awaited:
        awaited.discard(manager.recv(100))


class socket_activated(subprocess.Popen[bytes]):  # noqa: N801 (used as a context manager)
    """The agent's process with a listening socket as systemd gives it; stopped by SIGTERM at the end."""

    def __init__(self, agent: Agent, listener: socket.socket, env: dict[str, str]) -> None:
        launch = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3);"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
            "os.execv(sys.executable, [sys.executable, '-m', 'agents', '--config', sys.argv[2]])"
        )
        with agent.log_path.open("ab") as log:
            super().__init__(
                [sys.executable, "-c", launch, str(listener.fileno()), str(agent.config)],
                stderr=log,
                env=env,
                cwd=CHECKOUT,
                pass_fds=[listener.fileno()],
            )

    def __exit__(self, *raised: object) -> None:
        self.terminate()
        super().__exit__(None, None, None)


def test_without_kafka_it_starts_with_what_it_knew(start: Start, kafka: Kafka) -> None:
    agent = start("alone")
    agent.wait_serving()
    action = block(kafka, "sasl_username:grace@example.org")
    say(kafka, "block", "sasl_username:heidi@example.org")
    wait_until(lambda: ask(agent, "grace@example.org") == action, 5, "the decision")
    wait_until(lambda: ask(agent, "heidi@example.org") != "DUNNO", 5, "the word")
    assert agent.terminate() == 0
    agent = start("alone", bootstrap=f"127.0.0.1:{free_port()}")
    wait_until(agent.socket.is_socket, 10, "the socket")
    assert ask(agent, "grace@example.org") == action
    assert ask(agent, "heidi@example.org") == "521 5.7.1 by hand [weir operator op1]"
    assert ask(agent, "ivan@example.org") == "DUNNO"
    wait_until(lambda: len(agent.logged("ready")) == 2, 10, "readiness without Kafka")
    assert [entry["stale"] for entry in agent.logged("ready")] == [False, True]
    assert agent.metrics()["weir_agent_stale"] == 1
    assert agent.terminate(timeout=2.0) == 0, "it waited for Kafka"
    agent = start("alone")  # Kafka is there again
    agent.wait_serving()
    assert agent.terminate() == 0
    assert requests_of(kafka, "alone")[-1].sasl_username == "ivan@example.org", "what was spooled has arrived"


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ("\nnonsense = 1\n", 2, "nonsense"),
        ("", 1, "weir agent: "),
    ],
)
def test_what_prevents_its_start_is_one_clear_error(
    start: Start, directory: Path, change: str, status: int, error: str
) -> None:
    """Wrong settings; and a second agent with the same spool."""
    running = start("first")
    wait_until(running.socket.is_socket, 20, "the first agent")
    config = directory / "second.toml"
    config.write_text(running.config.read_text() + change)
    done = subprocess.run(
        [sys.executable, "-m", "agents", "--config", str(config)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == status
    assert error in done.stderr
    assert "Traceback" not in done.stderr
    assert running.running, tail(running.log_path)
