"""The parts of the fleet do what demo, tests and benchmarks rely on."""

import asyncio
import base64
import shutil
import smtplib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_sink import MailSink
from fleet.postfix import PostfixHost
from fleet.process import Process, Supervised, free_port, run_directory, wait_until
from fleet.smtp_client import NO_REPLY, Session

pytestmark = pytest.mark.fleet

ALICE, PASSWORD, CLIENT = "alice@weir.test", "pw-alice", "127.0.9.9"
RECIPIENT = "x@dest.test"


# Processes


def process_state(pid: int) -> str:
    """The kernel's letter for a process; Z also for one that is gone without a trace."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_supervised_process_comes_again_after_kill_until_it_is_terminated(directory: Path) -> None:
    with Supervised("sleeper", ["sleep", "60"], directory / "sleeper.log") as sleeper:
        first = sleeper.pid
        sleeper.kill()
        wait_until(lambda: sleeper.restarts == 1, 5.0, "the restart")
        assert sleeper.running
        assert sleeper.pid != first
        assert sleeper.exit_statuses == [-9]
    assert not sleeper.running
    assert sleeper.restarts == 1
    assert sleeper.exit_statuses == [-9, -15]


def test_supervised_process_comes_again_after_its_own_end(directory: Path) -> None:
    with Supervised("quitter", ["sh", "-c", "exit 70"], directory / "quitter.log") as quitter:
        wait_until(lambda: quitter.restarts >= 2, 5.0, "two restarts")
    assert quitter.exit_statuses[:2] == [70, 70]  # the last one may be terminated


def test_terminate_kills_what_ignores_it(directory: Path) -> None:
    log = directory / "stubborn.log"
    stubborn = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]
    with Process("stubborn", stubborn, log) as process:
        process.wait_ready(lambda: "deaf" in log.read_text(), 5.0)
        assert process.terminate(timeout=0.3) == -9
        assert not process.running


def test_a_frozen_process_stands_and_can_be_thawed_or_terminated(directory: Path) -> None:
    with Process("sleeper", ["sleep", "60"], directory / "sleeper.log") as process:
        process.freeze()
        wait_until(lambda: process_state(process.pid) == "T", 5.0, "the stop")
        process.thaw()
        wait_until(lambda: process_state(process.pid) == "S", 5.0, "the thaw")
        process.freeze()
        assert process.terminate() == -15


def test_a_process_that_ends_early_fails_with_its_log(directory: Path) -> None:
    process = Process("broken", ["sh", "-c", "echo no such setting; exit 3"], directory / "broken.log")
    process.start()
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno such setting"):
        process.wait_ready(lambda: False, 5.0)


def test_children_die_with_us(directory: Path) -> None:
    program = (
        "import pathlib, time; from fleet.process import Process;"
        f"child = Process('child', ['sleep', '60'], pathlib.Path('{directory}/child.log'));"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert process_state(child) != "Z"
        parent.kill()
    wait_until(lambda: process_state(child) == "Z", 5.0, "the child's end")


def test_a_free_port_is_given_only_once() -> None:
    ports = [free_port() for _ in range(500)]  # one of 3,000 each: two alike would be sure
    assert len(set(ports)) == len(ports)


def test_run_directory_goes_after_success_and_stays_after_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with run_directory() as gone:
        (gone / "log").write_text("all well")
        assert gone.stat().st_mode & 0o777 == 0o711
    assert not gone.exists()

    kept = Path()

    def fail() -> None:
        nonlocal kept
        with run_directory() as kept:
            (kept / "log").write_text("not well")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (kept / "log").read_text() == "not well"
    assert str(kept) in capsys.readouterr().err
    shutil.rmtree(kept)


# Kafka


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        yield broker


def create_topic(kafka: Kafka, topic: str) -> None:
    kafka.admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10.0)


def new_producer(kafka: Kafka) -> Producer:
    return Producer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "enable.idempotence": True,
            "reconnect.backoff.max.ms": 200,
            "log_level": 0,
        }
    )


def produce(producer: Producer, topic: str, value: bytes) -> KafkaError | None:
    """Returns the error of the delivery report."""
    errors: list[KafkaError | None] = []
    producer.produce(topic, value, on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(10.0) == 0
    return errors[0]


def values(kafka: Kafka, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "none", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = consumer.consume(count, timeout=10.0)
    consumer.close()
    return [message.value() for message in messages]


def test_kafka_keeps_port_and_data_over_stop_and_kill(kafka: Kafka) -> None:
    create_topic(kafka, "kept")
    producer = new_producer(kafka)
    assert produce(producer, "kept", b"before the stop") is None
    kafka.stop()
    assert not kafka.process.running
    kafka.start()
    assert produce(producer, "kept", b"before the kill") is None
    kafka.kill()
    kafka.start()
    assert produce(producer, "kept", b"after") is None
    assert values(kafka, "kept", 3) == [b"before the stop", b"before the kill", b"after"]


def test_denied_writes_fail_until_they_are_allowed_again(kafka: Kafka) -> None:
    create_topic(kafka, "guarded")
    producer = new_producer(kafka)
    assert produce(producer, "guarded", b"1") is None
    kafka.deny_writes("guarded")
    error = produce(producer, "guarded", b"2")
    assert error is not None
    assert error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert values(kafka, "guarded", 1) == [b"1"]
    kafka.allow_writes("guarded")
    # The old producer remembers the refusal until it asks for metadata again.
    assert produce(new_producer(kafka), "guarded", b"3") is None
    assert values(kafka, "guarded", 2) == [b"1", b"3"]


# Postfix, with Dovecot and a mail sink


class PolicyServer:
    """Answers each policy request by the sender's action at its state, else DUNNO."""

    def __init__(self, path: Path) -> None:
        self.service = f"unix:{path}"
        self.actions: dict[tuple[str, str], str] = {}
        self.requests: list[dict[str, str]] = []
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "PolicyServer":
        self._thread.start()
        serving = asyncio.start_unix_server(self._answer, self._path)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(5.0)
        self._path.chmod(0o666)
        return self

    def __exit__(self, *raised: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\n\n")).decode()
                attributes = dict(line.split("=", 1) for line in request.splitlines() if line)
                self.requests.append(attributes)
                action = self.actions.get((attributes["protocol_state"], attributes["sender"]), "DUNNO")
                writer.write(f"action={action}\n\n".encode())
        except asyncio.IncompleteReadError:
            writer.close()


@pytest.fixture(scope="module")
def policy_server(directory: Path) -> Iterator[PolicyServer]:
    with PolicyServer(directory / "policy") as server:
        yield server


@pytest.fixture(scope="module")
def host(directory: Path, policy_server: PolicyServer) -> Iterator[PostfixHost]:
    with (
        Dovecot(directory / "dovecot", {ALICE: PASSWORD}) as dovecot,
        MailSink("127.0.0.21", free_port("127.0.0.21"), directory / "sink") as sink,
        PostfixHost(
            "mx1", "127.0.0.11", directory / "mx1", policy_server.service, dovecot.sasl_path, sink=sink.address
        ) as postfix,
    ):
        yield postfix


def session(host: PostfixHost, password: str = PASSWORD) -> Session:
    return Session(host.address, host.port, CLIENT, ALICE, password)


def test_accepted_mail_is_found_by_user_and_queue_id(host: PostfixHost, policy_server: PolicyServer) -> None:
    policy_server.requests.clear()
    with session(host) as client:
        answer = client.send(ALICE, [RECIPIENT, "y@dest.test"], "hello", ".a line\n..and dots")
    assert answer.accepted
    queue_id = answer.text.split()[-1]
    wait_until(lambda: (ALICE, queue_id) in host.accepted_queue_ids(), 5.0, "the queue id in the mail log")
    seen = [(request["protocol_state"], request["client_address"]) for request in policy_server.requests]
    assert seen == [("RCPT", CLIENT), ("RCPT", CLIENT), ("END-OF-MESSAGE", CLIENT)]
    delivered = f"{queue_id}: to=<y@dest.test>"
    wait_until(lambda: delivered in host.maillog.read_text(), 5.0, "the delivery")
    assert "status=sent" in next(line for line in host.maillog.read_text().splitlines() if delivered in line)


def test_a_wrong_password_is_an_answer(host: PostfixHost) -> None:
    with session(host, "wrong") as client:
        assert not client.open
        answer = client.send(ALICE, [RECIPIENT])
    assert (answer.code, answer.stage) == (535, "auth")


def test_a_refused_connection_is_an_answer() -> None:
    with Session("127.0.0.11", free_port("127.0.0.11"), CLIENT, ALICE, PASSWORD) as client:
        answer = client.send(ALICE, [RECIPIENT])
    assert (answer.code, answer.stage) == (NO_REPLY, "connect")


@pytest.mark.parametrize(
    ("state", "stage", "text"),
    [
        ("RCPT", "rcpt", f"5.7.1 <{RECIPIENT}>: Recipient address rejected: test"),
        ("END-OF-MESSAGE", "end_of_message", "5.7.1 <END-OF-MESSAGE>: End-of-data rejected: test"),
    ],
)
def test_521_refuses_the_message_and_ends_the_session(
    host: PostfixHost, policy_server: PolicyServer, state: str, stage: str, text: str
) -> None:
    blocked = f"blocked-{stage}@weir.test"
    policy_server.actions[state, blocked] = "521 5.7.1 test"
    before = host.accepted_queue_ids()
    with session(host) as client:
        answer = client.send(blocked, [RECIPIENT])
        assert answer == (521, text, stage)
        assert not client.open
        assert client.send(ALICE, [RECIPIENT]) == answer

    with session(host) as client:
        queue_id = client.send(ALICE, [RECIPIENT]).text.split()[-1]
    wait_until(lambda: (ALICE, queue_id) in host.accepted_queue_ids(), 5.0, "the next message")
    assert host.accepted_queue_ids() == [*before, (ALICE, queue_id)]


@pytest.mark.parametrize("state", ["RCPT", "END-OF-MESSAGE"])
@pytest.mark.parametrize(("action", "ends"), [("521 5.7.1 test", True), ("554 5.7.1 test", False)])
def test_postfix_closes_the_connection_after_521_but_not_after_554(
    host: PostfixHost, policy_server: PolicyServer, state: str, action: str, ends: bool
) -> None:
    sender = f"sender-{action[:3]}-{state}@weir.test"
    policy_server.actions[state, sender] = action
    with smtplib.SMTP(timeout=10.0, local_hostname="client.test") as client:
        client.connect(host.address, host.port, source_address=(CLIENT, 0))
        client.ehlo()
        client.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode())
        client.mail(sender)
        code, _ = client.rcpt(RECIPIENT)
        if state == "END-OF-MESSAGE":
            assert code == 250
            code, _ = client.data("Subject: test\r\n\r\ntest\r\n")
        assert code == int(action[:3])
        if ends:
            assert client.file is not None
            assert client.file.read(1) == b""
        else:
            assert client.noop()[0] == 250


def test_a_host_restarts_with_its_queue_and_log(host: PostfixHost) -> None:
    before = host.accepted_queue_ids()
    host.stop()
    assert not host.running
    host.start()
    assert host.running
    with session(host) as client:
        assert client.send(ALICE, [RECIPIENT]).accepted
    wait_until(lambda: len(host.accepted_queue_ids()) == len(before) + 1, 5.0, "the message after the restart")


def test_a_host_that_cannot_start_says_why(directory: Path) -> None:
    shut = directory / "shut"
    shut.mkdir(mode=0o700)
    broken = PostfixHost("mx2", "127.0.0.12", shut / "mx2", "unix:/none", directory / "none")
    with pytest.raises(RuntimeError, match="Permission denied"):
        broken.start()
    assert not broken.running


def test_a_host_does_not_share_the_port_of_another(host: PostfixHost, directory: Path) -> None:
    second = PostfixHost("mx2", host.address, directory / "mx2", "unix:/none", directory / "none", port=host.port)
    with pytest.raises(RuntimeError, match=f"{host.address}:{host.port} is taken"):
        second.start()
