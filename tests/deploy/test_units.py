"""systemd's units: what systemd itself says of them, and that they fit the settings' defaults."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from agents import listeners
from fleet.own import CHECKOUT, toml
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import Process, free_port
from weir.settings import Settings

UNITS = CHECKOUT / "deploy/systemd"
DEFAULTS = Settings()
SERVICES = ("weir-agent.service", "weir-streams.service", "weir-sink.service", "weir-notify.service")
QUEUE = "weir-queue.service"
QUEUE_EXPOSURE = 21
"""It runs as root, becomes the user postfix, looks at the network's interfaces and writes into Postfix's queues."""
EXPOSURE = 11
"""What `systemd-analyze security` may say of each at most, in tenths: 100 is the most. What remains: they use the
network, unix sockets and the host's file system; the sink may compile code at run time."""


def read(unit: str) -> dict[str, list[str]]:
    """All values of each key."""
    found = defaultdict(list)
    for line in (UNITS / unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


def state_directory(unit: str) -> Path:
    (name,) = read(unit)["StateDirectory"]
    return Path("/var/lib") / name


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """Of the programs they start, which are not installed here, /bin/true takes the place."""
    units = [path for path in UNITS.iterdir() if path.is_file()]
    assert {path.name for path in units} == {*SERVICES, "weir-agent.socket", QUEUE, "weir-queue.socket"}
    for unit in units:
        (tmp_path / unit.name).write_text(
            unit.read_text().replace("=/usr/bin/weir", "=/bin/true").replace("=/opt/weir/bin/weir", "=/bin/true")
        )
    command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "weir-" in line] == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("unit", "exposure"), [*((unit, EXPOSURE) for unit in SERVICES), (QUEUE, QUEUE_EXPOSURE)])
def test_services_are_hardened(unit: str, exposure: int) -> None:
    threshold = f"--threshold={exposure}"
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sockets_are_those_of_the_settings() -> None:
    unit = read("weir-agent.socket")
    assert unit["ListenStream"] == [place.removeprefix("unix:") for place in DEFAULTS.agent.listen]
    assert unit["SocketMode"] == [DEFAULTS.agent.socket_mode]
    assert unit["Backlog"] == [str(listeners.BACKLOG)]
    queue = read("weir-queue.socket")
    assert queue["ListenStream"] == [str(DEFAULTS.queue.socket)]
    assert (queue["SocketGroup"], queue["SocketMode"]) == ([DEFAULTS.queue.user], ["0660"])


@pytest.mark.fleet
def test_the_agent_answers_on_sockets_that_it_did_not_open(directory: Path) -> None:
    """systemd holds them and starts the agent with the first request; Kafka is away."""
    unix, tcp = directory / "policy.sock", ("127.0.0.1", free_port())
    config = directory / "weir.toml"
    own = {"listen": [f"unix:{directory}/own.sock"], "spool": f"{directory}/spool", "metrics": ""}
    config.write_text(toml({"kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"}, "agent": own}))
    listens = [f"--listen={unix}", f"--listen={tcp[0]}:{tcp[1]}"]
    agent = [sys.executable, "-m", "weir.cli", "--config", str(config), "agent"]
    with Process("agent", ["systemd-socket-activate", *listens, *agent], directory / "log", cwd=CHECKOUT) as process:
        process.wait_ready(lambda: f"Listening on {tcp[0]}:{tcp[1]}" in process.log_path.read_text(), 10)
        for place in (unix, tcp):
            with PolicyClient(place, timeout=20) as client:
                assert client.at_recipient("alice@example.org", "192.0.2.10", new_instance()) == "DUNNO"
        assert not (directory / "own.sock").exists()


def test_state_directories_are_those_of_the_settings() -> None:
    """Elsewhere they may not write."""
    assert state_directory("weir-agent.service") == DEFAULTS.agent.spool
    assert state_directory("weir-sink.service") == DEFAULTS.history.path
    assert {state_directory(QUEUE)} == {DEFAULTS.queue.held.parent, DEFAULTS.queue.submit_table.parent}
    assert read("weir-sink.service")["WorkingDirectory"] == [str(DEFAULTS.history.path)]


@pytest.mark.parametrize("unit", SERVICES)
def test_services_come_back_however_often_they_end(unit: str) -> None:
    assert (read(unit)["Restart"], read(unit)["StartLimitIntervalSec"]) == (["always"], ["0"])


def test_the_queues_helper_comes_back_when_it_fails_and_not_when_it_is_idle() -> None:
    assert (read(QUEUE)["Restart"], read(QUEUE)["StartLimitIntervalSec"]) == (["on-failure"], ["0"])
