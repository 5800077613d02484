"""The agent with rules as a process: files that are good, bad and changed, and counters over a restart."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Agent, Table, toml
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import wait_until
from fleet.reading import read_events, read_topic
from tests.agents.test_standalone import Pipe
from tests.faults.system import create_topics
from tests.fleet.conftest import directory
from weir import events, topics
from weir.events import Heartbeat

__all__ = ["directory"]

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

RULES = "id=TWO; protocol_state==RCPT; action=rate(sasl_username/2/3600/REJECT $$ratecount)\n"
NOT_RELOADED = "rules not reloaded, the former ones stay"


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


class Host:
    """An agent of its own name, with a rule file."""

    def __init__(self, folder: Path, kafka: Kafka, rules: str = RULES) -> None:
        folder.mkdir()
        self.file = folder / "rules.cf"
        self.file.write_text(rules)
        self.settings: Table = {"rules": {"files": [str(self.file)], "dns": False}}
        self.kafka = kafka
        self.agent = Agent(folder.name, folder, kafka.bootstrap, self.settings)

    def ask(self, account: str = "alice@example.org", state: str = "RCPT") -> str:
        with PolicyClient(self.agent.socket) as client:
            if state == "RCPT":
                return client.at_recipient(account, "192.0.2.1", new_instance())
            return client.at_end_of_message(account, "192.0.2.1", new_instance())

    def reload(self, event: str) -> None:
        before = len(self.agent.logged(event))
        self.agent.signal(signal.SIGHUP)
        wait_until(lambda: len(self.agent.logged(event)) > before, 5, f"'{event}' in the log")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def started(stack: ExitStack, host: Host) -> Host:
    stack.enter_context(host.agent)
    host.agent.wait_serving()
    return host


def test_counters_survive_a_restart_and_a_reload(directory: Path, kafka: Kafka, stack: ExitStack) -> None:
    host = started(stack, Host(directory / "keeps", kafka))
    assert [host.ask() for _ in range(3)] == ["DUNNO", "DUNNO", "REJECT 3"]
    host.reload("rules reloaded")
    assert host.ask() == "REJECT 4"
    assert host.agent.metrics()["weir_agent_limits_exceeded_total host"] == 2
    assert host.agent.terminate() == 0
    host.agent.start()
    host.agent.wait_serving()
    assert host.ask() == "REJECT 5"
    assert host.ask("bob@example.org") == "DUNNO"


def test_a_bad_file_never_replaces_good_rules(directory: Path, kafka: Kafka, stack: ExitStack) -> None:
    host = started(
        stack, Host(directory / "reloads", kafka, "id=A; sasl_username==alice@example.org; action=REJECT a\n")
    )
    assert host.ask() == "REJECT a"
    host.file.write_text("id=B; action=REJECT b\nid=C; colour&blue; action=REJECT\nid=D; size&1; action=OK\n")
    host.reload(NOT_RELOADED)
    assert host.ask() == "REJECT a"
    (told,) = host.agent.logged(NOT_RELOADED)
    assert len(told["errors"]) >= 2, "all errors at once"
    host.file.write_text("id=B; action=REJECT b\n")
    host.reload("rules reloaded")
    assert host.ask() == "REJECT b"


def test_settings_of_a_rule_that_is_not_there_are_told(directory: Path, kafka: Kafka, stack: ExitStack) -> None:
    host = Host(directory / "own", kafka)
    whole = host.agent.config.read_text()
    host.agent.config.write_text(f'{whole}\n[rules.own.TOW]\nlimits = "host"\n')
    started(stack, host)
    told = "rules.own names rules that are not there"
    assert [line["ids"] for line in host.agent.logged(told)] == [["TOW"]]
    host.agent.config.write_text(f'{whole}\n[rules.own.TWO]\nlimits = "host"\n')
    host.reload("rules reloaded")
    assert len(host.agent.logged(told)) == 1


def test_other_files_in_the_settings_are_taken(directory: Path, kafka: Kafka, stack: ExitStack) -> None:
    host = started(stack, Host(directory / "others", kafka, "id=A; action=REJECT a\n"))
    other = host.file.with_name("other.cf")
    whole = host.agent.config.read_text()
    host.agent.config.write_text(whole.replace("rules.cf", "other.cf"))
    host.reload(NOT_RELOADED)
    assert host.ask() == "REJECT a"
    other.write_text("id=B; action=REJECT b\n")
    host.reload("other rule files are in use")
    assert host.ask() == "REJECT b"


def test_rules_come_and_go_without_a_restart(directory: Path, kafka: Kafka, stack: ExitStack) -> None:
    host = started(stack, Host(directory / "comes", kafka))
    whole = host.agent.config.read_text()
    assert [host.ask() for _ in range(3)] == ["DUNNO", "DUNNO", "REJECT 3"]
    host.agent.config.write_text(whole.replace(f'"{host.file}"', ""))
    host.reload("no rules are in use any more")
    assert host.ask() == "DUNNO"
    assert host.agent.terminate() == 0
    host.agent.start()
    host.agent.wait_serving()
    with PolicyClient(host.agent.socket) as before:
        assert before.at_recipient("alice@example.org", "192.0.2.1", new_instance()) == "DUNNO"
        host.file.write_text("id=BAD; colour&blue; action=REJECT\n")
        host.agent.config.write_text(whole)
        host.reload(NOT_RELOADED)
        assert before.at_recipient("alice@example.org", "192.0.2.1", new_instance()) == "DUNNO"
        host.file.write_text(RULES)
        host.reload("other rule files are in use")
        wait_until(lambda: host.ask("bob@example.org", "END-OF-MESSAGE") == "DUNNO" and _ends(before), 5, "the end")
    assert host.ask() == "REJECT 4", "counters are taken up"
    assert all(not line["restart_needed"] for line in host.agent.logged("settings reloaded"))
    assert host.agent.terminate() == 0
    host.agent.start()
    host.agent.wait_serving()
    assert host.ask() == "REJECT 5"


def test_rules_whose_counters_cannot_be_kept_are_not_used_before_a_reload_that_can(
    directory: Path, kafka: Kafka, stack: ExitStack
) -> None:
    host = Host(directory / "unkept", kafka, "id=A; protocol_state==RCPT; action=REJECT a\n")
    whole = host.agent.config.read_text()
    host.agent.config.write_text(whole.replace(f'"{host.file}"', ""))
    started(stack, host)
    folder = host.agent.spool / "limits"
    folder.touch()
    host.agent.config.write_text(whole)
    for _ in range(2):
        host.reload("rules cannot be used before another reload")
        assert host.ask() == "DUNNO"
    folder.unlink()
    host.agent.signal(signal.SIGHUP)
    wait_until(lambda: host.ask() == "REJECT a", 5, "the rules")


def _ends(client: PolicyClient) -> bool:
    """Whether a connection of before was closed, so that Postfix makes another."""
    try:
        client.at_recipient("bob@example.org", "192.0.2.1", new_instance())
    except OSError:
        return True
    return False


def test_requests_are_answered_while_rules_are_read_and_a_stop_does_not_wait(
    directory: Path, kafka: Kafka, stack: ExitStack
) -> None:
    host = started(stack, Host(directory / "beside", kafka))
    pipe = Pipe(host.file)
    host.agent.signal(signal.SIGHUP)
    with pipe.read() as file:
        assert [host.ask() for _ in range(3)] == ["DUNNO", "DUNNO", "REJECT 3"]
        file.write(f"{RULES}id=B; protocol_state==RCPT; action=REJECT b\n")
    wait_until(lambda: host.ask("bob@example.org") == "REJECT b", 5, "the new rules")
    assert host.ask() == "REJECT 4", "what was counted meanwhile stays"
    host.agent.signal(signal.SIGHUP)
    with pipe.read():
        assert host.ask() == "REJECT 5"
        start = time.monotonic()
        assert host.agent.terminate() == 0
        assert time.monotonic() - start < 3.0


def test_settings_that_change_while_rules_are_read_are_the_ones_that_count(
    directory: Path, kafka: Kafka, stack: ExitStack
) -> None:
    host = started(stack, Host(directory / "meanwhile", kafka, "id=A; protocol_state==RCPT; action=REJECT a\n"))
    other = host.file.with_name("other.cf")
    other.touch()
    pipe = Pipe(other)
    whole = host.agent.config.read_text()
    host.agent.config.write_text(whole.replace("rules.cf", "other.cf"))
    host.agent.signal(signal.SIGHUP)
    with pipe.read() as file:
        host.agent.config.write_text(whole)
        host.agent.signal(signal.SIGHUP)
        assert host.ask() == "REJECT a"
        file.write("id=B; protocol_state==RCPT; action=REJECT b\n")
    events = "other rule files are in use"
    wait_until(lambda: len(host.agent.logged(events)) == 2, 5, "both reloads")
    assert [line["files"] for line in host.agent.logged(events)] == [[str(other)], [str(host.file)]]
    assert host.ask() == "REJECT a"


def test_bad_rules_at_the_start_end_it_with_all_errors(tmp_path: Path) -> None:
    rules, config = tmp_path / "rules.cf", tmp_path / "weir.toml"
    rules.write_text("id=B; action=REJECT b\nid=C; colour&blue; action=REJECT\nid=D; size==many; action=REJECT\n")
    config.write_text(toml({"agent": {"spool": str(tmp_path / "spool")}, "rules": {"files": [str(rules)]}}))
    command = [sys.executable, "-m", "weir.cli", "--config", str(config), "agent"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"{rules}:2:" in done.stderr
    assert f"{rules}:3:" in done.stderr


def test_the_event_tells_the_rule_and_the_status_which_rules_run(
    directory: Path, kafka: Kafka, stack: ExitStack
) -> None:
    host = started(stack, Host(directory / "tells", kafka))
    for _ in range(3):
        host.ask()
    assert host.ask(state="END-OF-MESSAGE") == "DUNNO"
    assert host.agent.terminate() == 0
    found = [event for (name, _, _), event in sorted(read_events(kafka.bootstrap).items()) if name == "tells"]
    asked = [event for event in found if isinstance(event, events.Request)]
    assert [(event.action, event.rule, len(event.limits)) for event in asked] == [
        *[("DUNNO", "", 1)] * 2,
        ("REJECT 3", "TWO", 1),
        ("DUNNO", "", 0),
    ]
    digests = {event.rules for event in found if isinstance(event, Heartbeat)}
    (digest,) = digests
    assert len(digest) == 16
    values = [message.value for message in read_topic(kafka.bootstrap, topics.STATUS) if message.key == b"agent tells"]
    assert msgspec.json.decode(values[-1] or b"")["rules"] == digest
