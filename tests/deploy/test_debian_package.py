"""The Debian package of the agent: what is in it, and its life on a machine with systemd."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from fleet.own import CHECKOUT
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import wait_until
from tests.deploy.machine import Machine, possible
from weir import __version__, settings_file
from weir.settings import Log, Settings

EXAMPLE = CHECKOUT / "deploy/debian/weir.toml"
SOCKET = "/run/weir/policy.sock"
PACKAGE_PLACE = "/run/weir-agent.deb"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    command = [CHECKOUT / "deploy/debian/build", tmp_path_factory.mktemp("package")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def contents(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked."""
    place = tmp_path_factory.mktemp("contents")
    subprocess.run(["dpkg-deb", "--raw-extract", package, place], check=True)
    return place


@pytest.fixture
def machine(package: Path, tmp_path: Path) -> Iterator[Machine]:
    """With the package installed."""
    if not possible():
        pytest.skip("no namespaces here, or no systemd")
    with Machine(tmp_path / "machine") as made:
        made.path(PACKAGE_PLACE).write_bytes(package.read_bytes())
        made.run(f"dpkg --install {PACKAGE_PLACE}")
        yield made


def ask(machine: Machine) -> str:
    with PolicyClient(machine.path(SOCKET), timeout=20) as client:
        return client.at_recipient("alice@example.org", "192.0.2.10", new_instance())


def pid(machine: Machine) -> int:
    """0: the agent does not run."""
    return int(machine.property("weir-agent.service", "MainPID"))


@contextmanager
def asking(machine: Machine) -> Iterator[list[str]]:
    """Ask all the while, each time on a new connection, and yield the replies so far.

    A connection that ends without a reply is another's turn, as for Postfix; one that is refused is an error.
    """
    replies: list[str] = []
    refused: list[OSError] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                with suppress(ConnectionResetError, BrokenPipeError):
                    replies.append(ask(machine))
            except OSError as error:
                refused.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield replies
    finally:
        over.set()
        thread.join()
        assert refused == []


def test_example_settings_are_the_defaults_with_the_mail_log_and_its_comments_are_right() -> None:
    text = EXAMPLE.read_text()
    assert settings_file.parse(text, "example") == Settings(log=Log(files=["/var/log/mail.log"]))
    with_all = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    assert with_all.count(" = ") > text.count("\n# ") / 4
    settings = settings_file.parse(with_all, "example")
    assert (settings.kafka.security_protocol, settings.agent.host) == ("SASL_SSL", "mx1.example.org")


@pytest.mark.fleet
def test_control_data(contents: Path) -> None:
    control = dict(re.findall(r"^(\S+): (.*)$", (contents / "DEBIAN/control").read_text(), re.MULTILINE))
    architecture = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
    assert (control["Package"], control["Version"], control["Architecture"]) == (
        "weir-agent",
        __version__,
        architecture,
    )
    assert "@" not in control["Installed-Size"]
    (python,) = (contents / "usr/lib/weir/lib").iterdir()
    assert python.name == "python3.11", "what is compiled is for the Python that the package depends on"
    assert {"python3 (>= 3.11)", "python3 (<< 3.12)"} <= {*control["Depends"].split(", ")}
    conffiles = (contents / "DEBIAN/conffiles").read_text().split()
    assert conffiles == ["/etc/weir/environment", "/etc/weir/weir.toml"]
    assert (contents / "etc/weir/environment").stat().st_mode & 0o777 == 0o600


