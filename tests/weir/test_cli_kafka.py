"""The `weir` command on a real Kafka: what it writes, what it shows, what it refuses."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, ResourceType
from typer.testing import CliRunner

from fleet.kafka import Kafka
from fleet.process import Process, wait_until
from streams.changelog import limit_key
from streams.limits import LimitWindow
from weir import cli, decisions, events, status, subjects, topics
from weir.cli import decisions as cli_decisions
from weir.decisions import Decision, Evidence
from weir.events import Heartbeat
from weir.status import WorkerStatus

pytestmark = pytest.mark.fleet

CHECKOUT = Path(__file__).resolve().parents[2]


class Ran:
    def __init__(self, *arguments: str) -> None:
        found = CliRunner().invoke(cli.app, arguments)
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        self.code, self.out, self.err = found.exit_code, found.stdout, found.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        yield broker


@pytest.fixture(scope="module")
def config(directory: Path, kafka: Kafka) -> Iterator[Path]:
    path = directory / "weir.toml"
    path.write_text(
        f'default_realm = "example.org"\n[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n'
        "replication_factor = 1\nmin_insync_replicas = 1\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEIR_CONFIG", str(path))
        patch.setenv("SUDO_USER", "noc")
        yield path


@pytest.fixture(scope="module")
def created(config: Path) -> Ran:
    return Ran("topics", "create", "--json")


@pytest.fixture
def producer(kafka: Kafka, created: Ran) -> Producer:
    return Producer({"bootstrap.servers": kafka.bootstrap})


def decided(producer: Producer, name: str, **more: object) -> Decision:
    """A decision as streams write it, of now and for an hour."""
    now = time.time()
    subject = subjects.parse(name, "example.org")
    evidence = Evidence("messages", 61, 60, 60, now, ["mx1", "mx2"], ["client_address:192.0.2.7"])
    identity = decisions.decision_id(subject, "burst", now)
    decision = Decision(1, identity, subject, "burst", "521 no", evidence, now, now + 3600)
    decision = msgspec.structs.replace(decision, **more)
    producer.produce(
        topics.DECISIONS,
        decisions.encoder.encode(decision),
        decisions.key(decision.cause, subject),
        subjects.partition(subject),
    )
    assert producer.flush(10) == 0
    return decision


def counted(producer: Producer, subject: str, count: int) -> None:
    """A limit's window as streams write it: what was counted up to now, 10 in an hour; or that it has ended."""
    window = LimitWindow(10.0, 3600.0, "rate DAILY")
    window.count(time.time() - 400, count, "mx1", time.time())
    value = window.encode() if count else None
    producer.produce(topics.WINDOWS, value, limit_key(subject), subjects.partition(subject))
    assert producer.flush(10) == 0


