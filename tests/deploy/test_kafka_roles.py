"""Kafka as deploy/kafka sets it up: every role does its work over TLS and SCRAM, and is refused all else."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewTopic
from confluent_kafka.admin import ResourcePatternType as Pattern
from confluent_kafka.admin import ResourceType as Kind

from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Agent, Notify, Sink, Worker, toml
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import free_port, wait_until
from tests.sinks.webhook import Webhook
from weir import kafka as our_clients
from weir import settings, topics
from weir.cli.output import REFUSED

pytestmark = pytest.mark.fleet

DEPLOY = CHECKOUT / "deploy/kafka"
ROLES = ("agent", "streams", "sink", "notify", "operator", "reader")
PASSWORDS = {role: f"secret-of-{role}" for role in (*ROLES, "admin")}
ALL = {topic.name.removeprefix("weir.") for topic in topics.ALL}

WRITES = {
    "agent": {"events", "tallies", "status"},
    "streams": {"windows", "decisions", "echo", "status", "dead"},
    "sink": {"dead"},
    "notify": set(),
    "operator": {"operators"},
    "reader": set(),
}
READS = {
    "agent": {"decisions", "operators", "echo"},
    "streams": {"tallies", "windows", "decisions", "operators"},
    "sink": {"events", "decisions", "operators"},
    "notify": {"decisions"},
    "operator": {"events", "decisions", "operators", "windows", "status", "dead"},
    "reader": ALL,
}
GROUPS = {
    "streams": {"weir-streams"},
    "sink": {"weir-sink"},
    "notify": {"weir-notify"},
    "reader": {"weir-reader"},
}
REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
ANYTHING: Any = None
RULES = AclBindingFilter(Kind.ANY, ANYTHING, Pattern.ANY, ANYTHING, ANYTHING, AclOperation.ANY, AclPermissionType.ANY)


class Deployed:
    """A broker run from deploy/kafka as it stands, but for folders, addresses and a listener for our own fixtures."""

    def __init__(self, directory: Path) -> None:
        self.tls = directory / "tls"
        self.tls.mkdir(parents=True)
        subprocess.run([DEPLOY / "create-certificates", self.tls, "127.0.0.1"], check=True)
        self.bootstrap = f"127.0.0.1:{free_port()}"
        self._directory = directory
        self._plain_port = free_port()
        self.kafka = Kafka(
            directory / "kafka",
            port=self._plain_port,
            user=("admin", PASSWORDS["admin"]),
            properties=self._server_properties(),
        )
        self.admin_properties = directory / "admin.properties"
        self.admin_properties.write_text(self._placed((DEPLOY / "admin.properties").read_text()))

    def _placed(self, text: str) -> str:
        """A deployed file with this machine's folders and addresses."""
        for theirs, ours in {
            "/etc/kafka/tls": str(self.tls),
            "/var/lib/kafka/data": str(self._directory / "kafka/data"),
            "kafka.example.org:9092": self.bootstrap,
            "CLIENTS://:9092": f"CLIENTS://{self.bootstrap}",
            "kafka.example.org": "127.0.0.1",
        }.items():
            text = text.replace(theirs, ours)
        return text

    def _server_properties(self) -> str:
        text = self._placed((DEPLOY / "server.properties").read_text())
        for port in (9093, 9094):
            text = text.replace(f":{port}", f":{free_port()}")
        text = text.replace("S://:", "S://127.0.0.1:")
        ours = f",PLAINTEXT://127.0.0.1:{self._plain_port}"
        lines = [
            line + (ours if line.startswith(("listeners=", "advertised.listeners=")) else "")
            for line in text.splitlines()
        ]
        return "\n".join(lines).replace("map=CLIENTS:", "map=PLAINTEXT:PLAINTEXT,CLIENTS:") + "\n"

    def create_users_and_acls(self) -> subprocess.CompletedProcess[str]:
        """Run the deployed script with Kafka's tools from our jars."""
        tools = self._directory / "bin"
        tools.mkdir(exist_ok=True)
        for name, main_class in {
            "kafka-configs.sh": "kafka.admin.ConfigCommand",
            "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
        }.items():
            command = shlex.join(map(str, self.kafka.java(main_class)))
            (tools / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (tools / name).chmod(0o755)
        secrets = {f"WEIR_{role.upper()}_PASSWORD": PASSWORDS[role] for role in ROLES}
        return subprocess.run(
            [DEPLOY / "create-users-and-acls", self.bootstrap, self.admin_properties],
            env=os.environ | secrets | {"KAFKA_BIN": str(tools), "KAFKA_ADMIN_PASSWORD": PASSWORDS["admin"]},
            capture_output=True,
            text=True,
            check=False,
        )

    def settings(self, role: str) -> dict[str, Any]:
        """Of the command run as this role."""
        return {
            "kafka": {
                "bootstrap_servers": self.bootstrap,
                "security_protocol": "SASL_SSL",
                "sasl_username": "admin" if role == "admin" else f"weir-{role}",
                "ssl_ca_location": str(self.tls / "ca.pem"),
                "replication_factor": 1,
                "min_insync_replicas": 1,
            },
            "trusted": [],
            "detectors": {"burst": {"account": {"messages_per_minute": 2}}},
        }

    def client(self, role: str) -> our_clients.Configuration:
        """Of a plain client of librdkafka in this role."""
        configuration = our_clients.client(settings.Kafka(**self.settings(role)["kafka"]))
        return configuration | {"sasl.password": PASSWORDS[role]}

    def run(self, role: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `weir` as this role."""
        config = self._directory / f"{role}.toml"
        config.write_text(toml(self.settings(role)))
        return subprocess.run(
            [sys.executable, "-m", "weir.cli", "--config", config, *arguments],
            cwd=CHECKOUT,
            env=os.environ | secret(role),
            capture_output=True,
            text=True,
            check=False,
        )

    def weir(self, role: str, *arguments: str) -> str:
        """What `weir` says as this role, all being well."""
        done = self.run(role, *arguments)
        assert done.returncode == 0, f"weir {arguments} as {role}: {done.stdout}{done.stderr}"
        return done.stdout


def secret(role: str) -> dict[str, str]:
    return {our_clients.SASL_PASSWORD: PASSWORDS[role]}


@pytest.fixture(scope="module")
def deployed(directory: Path) -> Iterator[Deployed]:
    broker = Deployed(directory / "deployed")
    with broker.kafka:
        done = broker.create_users_and_acls()
        assert done.returncode == 0, done.stdout + done.stderr
        assert not any(password in done.stdout + done.stderr for password in PASSWORDS.values())
        broker.weir("admin", "topics", "create")
        yield broker


def test_a_burst_is_blocked_and_operators_are_heard(deployed: Deployed, directory: Path) -> None:
    worker = Worker("w1", directory / "w1", deployed.bootstrap, deployed.settings("streams"), env=secret("streams"))
    agent = Agent("mx1", directory / "mx1", deployed.bootstrap, deployed.settings("agent"), env=secret("agent"))
    sink = Sink("s1", directory / "s1", deployed.bootstrap, deployed.settings("sink"), env=secret("sink"))
    webhook = Webhook()
    urls, password = [webhook.url], secret("notify")
    notify = Notify("n1", directory / "n1", deployed.bootstrap, urls, deployed.settings("notify"), password)
    with webhook, worker, agent, sink, notify:
        notify.wait_following()
        agent.wait_serving()
        worker.wait_counting()
        with PolicyClient(agent.socket) as postfix:

            def refused(account: str) -> bool:
                return postfix.at_recipient(account, "192.0.2.1", new_instance()).startswith("521 ")

            wait_until(lambda: refused("alice@example.org"), 10, "the block")
            webhook.wait_for("alice@example.org", 10)
            found = json.loads(deployed.weir("operator", "decisions", "list", "--json"))
            assert [row["subject"] for row in found] == ["sasl_username:alice@example.org"]
            deployed.weir("operator", "release", "alice@example.org", "--reason", "password changed")
            wait_until(lambda: not refused("alice@example.org"), 10, "the release")
            deployed.weir("operator", "block", "bob@example.org", "--for", "1h", "--reason", "phishing")
            wait_until(lambda: refused("bob@example.org"), 10, "the operator's block")
        wait_until(lambda: _is_well(deployed), 20, "a fleet without problems")
        wait_until(lambda: _is_written(sink), 20, "the history")
        assert worker.restarts == agent.restarts == sink.restarts == notify.restarts == 0
        assert agent.metrics()["weir_agent_ship_errors_total"] == 0.0


def test_an_operator_says_all_words(deployed: Deployed) -> None:
    said = [
        ("allow", "news@example.org", "--for", "1h", "--reason", "newsletter"),
        ("pause", "--reason", "mail merge"),
        ("resume",),
        ("dead", "list"),
    ]
    for words in said:
        deployed.weir("operator", *words)


def test_a_dead_letter_is_seen_by_the_operator_and_replayed_by_the_administrator(
    deployed: Deployed, directory: Path
) -> None:
    with Sink("s2", directory / "s2", deployed.bootstrap, deployed.settings("sink"), env=secret("sink")):
        assert _may_write(deployed, "agent", topics.EVENTS.removeprefix("weir."))  # what nobody understands
        wait_until(lambda: _dead(deployed), 30, "the dead letter", 0.2)
    identity = _dead(deployed)[0]
    refused = deployed.run("operator", "dead", "replay", identity)
    assert refused.returncode == REFUSED, refused.stderr
    deployed.weir("admin", "dead", "replay", identity)


@pytest.mark.parametrize("role", ROLES)
def test_topics(deployed: Deployed, role: str) -> None:
    assert {topic for topic in ALL if _may_write(deployed, role, topic)} == WRITES[role]
    assert {topic for topic in ALL if _may_read(deployed, role, topic)} == READS[role]


@pytest.mark.parametrize("role", ROLES)
def test_groups_and_transactional_ids(deployed: Deployed, role: str) -> None:
    groups = ("weir-streams", "weir-sink", "weir-notify", "weir-reader", "another")
    assert {group for group in groups if _may_join(deployed, role, group)} == GROUPS.get(role, set())
    assert _may_begin(deployed, role, "weir-streams-0") == (role == "streams")
    assert not _may_begin(deployed, role, "another")


@pytest.mark.parametrize("role", ROLES)
def test_nobody_but_the_administrator_changes_the_cluster(deployed: Deployed, role: str) -> None:
    admin = AdminClient({**deployed.client(role)})
    rule = AclBinding(
        Kind.TOPIC, "weir.", Pattern.PREFIXED, f"User:weir-{role}", "*", AclOperation.ALL, AclPermissionType.ALLOW
    )
    asked = {
        "create a topic": admin.create_topics([NewTopic("weir.more", 1)])["weir.more"],
        "delete a topic": admin.delete_topics([topics.EVENTS])[topics.EVENTS],
        "add a rule": admin.create_acls([rule])[rule],
        "delete rules": admin.delete_acls([RULES])[RULES],
    }
    assert {what for what, answer in asked.items() if _granted(answer)} == set()
    assert admin.describe_acls(RULES).result(10) == []  # refused, which the client passes over


def test_the_script_may_be_run_again(deployed: Deployed) -> None:
    before = _acls(deployed)
    assert len(before) > 20
    done = deployed.create_users_and_acls()
    assert done.returncode == 0, done.stdout + done.stderr
    assert _acls(deployed) == before


def test_an_authority_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    """A second run makes more certificates of the same authority; without its key it says so, and changes nothing."""
    for host in ("kafka1.example.org", "kafka2.example.org"):
        assert _create_certificates(tmp_path, host).returncode == 0
    signed = ["openssl", "verify", "-CAfile", *map(str, [tmp_path / "ca.pem", *tmp_path.glob("kafka*.pem")])]
    assert subprocess.check_output(signed, text=True).count(": OK") == 2
    (tmp_path / "ca.key").unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused = _create_certificates(tmp_path, "kafka3.example.org")
    assert refused.returncode == 1
    assert "but not its ca.key" in refused.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_openssl_says_is_told(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_text("no key")
    done = _create_certificates(tmp_path, "kafka1.example.org")
    assert done.returncode != 0
    assert "ca.pem" in done.stderr


def _create_certificates(directory: Path, host: str) -> subprocess.CompletedProcess[str]:
    command = [str(DEPLOY / "create-certificates"), str(directory), host]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _acls(deployed: Deployed) -> set[str]:
    admin = AdminClient({**deployed.client("admin")})
    return {str(rule) for rule in admin.describe_acls(RULES).result(10)}


def _is_well(deployed: Deployed) -> bool:
    """What `weir status` says, as an operator: its exit code tells of problems."""
    told = deployed.run("operator", "status", "--json")
    return bool(json.loads(told.stdout)["problems"] == [])


def _dead(deployed: Deployed) -> list[str]:
    """The ids of dead letters, as an operator."""
    return [letter["id"] for letter in json.loads(deployed.weir("operator", "dead", "list", "--json"))]


def _is_written(sink: Sink) -> bool:
    """Whether events, decisions and operators' words have come into the history."""
    figures = sink.metrics()
    return all(figures.get(f"weir_sink_{kind}_total") for kind in ("events", "decisions", "words"))


def _permitted(error: KafkaError | None) -> bool:
    """Whether the broker permitted it; raises for an error that is no refusal."""
    if error is not None and error.code() not in REFUSALS:
        raise KafkaException(error)
    return error is None


def _granted(answer: Future[Any]) -> bool:
    try:
        answer.result(10)
    except KafkaException as refusal:
        return _permitted(refusal.args[0])
    return True


def _may_write(deployed: Deployed, role: str, topic: str) -> bool:
    answers: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        answers.append(error)

    producer = Producer({**deployed.client(role), "message.timeout.ms": 10_000})
    producer.produce(f"weir.{topic}", b"{}", b"test", 0, on_delivery=delivered)
    producer.flush(15)
    return _permitted(answers[0])


def _may_read(deployed: Deployed, role: str, topic: str) -> bool:
    group = "weir-notify" if role == "notify" else "weir-reader"  # it reads in no other group than its own
    consumer = Consumer({**deployed.client(role), "group.id": group, "enable.partition.eof": True})
    try:
        # The client does not even try to read what it may not describe.
        if not _permitted(consumer.list_topics(f"weir.{topic}", timeout=10).topics[f"weir.{topic}"].error):
            return False
        consumer.assign([TopicPartition(f"weir.{topic}", 0, OFFSET_BEGINNING)])
        message = consumer.poll(10)
        assert message is not None
        error = message.error()
        return _permitted(None if error is not None and error.code() == KafkaError._PARTITION_EOF else error)
    finally:
        consumer.close()


def _may_join(deployed: Deployed, role: str, group: str) -> bool:
    """Whether the role may keep an offset in the group, of a topic that it may read."""
    offset = TopicPartition(f"weir.{min(READS[role])}", 0, 0)
    admin = AdminClient({**deployed.client(role)})
    (answer,) = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [offset])]).values()
    try:
        (kept,) = answer.result(10).topic_partitions
    except KafkaException as refusal:
        # It would have been allowed, did not a worker hold the group.
        return refusal.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID or _permitted(refusal.args[0])
    return _permitted(kept.error)


def _may_begin(deployed: Deployed, role: str, transactional_id: str) -> bool:
    producer = Producer({**deployed.client(role), "transactional.id": transactional_id})
    try:
        producer.init_transactions(10)
    except KafkaException as refusal:
        return _permitted(refusal.args[0])
    return True
