"""`weir agent --standalone` as a process, over its sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from agents import __main__ as program
from fleet.dns import DnsServer
from fleet.own import CHECKOUT
from fleet.policy_client import PolicyClient
from fleet.process import Process, free_port, run_directory, wait_until

pytestmark = pytest.mark.fleet

ALICE = {"protocol_state": "RCPT", "sasl_username": "alice@example.org", "client_address": "192.0.2.10"}
COMMAND = [sys.executable, "-m", "weir.cli", "agent", "--standalone"]


@pytest.fixture
def directory() -> Iterator[Path]:
    with run_directory() as made:
        yield made


class Alone:
    """An agent with these rules, its log and sockets in `directory`."""

    def __init__(self, directory: Path, rules: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.rules = directory / "rules.cf"
        self.rules.write_text(rules)
        self.tcp = ("127.0.0.1", free_port())
        self.socket = directory / "policy.sock"
        self.log = directory / "log"
        listen = ["--listen", "{}:{}".format(*self.tcp), "--listen", f"unix:{self.socket}"]
        argv = [*COMMAND, "--rules", str(self.rules), *listen, *arguments]
        self.process = Process("agent", argv, self.log, env=env, cwd=CHECKOUT)

    def __enter__(self) -> "Alone":
        before = len(self.logged("ready"))
        self.process.start()
        self.process.wait_ready(lambda: len(self.logged("ready")) > before, 20)
        return self

    def __exit__(self, *raised: object) -> None:
        self.process.terminate()

    def ask(self, **attributes: str) -> str:
        with PolicyClient(self.tcp) as client:
            return client.ask(**{**ALICE, **attributes})

    def logged(self, event: str) -> list[dict[str, Any]]:
        text = self.log.read_text() if self.log.exists() else ""
        records = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [record for record in records if record["event"] == event]

    def reload(self) -> None:
        """SIGHUP; returns when it is done."""
        events = ("rules reloaded", "rules not reloaded, the former ones stay")
        before = sum(len(self.logged(event)) for event in events)
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: sum(len(self.logged(event)) for event in events) > before, 5, "the rules to be read")


LIMIT = "id=R; action=rate(sasl_username/2/600/REJECT limit $$ratecount)\n"


def test_one_process_answers_over_its_sockets_and_stops_at_once(directory: Path) -> None:
    with Alone(directory, "id=A; sasl_username==alice@example.org; action=REJECT alice\n") as alone:
        pid = alone.process.pid
        assert alone.ask() == "REJECT alice"
        with PolicyClient(alone.socket) as client:
            assert client.ask(**{**ALICE, "sasl_username": ""}) == "DUNNO"
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
        assert "confluent_kafka" not in Path(f"/proc/{pid}/maps").read_text()
        start = time.monotonic()
        assert alone.process.terminate() == 0
        assert time.monotonic() - start < 2.0
        assert not alone.socket.exists()


def test_it_stops_in_time_while_a_request_waits(directory: Path) -> None:
    rules = "id=W; sender==slow@x.example; action=wait(60)\nid=A; action=OK\n"
    with Alone(directory, rules) as alone, socket.create_connection(alone.tcp, 10) as waiting:
        waiting.sendall(b"request=smtpd_access_policy\nsender=slow@x.example\n\n")
        assert alone.ask() == "OK"
        start = time.monotonic()
        assert alone.process.terminate() == 0
        assert time.monotonic() - start < 2.5
        assert waiting.recv(100) == b""


def test_kafka_and_settings_are_not_touched(directory: Path) -> None:
    """It runs where confluent_kafka cannot be imported and the settings' file is broken."""
    settings = directory / "broken.toml"
    settings.write_text("nonsense")
    (directory / "confluent_kafka").mkdir()
    (directory / "confluent_kafka" / "__init__.py").write_text("raise ImportError('not wanted')\n")
    rules = directory / "rules.cf"
    rules.write_text("id=A; action=OK\n")
    port = free_port()
    argv = ["--standalone", "--rules", str(rules), "--listen", f"127.0.0.1:{port}"]
    environment = {"PYTHONPATH": f"{directory}:{CHECKOUT}", "WEIR_CONFIG": str(settings)}
    with Process("agent", [sys.executable, "-m", "agents", *argv], directory / "log", environment, CHECKOUT) as agent:
        agent.wait_ready(lambda: "ready" in (directory / "log").read_text(), 20)
        with PolicyClient(("127.0.0.1", port)) as client:
            assert client.ask(**ALICE) == "OK"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rules", "bad.cf"], ["bad.cf:1:", "bad.cf:3:"]),
        (["--rules", "missing.cf"], ["missing.cf"]),
        ([], ["--rules"]),
        (["--rules", "good.cf", "--score", "x=REJECT"], ["LIMIT=ACTION"]),
        (["--rules", "good.cf", "--resolver", "nowhere"], ["nowhere"]),
        (["--rules", "good.cf", "--listen", "nowhere"], ["nowhere"]),
        (["--rules", "good.cf", "--unknown"], ["--unknown"]),
        (["--rules", "good.cf", "--dns-timeout", "0"], ["--dns-timeout", "seconds above 0, got 0"]),
        (["--rules", "good.cf", "--dns-timeout", "soon"], ["seconds above 0, got soon"]),
        (["--rules", "good.cf", "--dns-timeout-max", "-1"], ["--dns-timeout-max", "from 0 on", "got -1"]),
    ],
)
def test_what_prevents_the_start_is_told(directory: Path, arguments: list[str], told: list[str]) -> None:
    (directory / "bad.cf").write_text("id=A; size=abc; action=OK\nid=B; action=OK\nid=C; date=never; action=OK\n")
    (directory / "good.cf").write_text("id=A; action=OK\n")
    ran = subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ran.returncode in {1, 2}
    for text in told:
        assert text in ran.stderr
    assert "Traceback" not in ran.stderr