def set_retention(kafka: Kafka, topic: str, milliseconds: str) -> None:
    entry = ConfigEntry("retention.ms", milliseconds, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in kafka.admin.incremental_alter_configs([resource]).values():
        future.result(10)


def entries(name: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Ran("decisions", "list", name, "--json", *options).json
    return found


class TestBefore:
    """Stands first: there are no topics yet."""

    def test_list_tells_that_they_are_missing(self, config: Path) -> None:
        ran = Ran("topics", "list", "--json")
        assert ran.code == 1
        assert [one["wrong"] for one in ran.json] == [["missing"]] * len(topics.ALL)

    @pytest.mark.parametrize("arguments", [["status"], ["decisions", "list"], ["pause", "--reason", "spam"]])
    def test_what_needs_them_says_how_to_make_them(self, arguments: list[str], config: Path) -> None:
        ran = Ran(*arguments)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.endswith("weir topics create\n")

    def test_more_replicas_than_brokers_are_refused_and_nothing_is_made(self, config: Path, directory: Path) -> None:
        other = directory / "replicas.toml"
        other.write_text(config.read_text().replace("replication_factor = 1", "replication_factor = 2"))
        ran = Ran("--config", str(other), "topics", "create")
        assert (ran.code, ran.out) == (4, "")
        assert "replication factor" in ran.err.lower()
        assert not [one for one in Ran("topics", "list", "--json").json if one["found"]]


class TestTopics:
    def test_all_are_created_once(self, created: Ran) -> None:
        assert created.code == 0
        assert created.json == {"created": [topic.name for topic in topics.ALL], "changed": {}}
        again = Ran("topics", "create", "--json")
        assert (again.code, again.json) == (0, {"created": [], "changed": {}})

    def test_list_shows_them_as_they_should_be(self, created: Ran) -> None:
        ran = Ran("topics", "list", "--json")
        assert ran.code == 0
        assert {one["name"]: one["found"]["partitions"] for one in ran.json} == {
            topic.name: topic.partitions for topic in topics.ALL
        }

    def test_another_configuration_is_set_to_ours_and_told(self, kafka: Kafka, created: Ran) -> None:
        set_retention(kafka, topics.DEAD, "1000")
        wait_until(lambda: Ran("topics", "list").code == 1, 10.0, "the broker to hear of it")
        ran = Ran("topics", "create")
        assert ran.code == 0
        ours = next(topic for topic in topics.ALL if topic.name == topics.DEAD).config["retention.ms"]
        assert f"{topics.DEAD}: retention.ms 1000 → {ours}" in ran.out
        wait_until(lambda: Ran("topics", "list").code == 0, 10.0, "the broker to hear of it")

    def test_replicas_that_differ_are_refused(self, created: Ran, config: Path, directory: Path) -> None:
        other = directory / "replicas.toml"
        other.write_text(config.read_text().replace("replication_factor = 1", "replication_factor = 2"))
        ran = Ran("--config", str(other), "topics", "create")
        assert ran.code == 4
        assert "replication factor is 1, ours 2" in ran.err


class TestWords:
    def test_a_block_is_written_shown_and_released(self, created: Ran) -> None:
        ran = Ran("block", "Carol", "--for", "2h", "--reason", "stolen password", "--text", "Call us", "--json")
        assert ran.code == 0
        block = ran.json
        assert block["action"] == f"521 5.7.1 Call us [weir operator {block['id']}]"
        assert block["subject"] == "sasl_username:carol@example.org"
        assert block["who"].startswith("noc@")
        assert abs(block["until"] - block["time"] - 7200) < 2

        (entry,) = entries("carol@example.org")
        assert (entry["state"], entry["id"], entry["reason"]) == ("in force", block["id"], "stolen password")
        shown = Ran("decisions", "list", "carol").out
        assert "sasl_username:carol@example.org" in shown
        assert "stolen password" in shown

        released = Ran("release", "carol", "--reason", "new password", "--json").json
        assert [one["id"] for one in released["ended"]] == [block["id"]]
        ran = Ran("decisions", "list", "carol")
        assert (ran.code, ran.out) == (1, "")
        assert "nothing is in force on carol (2 over: --all)" in ran.err
        states = {one["word"]: one["state"] for one in entries("carol", "--all")}
        assert states == {"block": "released", "release": "released"}

    def test_an_allow_replaces_a_block_and_outlives_a_release(self, created: Ran) -> None:
        Ran("block", "192.0.2.99", "--for", "1h", "--reason", "scan")
        ran = Ran("allow", "192.0.2.99", "--for", "30m", "--reason", "customer's relay")
        assert ran.code == 0
        assert "allowed client_address:192.0.2.99 for 30m" in ran.out
        assert "instead of: block by noc@" in ran.out
        ran = Ran("release", "192.0.2.99", "--reason", "talked to them")
        assert "no block was in force" in ran.out
        assert "still allowed until" in ran.out
        (entry,) = entries("192.0.2.99")
        assert (entry["word"], entry["state"]) == ("allow", "in force")

    def test_until_is_by_the_brokers_clock(self, created: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
        behind = 7200.0
        clock = time.time
        monkeypatch.setattr(time, "time", lambda: clock() - behind)
        ran = Ran("block", "dave", "--for", "1h", "--reason", "spam", "--json")
        monkeypatch.undo()
        assert ran.code == 0
        assert "s behind the broker's" in ran.err
        (entry,) = entries("dave")
        assert abs(entry["until"] - time.time() - 3600) < 30

    def test_a_pause_lasts_until_resumed(self, created: Ran) -> None:
        assert Ran("pause", "--reason", "new mail cluster").code == 0
        assert "paused since" in Ran("status").out
        assert "all subjects" in Ran("decisions", "list").out
        ran = Ran("resume")
        assert ran.code == 0
        assert "new mail cluster" in ran.out
        assert Ran("status", "--json").json["paused"] is None
        assert Ran("resume").out == "resumed: it was not paused\n"


class TestDecisions:
    def test_a_decision_is_shown_with_its_evidence(self, producer: Producer) -> None:
        decision = decided(producer, "erin")
        shown = Ran("decisions", "list", "erin").out
        assert "61 messages in 60 s, threshold 60, on mx1 mx2, from 192.0.2.7" in shown
        (entry,) = entries("erin")
        assert (entry["kind"], entry["state"], entry["id"]) == ("decision", "in force", decision.id)
        assert entries(decision.id) == [entry]

    def test_what_has_become_of_it(self, producer: Producer) -> None:
        decided(producer, "frank", until=time.time() - 1)
        assert [one["state"] for one in entries("frank", "--all")] == ["expired"]
        assert entries("frank") == []
        decided(producer, "frank", shadow=True, why_shadow="brake")
        assert [one["state"] for one in entries("frank")] == ["shadow"]
        decision = decided(producer, "frank")
        Ran("allow", "frank", "--for", "1h", "--reason", "newsletter")
        assert {one["state"] for one in entries("frank")} == {"allowed", "in force"}
        released = Ran("release", "frank", "--reason", "checked", "--json").json
        assert [one["id"] for one in released["ended"]] == [decision.id]
        assert "released" in {one["state"] for one in entries("frank", "--all") if one["kind"] == "decision"}

    def test_a_released_decision_is_found_by_its_id(self, producer: Producer) -> None:
        decision = decided(producer, "grace")
        Ran("release", "grace", "--reason", "checked")
        assert [one["state"] for one in entries(decision.id)] == ["released"]

    def test_what_is_not_found_is_exit_code_1(self, created: Ran) -> None:
        for subject in ("nobody", "0123456789ab"):
            ran = Ran("decisions", "list", subject, "--json")
            assert (ran.code, ran.json) == (1, [])

    def test_of_very_many_the_newest_are_shown(self, producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
        decided(producer, "oldest", since=1.0)
        newest = decided(producer, "newest", since=time.time() + 60)
        monkeypatch.setattr(cli_decisions, "MOST_ROWS", 1)
        ran = Ran("decisions", "list")
        assert newest.id in ran.out
        assert "oldest" not in ran.out
        assert "--json prints all" in ran.err

    def test_limits_that_are_exhausted_are_shown_if_asked_for(self, producer: Producer) -> None:
        subject = subjects.limit("ab" * 8, "sasl_username=Igor")
        assert subjects.partition(subject) != subjects.partition(subjects.sasl_username("igor", "example.org"))
        limit = decided(producer, subject, cause="limit")
        assert limit.id not in Ran("decisions", "list", "--json").out
        for arguments in (["igor"], [subject], [limit.id], ["--all"]):
            assert limit.id in {one["id"] for one in entries(*arguments)}
        released = Ran("release", "igor", "--reason", "checked", "--json").json
        assert limit.id in {one["id"] for one in released["ended"]}

    def test_limits_of_the_fleet_that_are_over_or_near_their_maximum(self, producer: Producer) -> None:
        subject = {name: subjects.limit("cd" * 8, f"sasl_username={name}") for name in ("over", "near", "far", "was")}
        subject["allowed"] = subjects.limit("cd" * 8, "sasl_username=Laura")
        subject["released"] = subjects.limit("cd" * 8, "sasl_username=Lars")
        Ran("allow", "laura", "--for", "1h", "--reason", "known")
        for name, count in {"over": 12, "near": 9, "far": 1, "was": 9, "allowed": 9, "released": 9}.items():
            counted(producer, subject[name], count)
        Ran("release", "lars", "--reason", "checked")
        counted(producer, subject["was"], 0)
        evidence = Evidence("rate DAILY", 10, 10, 3600, time.time())
        decided(producer, subject["over"], cause="limit", evidence=evidence)
        ran = Ran("limits", "list", "--json")
        assert "this host is not shown" in ran.err
        found = {row["key"]: (row["where"], row["rule"], row["counted"], row["maximum"]) for row in ran.json}
        assert found.items() >= {
            ("sasl_username=over", ("fleet", "DAILY", 10, 10)),
            ("sasl_username=near", ("fleet", "DAILY", 9, 10)),
        }
        assert not found.keys() & {f"sasl_username={name}" for name in ("far", "was", "Laura", "Lars")}
        everything = {row["key"] for row in Ran("limits", "list", "--all", "--json").json}
        assert "sasl_username=far" in everything
        assert "sasl_username=was" not in everything

    def test_an_open_transaction_neither_shows_nor_blocks(self, kafka: Kafka, producer: Producer) -> None:
        decided(producer, "heidi")
        transaction = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "test"})
        transaction.init_transactions(10)
        transaction.begin_transaction()
        try:
            later = decided(transaction, "heidi", cause="flood")
            assert [one["cause"] for one in entries("heidi")] == ["burst"]
            transaction.commit_transaction(10)
        except BaseException:
            transaction.abort_transaction(10)
            raise
        assert [one["cause"] for one in entries("heidi")] == ["burst", later.cause]

    def test_garbage_is_left_out_and_told(self, producer: Producer) -> None:
        decided(producer, "ivan")
        for topic in (topics.DECISIONS, topics.OPERATORS, topics.STATUS):
            producer.produce(topic, b"\xff\x00", b"\xff\x00", 0)
            producer.produce(topic, b"{}", b"agent mx9", 0)
        assert producer.flush(10) == 0
        ran = Ran("decisions", "list")
        assert ran.code == 0
        assert "sasl_username:ivan@example.org" in ran.out
        assert "left out: 4 records that could not be understood" in ran.err
        assert "left out: 4 records" in Ran("status").err

    def test_watch_shows_what_comes(self, producer: Producer, directory: Path, config: Path) -> None:
        decided(producer, "judy")
        log = directory / "watch.log"
        argv = [sys.executable, "-m", "weir.cli", "decisions", "watch", "--json"]
        with Process("watch", argv, log, cwd=CHECKOUT, env={"PYTHONPATH": str(CHECKOUT)}) as watch:
            wait_until(lambda: "watching" in log.read_text(), 20.0, "weir decisions watch to be ready")
            decision = decided(producer, "mallory")
            block = Ran("block", "mallory", "--for", "1h", "--reason", "spam", "--json").json
            Ran("resume")
            wait_until(lambda: log.read_text().count("\n") >= 4, 10.0, "three records")
            watch.signal(signal.SIGINT)
            assert watch.wait(10.0) == 0
        seen = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        assert [(one["kind"], one.get("id", "")) for one in seen] == [
            ("decision", decision.id),
            ("word", block["id"]),
            ("resume", ""),
        ]
        assert [one["state"] for one in seen[:2]] == ["in force", "in force"]
        assert seen[2]["who"].startswith("noc@")


class TestStatus:
    def test_a_fleet_that_is_well_and_one_that_is_not(self, producer: Producer) -> None:
        def tell(heartbeat: Heartbeat, worker: WorkerStatus) -> None:
            producer.produce(topics.STATUS, events.encoder.encode(heartbeat), status.agent_key(heartbeat.host), 0)
            producer.produce(topics.STATUS, msgspec.json.encode(worker), status.worker_key(worker.name), 0)
            assert producer.flush(10) == 0

        now = time.time()
        heartbeat = Heartbeat(
            seq=1, time=now + 30, clock_offset=30.0, version="0.1.0", host="mx1", freshness=0.4, spool_bytes=3 * 2**20
        )
        worker = WorkerStatus(1, "0.1.0", "streams1", now, list(range(12)), 7, now)
        tell(heartbeat, worker)
        ran = Ran("status")
        assert (ran.code, ran.out.splitlines()[-1]) == (0, "all is well")
        for text in ("mx1", "0.4 s", "3 MiB", "+30.0 s", "streams1", "0-11"):
            assert text in ran.out

        tell(msgspec.structs.replace(heartbeat, freshness=20.0), msgspec.structs.replace(worker, partitions=[0, 1, 2]))
        ran = Ran("status", "--json")
        assert ran.code == 1
        assert ran.json["problems"] == [
            "agent mx1: counts alone: what the fleet knows of it is 20s old",
            "nobody counts partitions 3-11",
        ]
        assert ran.json["partitions_not_counted"] == list(range(3, 12))
        assert [one["host"] for one in ran.json["agents"]] == ["mx1"]
        assert [one["lag"] for one in ran.json["workers"]] == [7]


class TestRefusals:
    """What changes the broker stands last."""

    def test_a_denied_write_is_exit_code_4(self, kafka: Kafka, created: Ran) -> None:
        kafka.deny_writes(topics.OPERATORS)
        try:
            ran = Ran("block", "peggy", "--for", "1h", "--reason", "spam")
        finally:
            kafka.allow_writes(topics.OPERATORS)
        assert (ran.code, ran.out) == (4, "")
        assert ran.err.count("\n") == 1

    def test_a_changed_partition_count_is_refused_and_nothing_changed(self, kafka: Kafka, created: Ran) -> None:
        set_retention(kafka, topics.DEAD, "2000")
        for future in kafka.admin.create_partitions([NewPartitions(topics.TALLIES, 13)]).values():
            future.result(10)
        ran = Ran("topics", "create")
        assert (ran.code, ran.out) == (4, "")
        assert ran.err == "weir: nothing was changed: weir.tallies: partitions is 13, ours 12\n"
        states = {one["name"]: one["wrong"] for one in Ran("topics", "list", "--json").json}
        assert states[topics.TALLIES] == ["partitions is 13, ours 12"]
        assert states[topics.DEAD]
