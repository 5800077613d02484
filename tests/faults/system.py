"""One test's own agents, workers, senders and truth, on a Kafka that tests share one after another.

Names of hosts, accounts and the consumer group are the test's own; the topics are everybody's, so workers go on from
what the test before has left there.
"""

import itertools
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Container, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from fleet import truth
from fleet.kafka import Kafka
from fleet.load import Asked, Sender, Smtpd, Truth, load, near, senders
from fleet.own import CHECKOUT, Agent, Own, Table, Worker, merged, toml
from fleet.process import wait_until
from fleet.reading import read_topic
from streams import changelog
from weir import decisions, subjects, topics
from weir import kafka as clients
from weir import settings as weir_settings
from weir.decisions import Decision
from weir.events import Request

PAUSE_FILE = "WEIR_TEST_PAUSE_FILE"
LAST_MOMENTS = 0.1
"""Seconds before a kill -9 in which answers may have left no trace."""
SYNC_SECONDS = 2.0
"""As LAST_MOMENTS, before a loss of power: an fsync begins each second, and may take its time."""
NOTED_LATER = 0.05
"""Seconds after the kill in which an answer from before it is noted by the load."""
USUAL = {"messages_per_minute": 0, "recipients_per_minute": 0, "messages_per_hour": 0, "recipients_per_hour": 0}
"""No thresholds: a load that is to be counted, not blocked."""
BURST = 20
"""Messages in a minute that an account may send where a test wants blocks."""
BLOCKS = {
    "detectors": {"burst": {"account": USUAL | {"messages_per_minute": BURST}, "client": USUAL}},
    "brake": {"blocks": 100_000, "share": 1},
}
COUNTS = {"detectors": {"burst": {"account": USUAL, "client": USUAL}}}


