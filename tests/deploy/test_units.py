"""systemd's units: what systemd itself says of them, and that they fit the settings' defaults."""

import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from agents import listeners
from fleet.own import CHECKOUT
from weir.settings import Settings

UNITS = CHECKOUT / "deploy/systemd"
DEFAULTS = Settings()
SERVICES = ("weir-agent.service", "weir-streams.service", "weir-sink.service")
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
    assert {path.name for path in units} == {*SERVICES, "weir-agent.socket"}
    for unit in units:
        (tmp_path / unit.name).write_text(
            unit.read_text().replace("=/usr/bin/weir", "=/bin/true").replace("=/opt/weir/bin/weir", "=/bin/true")
        )
    command = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "weir-" in line] == []
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unit", SERVICES)
def test_services_are_hardened(unit: str) -> None:
    threshold = f"--threshold={EXPOSURE}"
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, str(UNITS / unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sockets_are_those_of_the_settings() -> None:
    unit = read("weir-agent.socket")
    assert unit["ListenStream"] == [place.removeprefix("unix:") for place in DEFAULTS.agent.listen]
    assert unit["SocketMode"] == [DEFAULTS.agent.socket_mode]
    assert unit["Backlog"] == [str(listeners.BACKLOG)]


def test_state_directories_are_those_of_the_settings() -> None:
    """Elsewhere they may not write."""
    assert state_directory("weir-agent.service") == DEFAULTS.agent.spool
    assert state_directory("weir-sink.service") == DEFAULTS.history.path
    assert read("weir-sink.service")["WorkingDirectory"] == [str(DEFAULTS.history.path)]


@pytest.mark.parametrize("unit", SERVICES)
def test_services_come_back_however_often_they_end(unit: str) -> None:
    assert (read(unit)["Restart"], read(unit)["StartLimitIntervalSec"]) == (["always"], ["0"])