def test_options_of_standalone_need_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--rules", "x.cf"])
    assert ended.value.code == 2
    assert "--standalone" in capsys.readouterr().err


def test_reload_takes_good_rules_leaves_bad_ones_and_keeps_counters(directory: Path) -> None:
    with Alone(directory, LIMIT) as alone:
        assert [alone.ask() for _ in range(3)] == ["DUNNO", "DUNNO", "REJECT limit 3"]
        alone.rules.write_text(LIMIT + "id=B; action=OK later\n")
        alone.reload()
        assert alone.ask() == "REJECT limit 4"
        assert alone.ask(sasl_username="bob@example.org") == "OK later"
        alone.rules.write_text("id=B; size=abc; action=OK\n")
        alone.reload()
        assert alone.ask() == "REJECT limit 5"
        assert alone.logged("rules not reloaded, the former ones stay")[0]["errors"][0].startswith(f"{alone.rules}:1:")


class Pipe:
    """A rule file that is read to its end when the test has written it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink()
        os.mkfifo(path)

    def read(self) -> TextIO:
        """Return when somebody has begun to read it, with what is to be written and closed."""
        return wait_until(self._open, 10, "a reader")

    @property
    def is_read(self) -> bool:
        return self._open() is not None

    def _open(self) -> TextIO | None:
        try:
            return os.fdopen(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK), "w")
        except OSError:  # nobody reads
            return None


def test_requests_are_answered_while_it_reloads_and_a_second_signal_means_one_more(directory: Path) -> None:
    with Alone(directory, LIMIT) as alone:
        pipe = Pipe(alone.rules)
        assert alone.ask() == "DUNNO"
        alone.process.signal(signal.SIGHUP)
        with pipe.read() as first:
            assert [alone.ask() for _ in range(2)] == ["DUNNO", "REJECT limit 3"]
            for _ in range(3):
                alone.process.signal(signal.SIGHUP)
                assert alone.ask().startswith("REJECT limit")
            first.write(LIMIT + "id=B; action=OK first\n")
        wait_until(lambda: alone.logged("rules reloaded"), 5, "the first reload")
        with pipe.read() as second:
            assert alone.ask(sasl_username="bob@example.org") == "OK first"
            assert alone.ask() == "REJECT limit 7", "what was counted meanwhile stays"
            second.write(LIMIT + "id=B; action=OK second\n")
        wait_until(lambda: alone.ask(sasl_username="carol@example.org") == "OK second", 5, "the second reload")
        assert len(alone.logged("rules reloaded")) == 2
        assert not pipe.is_read, "a third one"


def test_it_stops_at_once_while_it_reloads(directory: Path) -> None:
    with Alone(directory, LIMIT, "--state", str(directory / "state")) as alone:
        pipe = Pipe(alone.rules)
        alone.process.signal(signal.SIGHUP)
        with pipe.read():
            assert alone.ask() == "DUNNO"
            start = time.monotonic()
            assert alone.process.terminate() == 0
            assert time.monotonic() - start < 2.0
    assert b",1]" in (directory / "state" / "counters").read_bytes()


def test_counters_outlive_a_restart_and_a_kill(directory: Path) -> None:
    state = directory / "state"
    arguments = ("--state", str(state))
    with Alone(directory, LIMIT, *arguments) as alone:
        assert [alone.ask() for _ in range(3)][-1] == "REJECT limit 3"
    with Alone(directory, LIMIT, *arguments) as alone:
        assert alone.ask() == "REJECT limit 4"
        before = (state / "counters").stat().st_mtime_ns
        wait_until(lambda: (state / "counters").stat().st_mtime_ns > before, 10, "the counters to be written")
        wait_until(lambda: b",4]" in (state / "counters").read_bytes(), 10, "the last count to be written")
        alone.process.kill()
    with Alone(directory, LIMIT, *arguments) as alone:
        assert alone.ask() == "REJECT limit 5"


def test_a_broken_state_is_told_and_counting_begins_anew(directory: Path) -> None:
    state = directory / "state"
    state.mkdir()
    (state / "counters").write_bytes(b'{"version":1}\n[["sasl_username","alice')
    with Alone(directory, LIMIT, "--state", str(state)) as alone:
        assert alone.ask() == "DUNNO"
        (told,) = alone.logged("kept counters cannot be read, all begin at nothing")
        assert told["file"] == str(state / "counters")
    with Alone(directory, LIMIT, "--state", str(state)) as alone:
        assert [alone.ask(), alone.ask()] == ["DUNNO", "REJECT limit 3"]


def test_two_agents_do_not_share_a_state(directory: Path) -> None:
    state = str(directory / "state")
    with Alone(directory, LIMIT, "--state", state):
        second = directory / "second"
        second.mkdir()
        other = Alone(second, LIMIT, "--state", state)
        other.process.start()
        assert other.process.wait(20) == 1
        assert state in other.log.read_text()


def test_a_dry_run_counts_and_logs_but_answers_dunno(directory: Path) -> None:
    with Alone(directory, LIMIT, "--dry-run") as alone:
        assert [alone.ask() for _ in range(3)] == ["DUNNO"] * 3
        wait_until(lambda: len(alone.logged("dry run")) == 3, 5, "the log")
        last = alone.logged("dry run")[-1]
        assert (last["action"], last["rule"]) == ("REJECT limit 3", "R")


def test_a_dry_run_tells_the_rule_that_it_began_with(directory: Path) -> None:
    """Rules are reloaded, to fewer ones, while a request waits for another policy server."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = f"id=ASK; sender==slow@example.org; action=ask(127.0.0.1:{port})\nid=LAST; action=REJECT last\n"
        with Alone(directory, text, "--dry-run") as alone, PolicyClient(alone.tcp) as client:
            asking = threading.Thread(target=lambda: client.ask(**ALICE, sender="slow@example.org"))
            asking.start()
            connection, _ = other.accept()
            alone.rules.write_text("id=ONLY; action=OK\n")
            alone.reload()
            connection.close()  # no answer: it goes on
            asking.join()
            wait_until(lambda: alone.logged("dry run"), 5, "the log")
            assert [line["rule"] for line in alone.logged("dry run")] == ["LAST"]