def weir(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end."""
    command = [sys.executable, "-m", "weir.cli", "--config", str(config), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)


def create_topics(kafka: Kafka, directory: Path) -> None:
    config = directory / "topics.toml"
    single = {"bootstrap_servers": kafka.bootstrap, "replication_factor": 1, "min_insync_replicas": 1}
    config.write_text(toml({"kafka": single}))
    done = weir(config, "topics", "create")
    assert done.returncode == 0, done.stderr


class System(AbstractContextManager["System"]):
    """Leaving its `with` block stops what it started."""

    def __init__(self, directory: Path, kafka: Kafka, name: str, seed: int) -> None:
        directory.mkdir(mode=0o711)
        self.directory = directory
        self.kafka = kafka
        self.name = name
        self.seed = seed
        self.agents: dict[str, Agent] = {}
        self.workers: dict[str, Worker] = {}
        self.truth = Truth(directory / "truth.jsonl")
        self.senders = senders(60, f"{name}.test", seed)
        self.config = directory / "operator.toml"
        self.config.write_text(toml({"kafka": {"bootstrap_servers": kafka.bootstrap}}))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.truth)
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    # What runs

    def start(self, settings: Table, agents: int = 2, workers: int = 1, of_agents: Table | None = None) -> None:
        """Start agents mx1… and workers w1…, and return when all of them do their work; `of_agents` are settings."""
        for number in range(1, workers + 1):
            self.add_worker(f"w{number}", settings)
        for number in range(1, agents + 1):
            self.add_agent(f"mx{number}", of_agents)
        for agent in self.agents.values():
            agent.wait_serving()
        if self.workers:
            self.wait_all_owned()

    def add_agent(self, name: str, settings: Table | None = None) -> Agent:
        host = f"{self.name}-{name}"
        env = {"WEIR_BOOT_ID_PATH": str(self.directory / name / "boot-id")}
        agent = Agent(host, self.directory / name, self.kafka.bootstrap, settings, env=env)
        self.boot_id(agent).write_text("first")
        self.agents[host] = self._stack.enter_context(agent)
        return agent

    @staticmethod
    def boot_id(agent: Agent) -> Path:
        """The file where the agent reads which run of the kernel this is."""
        return agent.directory / "boot-id"

    def add_worker(self, name: str, settings: Table) -> Worker:
        mine = {"streams": {"group": f"weir-{self.name}"}, "trusted": []}
        env = {PAUSE_FILE: str(self.directory / name / "pause")}
        worker = Worker(name, self.directory / name, self.kafka.bootstrap, merged(mine, settings), env=env)
        self.workers[name] = self._stack.enter_context(worker)
        return worker

    def wait_all_owned(self, timeout: float = 40.0) -> None:
        """Return when the workers count all partitions between them, each its share."""

        def all_owned() -> bool:
            shares = [worker.owned() for worker in self.workers.values()]
            return sum(shares) == subjects.PARTITIONS and all(shares)

        wait_until(all_owned, timeout, "all partitions to be counted", 0.1)

    def load(self, rate: float = 100.0) -> AbstractContextManager[None]:
        sockets = {host: agent.socket for host, agent in self.agents.items()}
        return load(sockets, self.truth, self.senders, self.seed, rate)

    def attacker(self, chosen: random.Random, within: Container[int] = range(subjects.PARTITIONS)) -> Sender:
        """A new account, and a client with it in one of these partitions."""
        while True:
            account = f"stolen{chosen.randrange(10**9)}@{self.name}.test"
            if subjects.partition(subjects.sasl_username(account)) in within:
                return Sender(account, near(account, chosen))

    def attack(self, sender: Sender, messages: int = BURST + 1) -> float:
        """Send messages of one recipient through all agents in turn; returns when the last one began."""
        began = 0.0
        with ExitStack() as stack:
            smtpds = [stack.enter_context(self._smtpd(agent)) for agent in self.agents.values()]
            for _, smtpd in zip(range(messages), itertools.cycle(smtpds), strict=False):
                began = time.time()
                assert smtpd.send(*sender) == "DUNNO"
        return began

    def answers(self, sender: Sender) -> list[str]:
        """What each agent answers this sender now."""
        found = []
        for agent in self.agents.values():
            with self._smtpd(agent) as smtpd:
                found.append(smtpd.try_recipient(*sender))
        return found

    def wait_refused(self, sender: Sender, timeout: float = 20.0) -> float:
        """Return when all agents refuse this sender; gives the time when the last of them first did."""
        refused_at = 0.0
        for agent in self.agents.values():
            with self._smtpd(agent) as smtpd:
                wait_until(
                    lambda s=smtpd: s.try_recipient(*sender).startswith("521"),  # type: ignore[misc]
                    timeout,
                    f"{agent.name} to refuse {sender.account}",
                    0.002,
                )
                refused_at = time.time()
        return refused_at

    def _smtpd(self, agent: Agent) -> Smtpd:
        return Smtpd(agent.host, agent.socket, self.truth)

    def operator(self, *arguments: str) -> str:
        """Run an operator's command, and return what it says."""
        done = weir(self.config, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # What comes of it

    def stop_agents(self) -> None:
        """Stop the agents in order: all they know is then on the topics."""
        for agent in self.agents.values():
            wait_until(lambda a=agent: a.metrics().get("weir_agent_spool_bytes") == 0, 60.0, f"{agent.name} to ship")  # type: ignore[misc]
        for agent in self.agents.values():
            assert agent.terminate() == 0, f"{agent.name} did not end well"

    def wait_counted(self, timeout: float = 60.0) -> None:
        """Return when all that weir.tallies holds now is counted and committed."""
        wait_counted(self.kafka.bootstrap, timeout)

    def expected_decision(self, account: str) -> str:
        """Id of the decision that follows from an account's events, by their plain sums."""
        buckets: Counter[int] = Counter()
        found = truth.read(self.kafka.bootstrap, self.agents)
        for event in found.events.values():
            if isinstance(event, Request) and event.sasl_username == account:
                buckets[int(event.time - event.clock_offset) // 5] += event.messages
        first = min(b for b in buckets if sum(buckets[b - ago] for ago in range(12)) > BURST)
        return decisions.decision_id(subjects.sasl_username(account), "burst", 5.0 * first)

    def decisions(self, account: str) -> list[Decision]:
        """All decisions about an account, as they lie on weir.decisions."""
        wanted = subjects.sasl_username(account)
        messages = read_topic(self.kafka.bootstrap, topics.DECISIONS)
        values = [message.value for message in messages if message.key == decisions.key("burst", wanted)]
        return [decisions.decoder.decode(value) for value in values if value]

    def assert_exact(
        self, kills: Mapping[str, list[float]] | None = None, power_losses: Mapping[str, list[float]] | None = None
    ) -> None:
        """Stop the agents, wait for the counts, and compare truth, spool, events, tallies and windows.

        `kills` and `power_losses` are times by host: answers shortly before may have left no trace.
        """
        self.stop_agents()
        self.wait_counted()
        asked = self.truth.read()
        found = truth.read(self.kafka.bootstrap, self.agents)
        assert found.events
        lost = truth.missing(asked, found)
        lost = _unexplained(lost, kills or {}, "kill -9", LAST_MOMENTS)
        assert _unexplained(lost, power_losses or {}, "power loss", SYNC_SECONDS) == []
        assert truth.invented(asked, found) == []
        assert truth.altered(asked, found) == []
        assert truth.miscounted(asked, found) == []
        assert found.contradictions == []
        assert truth.wrong_windows(found) == []
        for host, agent in self.agents.items():
            spooled = truth.read_spool(agent.spool)
            assert truth.unlike_spool(spooled, found) == []
            if power_losses and host in power_losses:
                found.forget_lost_ends(host, spooled)
        assert truth.holes(found) == []
        assert truth.unlike_events(found) == []


def _unexplained(lost: list[Asked], moments: Mapping[str, list[float]], what: str, seconds: float) -> list[Asked]:
    """Tell how much each of these moments took with it, and return what none of them explains."""
    for host, times in moments.items():
        for time_of in times:
            ages = [time_of - one.answered for one in lost if one.host == host]
            recent = [age for age in ages if -NOTED_LATER < age < seconds]
            oldest = f", the oldest {1000 * max(recent):.0f} ms old" if recent else ""
            print(f"{host}: {what} lost {len(recent)} answered requests{oldest}")
            lost = [one for one in lost if one.host != host or not -NOTED_LATER < time_of - one.answered < seconds]
    return lost


def arm(worker: Worker, step: str) -> None:
    """Have the worker stop itself (SIGSTOP) at this step of its next transaction."""
    armed = worker.directory / "pause"
    (worker.directory / "pause.reached").unlink(missing_ok=True)
    (worker.directory / "pause.new").write_text(step)
    (worker.directory / "pause.new").rename(armed)


def wait_stopped(worker: Worker, timeout: float = 15.0) -> None:
    """Return when the worker stands at the step that it was armed for."""
    wait_until((worker.directory / "pause.reached").exists, timeout, f"{worker.name} to reach its step")
    wait_frozen(worker)


def wait_frozen(process: Own) -> None:
    """Return when all threads of a process have stopped."""

    def all_stopped() -> bool:
        threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
        return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    wait_until(all_stopped, 5.0, f"{process.name} to stop")


def kill(process: Own) -> float:
    """kill -9; returns the time of it when the process runs again."""
    restarts = process.restarts
    now = time.time()
    process.kill()
    wait_until(lambda: process.restarts > restarts, 5.0, f"{process.name} to come again")
    return now


def wait_counted(bootstrap: str, timeout: float) -> None:
    """Return when the changelog's next offset of every partition is at the present end of weir.tallies."""
    configuration = clients.reader(weir_settings.Kafka(bootstrap_servers=bootstrap))
    consumer = Consumer(configuration | {"fetch.wait.max.ms": 10})
    try:
        numbers = range(subjects.PARTITIONS)
        ends = {n: consumer.get_watermark_offsets(TopicPartition(topics.TALLIES, n), timeout=10)[1] for n in numbers}
        counted = dict.fromkeys(numbers, 0)
        consumer.assign([TopicPartition(topics.WINDOWS, number, 0) for number in numbers])

        def all_counted() -> bool:
            for message in consumer.consume(5000, 0.02):
                if message.error() is None and message.key() == changelog.NEXT_OFFSET:
                    counted[message.partition() or 0] = changelog.decode_next(message.value() or b"").offset
            return all(counted[number] >= end for number, end in ends.items())

        wait_until(all_counted, timeout, "all tallies to be counted")
    finally:
        consumer.close()
