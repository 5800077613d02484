"""The `weir` command without Kafka: usage, settings, exit codes, and what is judged from records."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import weir
from weir import cli, events, settings_file, status, topics
from weir.cli import broker, durations, output
from weir.cli import status as fleet_status
from weir.cli import topics as cli_topics
from weir.cli.broker import Message
from weir.events import Heartbeat
from weir.settings import Settings
from weir.status import WorkerStatus

NOW = 1_800_000_000.0


class Ran:
    def __init__(self, *arguments: str) -> None:
        found = CliRunner().invoke(cli.app, arguments)
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        self.code, self.out, self.err = found.exit_code, found.stdout, found.stderr


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(settings_file.ENVIRONMENT, raising=False)
    monkeypatch.setattr(settings_file, "DEFAULT", tmp_path / "none.toml")


class TestUsage:
    def test_version(self) -> None:
        ran = Ran("--version")
        assert (ran.code, ran.out) == (0, f"weir {weir.__version__}\n")

    def test_help_has_all_commands_and_exit_codes(self) -> None:
        out = Ran("--help").out
        for name in (
            "agent",
            "streams",
            "topics",
            "block",
            "release",
            "allow",
            "decisions",
            "status",
            "pause",
            "resume",
        ):
            assert f" {name} " in out
        for code in ("0  done", "1  not found", "2  wrong usage", "3  Kafka", "4  refused"):
            assert code in out

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["blok"], "did you mean 'block'"),
            (["block", "alice", "--reason", "spam"], "missing option '--for'"),
            (["block", "alice", "--for", "1h"], "missing option '--reason'"),
            (["block", "alice", "--for", "soon", "--reason", "spam"], "expected a duration such as 90s"),
            (["block", "alice", "--for", "1h", "--reason", " "], "expected a few words"),
            (["block", "", "--for", "1h", "--reason", "spam"], "expected a subject"),
            (["block", "client_address:x", "--for", "1h", "--reason", "spam"], "expected an ipv4 or ipv6 address"),
            (["block", "alice", "--for", "1h", "--reason", "spam", "--text", "ä"], "printable ascii"),
            (["release", "alice"], "missing option '--reason'"),
            (["block", "uid:www-data", "--for", "1h", "--reason", "spam"], "expected a number after 'uid:'"),
            (["forget", "uid:33", "--yes"], "a local user is no person"),
            (["status", "--colour"], "no such option: --colour"),
        ],
    )
    def test_wrong_usage_is_one_line_and_exit_code_2(self, arguments: list[str], told: str) -> None:
        ran = Ran(*arguments)
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("weir: ")
        assert told in ran.err.lower()
        assert ran.err.count("\n") == 1

    def test_broken_settings_are_told_and_exit_code_2(self, tmp_path: Path) -> None:
        path = tmp_path / "weir.toml"
        path.write_text("[agent]\nspol = 1\n[brake]\nshare = 2\n")
        ran = Ran("--config", str(path), "status")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.splitlines() == [
            f"weir: {path}: line 2: unknown key agent.spol: did you mean agent.spool?",
            f"weir: {path}: line 4: brake.share: expected a number from 0 to 1, got 2",
        ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["topics", "create"],
        ["topics", "list"],
        ["decisions", "list"],
        ["decisions", "watch"],
        ["block", "alice", "--for", "1h", "--reason", "spam"],
        ["release", "alice", "--reason", "spam"],
        ["pause", "--reason", "spam"],
    ],
)
def test_kafka_away_is_one_line_and_exit_code_3(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "PATIENCE", 0.2)
    monkeypatch.setattr(cli_topics, "PATIENCE", 0.2)
    path = tmp_path / "weir.toml"
    path.write_text('[kafka]\nbootstrap_servers = "127.0.0.1:1"\n')
    ran = Ran("--config", str(path), *arguments)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("weir: Kafka at 127.0.0.1:1 gave no answer within 0.2 s")
    assert ran.err.count("\n") == 1


def test_what_librdkafka_refuses_is_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "weir.toml"
    path.write_text('[kafka]\nsecurity_protocol = "SSL"\nssl_ca_location = "/nonexistent"\n')
    ran = Ran("--config", str(path), "status")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("weir: settings of Kafka's client: ")


class TestConfig:
    def test_reference_is_a_file_that_checks(self, tmp_path: Path) -> None:
        path = tmp_path / "weir.toml"
        path.write_text(Ran("config", "reference").out)
        ran = Ran("config", "check", str(path))
        assert (ran.code, ran.out) == (0, f"{path}: all is right\n")
        assert settings_file.load(path) == Settings()

    def test_check_tells_all_errors(self, tmp_path: Path) -> None:
        path = tmp_path / "weir.toml"
        path.write_text("a = 1\nb = 2\n")
        ran = Ran("--config", str(path), "config", "check")
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 2)
        ran = Ran("config", "check", "--json", str(path))
        assert ran.code == 2
        assert json.loads(ran.out) == {"file": str(path), "errors": [*map(str, _errors(path))]}

    def test_check_without_a_file(self) -> None:
        ran = Ran("config", "check")
        assert (ran.code, ran.out) == (0, "there is no file: the defaults are in use\n")


def _errors(path: Path) -> list[str]:
    with pytest.raises(settings_file.SettingsError) as raised:
        settings_file.load(path)
    return raised.value.errors


class TestProcesses:
    def test_processes_of_a_mail_host_take_this_ones_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ran: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(os, "execv", lambda path, arguments: ran.append((path, arguments)))
        assert Ran("--config", "/etc/weir.toml", "agent").code == 0
        assert Ran("agent").code == 0
        assert Ran("queue-helper").code == 0
        python = sys.executable
        assert ran == [
            (python, [python, "-m", "agents", "--config", "/etc/weir.toml"]),
            (python, [python, "-m", "agents"]),
            (python, [python, "-m", "agents.queue"]),
        ]

    def test_streams_run_with_the_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        app = ModuleType("streams.app")
        names: list[str] = []
        app.run = lambda loaded: names.append(loaded.streams.name)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "streams.app", app)
        path = tmp_path / "weir.toml"
        path.write_text('[streams]\nname = "one"\n')
        assert Ran("--config", str(path), "streams").code == 0
        assert names == ["one"]

    def test_streams_without_faust_say_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("faust", "streams")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "faust", None)
        ran = Ran("streams")
        assert (ran.code, ran.err) == (1, "weir: faust is not installed: install Weir with its extra 'streams'\n")


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [("1s", 1), ("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800), ("366d", 31622400)],
    )
    def test_read(self, text: str, expected: int) -> None:
        assert durations.seconds(text) == expected

    @pytest.mark.parametrize(
        "text", ["", "1", "h", "0s", "-1h", "1.5h", "1w", "367d", "1h30m", "١h", "9999999999s", "1 h"]
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="expected a duration"):
            durations.seconds(text)

    @given(st.integers(1, durations.LONGEST))
    def test_shown_is_read_as_the_same(self, seconds: int) -> None:
        assert durations.seconds(durations.shown(seconds)) == seconds

    @given(st.text())
    def test_any_text_is_a_duration_or_a_value_error(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            assert 1 <= durations.seconds(text) <= durations.LONGEST


class TestOutput:
    @given(st.text())
    def test_plain_text_steers_no_terminal(self, text: str) -> None:
        assert output.plain(text).isprintable()

    def test_plain_text_keeps_letters(self) -> None:
        assert output.plain("Zoë \x1b]0;x\x07 \u202eb") == "Zoë \\x1b]0;x\\x07 \\u202eb"

    def test_times_of_today_have_no_date(self) -> None:
        now = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
        assert output.at(now + 3600, now) == "13:00:00"
        assert output.at(now + 86400, now) == "2026-11-25 12:00"
        assert output.at(1e300, now) == "1e+300"


def agent(**more: object) -> Heartbeat:
    heartbeat = Heartbeat(seq=1, time=NOW - 1, version="0.1.0", host="mx1", freshness=0.2)
    return msgspec.structs.replace(heartbeat, **more)


def worker(**more: object) -> WorkerStatus:
    one = WorkerStatus(1, "0.1.0", "one", NOW - 1, list(range(12)), last_transaction=NOW - 1)
    return msgspec.structs.replace(one, **more)


class TestStatus:
    @pytest.mark.parametrize(
        ("heartbeat", "expected"),
        [
            (agent(), []),
            (agent(time=NOW - 15), []),
            (agent(time=NOW - 16), ["not heard for 16s"]),
            (agent(time=NOW - 7200, stale=True, dropped=1), ["not heard for 2h"]),
            (agent(time=NOW + 29, clock_offset=30.0), []),
            (agent(freshness=10.0), []),
            (agent(freshness=11.0), ["counts alone: what the fleet knows of it is 11s old"]),
            (agent(freshness=-1.0), ["counts alone: nothing was ever heard from streams"]),
            (agent(stale=True), ["decisions and operators' words are not read to their end"]),
            (agent(dropped=2), ["2 events dropped since its start"]),
            (agent(unasked=1), ["1 message with a login was never asked about: is Weir in main.cf?"]),
            (agent(unasked=12), ["12 messages with a login were never asked about: is Weir in main.cf?"]),
            (agent(time=NOW - 62, clock_offset=-61.0), ["its clock is -61.0 s off"]),
        ],
    )
    def test_what_is_wrong_with_an_agent(self, heartbeat: Heartbeat, expected: list[str]) -> None:
        assert fleet_status.agent_problems(heartbeat, NOW) == expected

    @pytest.mark.parametrize(
        ("one", "expected"),
        [
            (worker(), []),
            (worker(time=NOW - 16, brake=True), ["not heard for 16s"]),
            (worker(brake=True), ["the brake is on: what detectors decide is a shadow"]),
        ],
    )
    def test_what_is_wrong_with_a_worker(self, one: WorkerStatus, expected: list[str]) -> None:
        assert fleet_status.worker_problems(one, NOW) == expected

    def test_partitions_of_workers_that_are_not_heard_have_no_owner(self) -> None:
        fleet = fleet_status.Fleet()
        for one in (worker(partitions=[0, 1, 2, 3, 4, 5, 7]), worker(name="two", time=NOW - 60)):
            fleet.apply(Message(topics.STATUS, status.worker_key(one.name), msgspec.json.encode(one), NOW))
        assert fleet.unowned(NOW) == [6, 8, 9, 10, 11]
        assert "nobody counts partitions 6, 8-11" in fleet.problems(NOW)

    def test_all_is_well(self) -> None:
        fleet = fleet_status.Fleet()
        fleet.apply(Message(topics.STATUS, status.agent_key("mx1"), events.encoder.encode(agent()), NOW))
        fleet.apply(Message(topics.STATUS, status.worker_key("one"), msgspec.json.encode(worker()), NOW))
        assert fleet.problems(NOW) == []

    def test_hosts_that_run_different_rules_are_told_while_they_are_heard(self) -> None:
        fleet = fleet_status.Fleet()
        fleet.apply(Message(topics.STATUS, status.worker_key("one"), msgspec.json.encode(worker()), NOW))
        for host, rules, ago in (
            ("mx1", "aa", 1),
            ("mx2", "aa", 1),
            ("mx3", "bb", 1),
            ("mx4", "", 1),
            ("mx5", "cc", 60),
        ):
            one = agent(host=host, rules=rules, time=NOW - ago)
            fleet.apply(Message(topics.STATUS, status.agent_key(host), events.encoder.encode(one), NOW))
        expected = "hosts run different rules: aa on mx1, mx2; bb on mx3; none on mx4"
        assert fleet.problems(NOW) == ["agent mx5: not heard for 1m", expected]

    @given(
        st.binary(max_size=30) | st.sampled_from([b"agent mx1", b"worker one", b"agent mx2", b"agent"]),
        st.binary(max_size=30)
        | st.sampled_from([b"{}", msgspec.json.encode(worker(name="two")), b'{"kind":"request"}']),
    )
    def test_garbage_changes_nothing(self, key: bytes, value: bytes) -> None:
        fleet = fleet_status.Fleet()
        fleet.apply(Message(topics.STATUS, status.agent_key("mx1"), events.encoder.encode(agent()), NOW))
        fleet.apply(Message(topics.STATUS, key, value, NOW))
        assert (fleet.agents, fleet.workers, fleet.not_understood) == ({"mx1": agent()}, {}, 1)

    def test_a_tombstone_forgets(self) -> None:
        fleet = fleet_status.Fleet()
        fleet.apply(Message(topics.STATUS, status.agent_key("mx1"), events.encoder.encode(agent()), NOW))
        fleet.apply(Message(topics.STATUS, status.agent_key("mx1"), None, NOW))
        assert fleet.agents == {}


class TestTopics:
    def test_differences(self) -> None:
        topic = topics.ALL[0]
        loaded = Settings()
        ours = cli_topics.wanted(topic, loaded)
        assert ours["min.insync.replicas"] == "2"
        same = cli_topics.Found(topic.partitions, 3, ours | {"compression.type": "zstd"})
        assert (cli_topics.fixed(topic, same, loaded), cli_topics.changeable(topic, same, loaded)) == ([], [])
        other = cli_topics.Found(6, 1, ours | {"retention.ms": "1"})
        assert [one.key for one in cli_topics.fixed(topic, other, loaded)] == ["partitions", "replication factor"]
        assert [str(one) for one in cli_topics.changeable(topic, other, loaded)] == [
            f"retention.ms is 1, ours {ours['retention.ms']}"
        ]