def test_scores_are_those_of_the_command_line(directory: Path) -> None:
    rules = "id=A; action=score(4.6)\nid=B; action=OK below\n"
    with Alone(directory, rules, "--score", "4.5=REJECT high") as alone:
        assert alone.ask() == "REJECT high"


def test_slow_dns_delays_its_own_connection_only(directory: Path) -> None:
    rules = "id=D; sender==slow@example.org; rbl=slow.test; action=REJECT listed\nid=A; action=OK\n"
    with DnsServer({}, silent=["slow.test"]) as server:
        arguments = ("--resolver", server.address, "--dns-timeout", "1.5", "--dns-timeout-max", "2")
        with Alone(directory, rules, *arguments) as alone, PolicyClient(alone.tcp) as slow:
            answers: list[str] = []
            asking = threading.Thread(target=lambda: answers.append(slow.ask(**ALICE, sender="slow@example.org")))
            asking.start()
            wait_until(lambda: server.queries, 5, "a query to arrive")
            start = time.monotonic()
            assert alone.ask(sender="fast@example.org") == "OK"
            assert time.monotonic() - start < 1.0
            assert not answers
            asking.join()
            assert answers == ["OK"]


def test_without_dns_nothing_is_asked(directory: Path) -> None:
    rules = "id=D; rbl=bl.test; action=REJECT listed\nid=A; action=OK\n"
    with Alone(directory, rules, "--no-dns") as alone:
        assert alone.ask() == "OK"


def test_what_is_no_request_for_rules_gets_no_answer(directory: Path) -> None:
    """As with postfwd the connection stays: the next request on it is answered."""
    with Alone(directory, "id=A; action=OK\n") as alone, socket.create_connection(alone.tcp, 5) as connection:
        connection.sendall(b"protocol_state=RCPT\n\nrequest=other\n\n")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        connection.settimeout(5)
        connection.sendall(b"request=smtpd_access_policy\r\nprotocol_state=RCPT\r\n\r\n")
        assert connection.recv(100) == b"action=OK\n\n"


def test_systemd_is_told(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "notify"))
        manager.settimeout(10)
        with Alone(directory, "id=A; action=OK\n", env={"NOTIFY_SOCKET": str(directory / "notify")}):
            assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"
