"""The units of sink and notify on a machine with systemd: shut in as they are, ClickHouse's engine and Apprise work.

Of the machine's /opt/weir only the folders are made here; the packages are those of the Python that runs this test.
"""

import re
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.own import CHECKOUT
from fleet.process import wait_until
from tests.deploy.machine import Machine, possible

pytestmark = pytest.mark.fleet

UNITS = CHECKOUT / "deploy/systemd"
SITE_PACKAGES = Path(sysconfig.get_path("purelib")).resolve()
COMMAND = """\
#!/opt/weir/bin/python3
import sys
sys.path.insert(0, "/opt/weir/source")
from weir.cli import main
sys.exit(main())
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With sink and notify installed as deploy/README.md says, and Kafka away."""
    if not possible():
        pytest.skip("no namespaces here, or no systemd")
    with Machine(tmp_path / "machine") as made:
        if not made.path(str(SITE_PACKAGES)).exists():
            pytest.skip("the packages are on another file system than /, which the machine does not see")
        made.run("adduser --system --group --quiet --no-create-home --home /var/lib/weir weir")
        made.run("/usr/bin/python3 -m venv --without-pip /opt/weir && mkdir /opt/weir/source /etc/weir")
        made.run(f"mount --bind {SITE_PACKAGES} /opt/weir/lib/{SITE_PACKAGES.parent.name}/site-packages")
        for package in ("weir", "sinks"):
            shutil.copytree(CHECKOUT / package, made.path(f"/opt/weir/source/{package}"))
        made.path("/opt/weir/bin/weir").write_text(COMMAND)
        made.run("chmod 755 /opt/weir/bin/weir")
        units = made.path("/etc/systemd/system")
        for unit in ("weir-sink.service", "weir-notify.service"):
            shutil.copy(UNITS / unit, units)
        shutil.copytree(UNITS / "weir-.service.d", units / "weir-.service.d")
        made.path("/etc/weir/weir.toml").write_text("")
        made.run("systemctl daemon-reload")
        yield made


def ask(machine: Machine, path: str) -> str:
    return machine.run(f"curl --silent '127.0.0.1:9643/{path}'", check=False)


def test_a_history_of_its_own_is_opened_and_answers(machine: Machine) -> None:
    machine.run("systemctl start --no-block weir-sink.service")
    try:
        wait_until(lambda: ask(machine, "ping") == "Ok.", 60, "the query server", 0.2)
        wait_until(lambda: ask(machine, "?query=SELECT+count()+FROM+events+FINAL") == "0", 60, "the tables", 0.2)
        wait_until(lambda: machine.property("weir-sink.service", "ActiveState") == "active", 60, "readiness", 0.2)
    except TimeoutError as error:
        error.add_note(machine.run("journalctl --unit=weir-sink --no-pager | tail -50", check=False))
        raise
    assert machine.property("weir-sink.service", "NRestarts") == "0"
    pid = machine.property("weir-sink.service", "MainPID")
    status = dict(re.findall(r"^(\w+):\t(.*)$", machine.path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    assert int(machine.path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16]) == 10, "its niceness"
    machine.run("systemctl stop weir-sink.service")
    assert machine.property("weir-sink.service", "Result") == "success"


def test_notify_follows_and_knows_its_destinations(machine: Machine) -> None:
    environment = machine.path("/etc/weir/environment")
    urls = "json://127.0.0.1:9/t0p-s3cr3t mailtos://user:s3cr3t@127.0.0.1:9?from=weir@example.org&to=you@example.org"
    environment.write_text(f'WEIR_NOTIFY_URLS="{urls}"\n')
    environment.chmod(0o600)
    machine.run("systemctl start weir-notify.service")  # it says that it is ready
    metrics = machine.run("curl --silent --fail 127.0.0.1:9644/metrics")
    assert re.findall('weir_notify_waiting{destination="(.*)"}', metrics) == ["1 JSON", "2 E-Mail"]
    assert "s3cr3t" not in machine.run("journalctl --unit=weir-notify --no-pager")
    machine.run("systemctl stop weir-notify.service")
    assert machine.property("weir-notify.service", "Result") == "success"
    environment.write_text("")
    machine.run("systemctl start weir-notify.service", check=False)
    wait_until(lambda: machine.property("weir-notify.service", "ActiveState") == "failed", 20, "its end", 0.2)
    assert machine.property("weir-notify.service", "NRestarts") == "0", "wrong settings do not mend themselves"