@pytest.mark.fleet
def test_nothing_tells_where_it_was_built(contents: Path) -> None:
    names = re.compile(rb"/tmp/tmp\.|" + re.escape(os.fsencode(CHECKOUT)))
    files = [path for path in contents.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 1000
    assert [path for path in files if names.search(path.read_bytes())] == []
    head = (contents / "usr/lib/weir/bin/weir").read_text().splitlines()[0]
    assert head == "#!/usr/lib/weir/bin/python3"


@pytest.mark.fleet
def test_it_answers_as_installed_and_is_held_to_its_rights(machine: Machine) -> None:
    assert machine.run("weir --version") == f"weir {__version__}"
    machine.run("weir config check")
    assert pid(machine) == 0, "the first request starts it"
    assert ask(machine) == "DUNNO"
    over_tcp = "exec 3<>/dev/tcp/127.0.0.1/10040; printf 'request=smtpd_access_policy\\n\\n' >&3; head -1 <&3"
    assert machine.run(over_tcp) == "action=DUNNO"
    machine.run("systemctl start weir-agent.service")  # returns when it is ready
    status = dict(re.findall(r"^(\w+):\t(.*)$", machine.path(f"/proc/{pid(machine)}/status").read_text(), re.MULTILINE))
    assert (int(status["CapEff"], 16), status["NoNewPrivs"], status["Seccomp"]) == (0, "1", "2")
    assert status["Uid"].split() == 4 * machine.run("id --user weir").split()
    machine.run("systemctl reload weir-agent.service")
    wait_until(lambda: "settings reloaded" in machine.run("journalctl --unit=weir-agent"), 10, "the reload", 0.1)
    assert "is not installed" in machine.run("weir streams 2>&1", check=False)


@pytest.mark.fleet
def test_restart_and_upgrade_refuse_nobody(machine: Machine) -> None:
    """An upgrade keeps the settings, and replaces the agent behind its sockets."""
    changed = "default_realm = 'example.org'\n"
    machine.path("/etc/weir/weir.toml").write_text(changed)
    with asking(machine) as replies:
        for command in ("systemctl restart weir-agent.service", f"dpkg --install {PACKAGE_PLACE}"):
            before = wait_until(lambda: pid(machine), 10, "the agent")
            machine.run(command)
            seen = len(replies)
            wait_until(lambda: len(replies) > seen + 10, 10, "replies afterwards")  # noqa: B023 (called at once)
            assert pid(machine) not in (0, before)
    assert {*replies} == {"DUNNO"}
    assert machine.path("/etc/weir/weir.toml").read_text() == changed


@pytest.mark.fleet
def test_agent_that_hangs_is_replaced(machine: Machine) -> None:
    assert ask(machine) == "DUNNO"
    machine.run("systemctl start weir-agent.service")
    before = pid(machine)
    machine.run("systemctl kill --signal=STOP weir-agent.service")
    wait_until(lambda: pid(machine) not in (0, before), 30, "the watchdog", 0.2)
    assert ask(machine) == "DUNNO"


@pytest.mark.fleet
def test_mended_settings_are_all_it_needs_to_start(machine: Machine) -> None:
    """Who asked meanwhile has waited in the sockets' queue."""
    settings = machine.path("/etc/weir/weir.toml")
    good = settings.read_text()
    settings.write_text("nonsense = 1\n")
    with PolicyClient(machine.path(SOCKET), timeout=20) as client:
        wait_until(lambda: int(machine.property("weir-agent.service", "NRestarts")) >= 2, 20, "two tries", 0.1)
        settings.write_text(good)
        assert client.at_recipient("alice@example.org", "192.0.2.10", new_instance()) == "DUNNO"


ASK_QUEUE = """
import asyncio, json, pathlib
from agents.queue.client import QueueClient
verb, arguments = json.loads(pathlib.Path("/run/ask.json").read_text())
async def ask():
    print(*await getattr(QueueClient(pathlib.Path("/run/weir/queue.sock")), verb)(*arguments))
asyncio.run(ask())
"""
ASK_UNIT = """
[Service]
Type=oneshot
User=weir
Group=weir
ExecStart=/usr/lib/weir/bin/python3 -B /run/ask.py
StandardOutput=truncate:/run/ask.out
StandardError=journal
"""
LIST = "/var/lib/weir/queue/refused_submitters"


def queue(machine: Machine) -> dict[str, str]:
    """Queue id → the name of the queue that the message is in."""
    messages = [json.loads(line) for line in machine.run("postqueue -j").splitlines()]
    return {message["queue_id"]: message["queue_name"] for message in messages}


def ask_queue(machine: Machine, verb: str, *arguments: object) -> list[str]:
    """As the agent's user, and shut in as the agent is: by its name the unit gets the same hardening."""
    machine.path("/run/ask.py").write_text(ASK_QUEUE)
    machine.path("/run/ask.json").write_text(json.dumps([verb, arguments]))
    machine.path("/run/systemd/system/weir-ask.service").write_text(ASK_UNIT)
    logs = "journalctl --output=cat --unit=weir-ask --unit=weir-queue"
    machine.run(f"systemctl daemon-reload && systemctl start weir-ask.service || {{ {logs}; false; }}")
    return machine.path("/run/ask.out").read_text().split()


@pytest.mark.fleet
def test_the_queues_helper_works_within_its_rights(machine: Machine) -> None:
    """With Debian's Postfix: what it may not do would be an error of Postfix's commands."""
    (snippet,) = re.findall(r"^authorized.*$", (CHECKOUT / "deploy/postfix/submit.cf").read_text(), re.MULTILINE)
    machine.run("systemctl start postfix && systemctl start weir-queue.service")
    machine.run(f"postconf -e defer_transports=smtp mydestination= '{snippet}' && systemctl reload postfix")
    machine.run("postsuper -d ALL; sendmail -f form@example.org x@dest.example <<<hello")
    wait_until(lambda: "deferred" in queue(machine).values(), 20, "the message to be deferred", 0.2)
    (queue_id,) = queue(machine)
    assert ask_queue(machine, "hold", "postfix", [queue_id]) == [queue_id]
    assert queue(machine) == {queue_id: "hold"}
    assert ask_queue(machine, "release", "postfix", [queue_id]) == [queue_id]
    assert queue(machine)[queue_id] in ("active", "deferred"), "it is tried anew"
    assert ask_queue(machine, "refuse_submission", ["www-data"]) == ["www-data"]
    submit = "setpriv --reuid=www-data --regid=www-data --clear-groups sendmail x@dest.example <<<hello 2>&1"
    assert "User www-data(33) is not allowed" in machine.run(submit, check=False)
    log = machine.run("journalctl --unit=weir-queue --output=cat")
    assert log.count("request carried out") == 3
    assert not re.search("wait for the next run|warning|error", log), log
    machine.run("dpkg --remove weir-agent")
    assert machine.run(submit) == "", "nobody is refused by what is no longer there"
    assert LIST in machine.run("dpkg --purge weir-agent 2>&1")
    assert machine.run(f"{submit}; ls /var/lib/weir/queue") == "refused_submitters"


@pytest.mark.fleet
def test_removal_keeps_settings_and_spool_and_purge_leaves_the_user_only(machine: Machine) -> None:
    ask(machine)
    machine.run("dpkg --remove weir-agent")
    assert not machine.path(SOCKET).exists()
    assert not machine.path("/usr/lib/weir").exists()
    assert machine.path("/etc/weir/weir.toml").exists()
    assert [*machine.path("/var/lib/weir/spool").glob("*.jsonl")]
    assert "weir/spool" in machine.run("dpkg --purge weir-agent 2>&1"), "that events are lost is told"
    for place in ("/etc/weir", "/var/lib/weir", "/usr/bin/weir", "/usr/share/doc/weir-agent"):
        assert not machine.path(place).exists()
    assert machine.run("find /etc/systemd /var/lib/systemd -name '*weir*'") == ""
    assert machine.run("getent passwd weir")


@pytest.mark.fleet
def test_purge_leaves_the_history_of_a_sink_alone(machine: Machine) -> None:
    history = machine.path("/var/lib/weir/history")
    history.mkdir(parents=True)
    machine.run("dpkg --purge weir-agent")
    assert history.exists()
