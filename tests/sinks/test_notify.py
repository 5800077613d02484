"""`weir notify` on a real Kafka, with real receivers: nothing is lost, little is told twice."""

import itertools
import os
import quopri
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_sink import MailSink
from fleet.own import CHECKOUT, Notify
from fleet.postfix import PostfixHost
from fleet.process import free_port, wait_until
from sinks.decision_source import DecisionSource
from tests.faults.system import create_topics
from tests.fleet.conftest import directory
from tests.sinks.test_told import record
from tests.sinks.webhook import TOKEN, Webhook
from weir import decisions, subjects, topics
from weir.decisions import Decision
from weir.settings import Kafka as KafkaSettings
from weir.settings import Notify as NotifySettings
from weir.settings import Settings

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]
__all__ = ["directory"]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture
def notify(directory: Path, kafka: Kafka, webhook: Webhook) -> Iterator[Notify]:
    """In a group of its own, so it tells what comes from now on."""
    with started(directory, kafka, [webhook.url]) as running:
        yield running


def made(directory: Path, kafka: Kafka, urls: Iterable[str], env: dict[str, str] | None = None) -> Notify:
    name = f"n{next(_numbers)}"
    return Notify(name, directory / name, kafka.bootstrap, urls, {"notify": {"group": f"notify-{name}"}}, env)


@contextmanager
def started(directory: Path, kafka: Kafka, urls: Iterable[str]) -> Iterator[Notify]:
    with made(directory, kafka, urls) as running:
        running.wait_following()
        yield running


def name() -> str:
    """An account that no other test has."""
    return f"user{next(_numbers)}@example.org"


def decision(account: str, **fields: Any) -> Decision:
    known: dict[str, Any] = {"since": float(int(time.time())), "decided": time.time()}
    return record(f"sasl_username:{account}", **(known | fields))


def write(kafka: Kafka, *records: Decision | bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})
    _produce(producer, records)
    assert producer.flush(10) == 0


def _produce(producer: Producer, records: Iterable[Decision | bytes]) -> None:
    for each in records:
        if isinstance(each, bytes):
            producer.produce(topics.DECISIONS, each, b"no key", 0)
            continue
        key, number = decisions.key(each.cause, each.subject), subjects.partition(each.subject)
        producer.produce(topics.DECISIONS, decisions.encoder.encode(each), key, number)


def wait_committed(kafka: Kafka, notify: Notify) -> None:
    """Return when its group has committed all that the topic holds."""
    group = notify.config.read_text().partition('group = "')[2].partition('"')[0]
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    places = [TopicPartition(topics.DECISIONS, number) for number in range(subjects.PARTITIONS)]
    try:
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        wait_until(
            lambda: all(
                place.offset >= end for place, end in zip(consumer.committed(places, timeout=10), ends, strict=True)
            ),
            20,
            "the commit",
            0.2,
        )
    finally:
        consumer.close()


def test_a_decision_is_told_within_seconds_and_once(notify: Notify, kafka: Kafka, webhook: Webhook) -> None:
    alice, bob = name(), name()
    first = decision(alice)
    began = time.monotonic()
    write(kafka, first)
    post = webhook.wait_for(alice, 10)
    assert time.monotonic() - began < 3
    assert post.title == f"Weir blocked {alice}: 61 messages in 60 s"
    assert f"weir release sasl_username:{alice} --reason" in post.message
    assert post.type == "warning"
    write(kafka, decision(alice, since=first.since, change=1, until=first.until + 60))
    write(kafka, decision(alice, cause="limit"), b"garbage", b'{"version":7}')
    write(kafka, decision(bob))
    webhook.wait_for(bob)
    assert len(webhook.posts) == 2
    wait_until(lambda: notify.metrics()["weir_notify_not_understood_total"] == 2, 10, "garbage to be counted")
    assert notify.metrics()["weir_notify_sent_total 1 JSON"] == 2
    assert notify.restarts == 0


def test_what_was_never_committed_is_not_told(notify: Notify, kafka: Kafka, webhook: Webhook) -> None:
    aborted, committed = name(), name()
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"test-{aborted}"})
    producer.init_transactions(10)
    producer.begin_transaction()
    _produce(producer, [decision(aborted)])
    producer.flush(10)
    producer.abort_transaction(10)
    write(kafka, decision(committed))
    webhook.wait_for(committed)
    assert not webhook.naming(aborted)


def test_kill_9_between_send_and_commit_tells_again_and_loses_nothing(
    notify: Notify, kafka: Kafka, webhook: Webhook
) -> None:
    first, second, third = name(), name(), name()
    webhook.before_answer = notify.kill
    write(kafka, decision(first))
    webhook.wait_for(first)
    write(kafka, decision(second))  # it may be away yet
    webhook.wait_for(second, 40)
    assert len(webhook.naming(first)) == 2
    wait_committed(kafka, notify)
    notify.kill()
    write(kafka, decision(third))
    webhook.wait_for(third, 40)
    assert (len(webhook.naming(first)), len(webhook.naming(second)), len(webhook.naming(third))) == (2, 1, 1)
    assert notify.restarts == 2


def test_what_came_while_it_was_away_is_told_and_what_is_over_only_counted(
    notify: Notify, kafka: Kafka, webhook: Webhook
) -> None:
    known, missed, over = name(), name(), name()
    shadow = decision(known, shadow=True, why_shadow="detector")
    write(kafka, shadow)
    webhook.wait_for(known)
    wait_committed(kafka, notify)
    assert notify.terminate() == 0
    write(kafka, decision(missed), decision(over, until=time.time() - 1))
    write(kafka, decision(known, since=shadow.since, change=1, shadow=True, why_shadow="detector"))
    notify.start()
    post = webhook.wait_for(missed, 40)
    assert "1 decision was over before anybody could be told" in post.message
    assert not webhook.naming(over)
    write(kafka, decision(known, since=shadow.since, change=2))
    assert webhook.wait_for(f"Weir blocked {known}").type == "warning"
    assert len(webhook.posts) == 3


def test_a_destination_that_is_away_holds_up_nobody_and_is_told_when_it_is_back(
    directory: Path, kafka: Kafka, webhook: Webhook
) -> None:
    account, later = name(), name()
    away = Webhook()
    with started(directory, kafka, [away.url, webhook.url]) as notify:
        write(kafka, decision(account))
        webhook.wait_for(account, 10)
        wait_until(lambda: notify.metrics()["weir_notify_failures_total 1 JSON"] >= 2, 20, "failures")
        write(kafka, decision(later))
        webhook.wait_for(later, 20)
        assert notify.metrics()["weir_notify_waiting 1 JSON"] == 2
        with away:
            away.status = 503
            away.wait_for(later, 40)
            away.status = 200
            wait_until(lambda: notify.metrics()["weir_notify_sent_total 1 JSON"] == 2, 60, "the alert")
            (*_, post) = away.posts
            assert account in post.message
            assert later in post.message
        assert len(webhook.posts) == 2
        wait_committed(kafka, notify)
        log = notify.log_path.read_text()
        assert "not sent, tried again" in log
        assert TOKEN not in log


def test_a_storm_makes_few_messages(notify: Notify, kafka: Kafka, webhook: Webhook) -> None:
    mark = name()
    records = [decision(f"{number}-{mark}") for number in range(500)]
    for start in range(0, 500, 50):  # over some seconds
        write(kafka, *records[start : start + 50])
        time.sleep(0.3)
    wait_until(lambda: notify.metrics()["weir_notify_sent_total 1 JSON"] == 500, 60, "all to be told")
    assert len(webhook.posts) <= 4
    assert sum(post.message.count("\n- ") for post in webhook.posts) <= 4 * 20
    assert any("others: weir decisions list" in post.message for post in webhook.posts)


def test_the_brake_is_one_page_over_a_restart_too(notify: Notify, kafka: Kafka, webhook: Webhook) -> None:
    mark, last = name(), name()
    held = [decision(f"{number}-{mark}", shadow=True, why_shadow="brake") for number in range(30)]
    write(kafka, *held[:20])
    assert webhook.wait_for("brake is on").type == "failure"
    wait_committed(kafka, notify)
    notify.kill()
    write(kafka, *held[20:], decision(last))
    webhook.wait_for(last, 40)
    assert len(webhook.naming("brake is on")) == 1
    write(kafka, decision(f"5-{mark}", since=held[5].since, change=1))
    webhook.wait_for(f"Weir blocked 5-{mark}")


def test_it_says_when_it_is_ready_and_ends_at_once(directory: Path, kafka: Kafka) -> None:
    """Even while it tries in vain; what it could not tell is told after the next start."""
    account = name()
    away = Webhook()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(directory / "manager"))
        manager.settimeout(20)
        with made(directory, kafka, [away.url], {"NOTIFY_SOCKET": str(directory / "manager")}) as notify:
            assert manager.recv(100) == b"READY=1"
            notify.wait_following()
            write(kafka, decision(account))
            wait_until(lambda: notify.metrics().get("weir_notify_failures_total 1 JSON"), 20, "a failure")
            began = time.monotonic()
            assert notify.terminate() == 0
            assert time.monotonic() - began < 3
            assert manager.recv(100) == b"STOPPING=1"
            with away:
                notify.start()
                away.wait_for(account, 40)


def test_two_of_them_share_the_work(directory: Path, kafka: Kafka, webhook: Webhook) -> None:
    accounts = [name() for _ in range(24)]
    with started(directory, kafka, [webhook.url]) as first:
        second = Notify("second", directory / "second", kafka.bootstrap, [webhook.url])
        second.config.write_text(first.config.read_text().replace(first.metrics_address, second.metrics_address))
        with second:
            second.wait_following()
            write(kafka, *map(decision, accounts[:12]))
            for account in accounts[:12]:
                webhook.wait_for(account)
            assert first.metrics()["weir_notify_sent_total 1 JSON"] > 0
            assert second.metrics()["weir_notify_sent_total 1 JSON"] > 0
            first.freeze()
            write(kafka, *map(decision, accounts[12:]))
            for account in accounts[12:]:
                webhook.wait_for(account, 60)
            first.thaw()


def test_mail_goes_by_a_real_postfix(directory: Path, kafka: Kafka) -> None:
    account, folder = name(), directory / "mail"
    folder.mkdir()
    folder.chmod(0o777)  # for the sink's user
    users = {"weir@example.org": "pw-of-weir"}
    with (
        Dovecot(directory / "dovecot", users) as dovecot,
        MailSink("127.0.0.71", free_port("127.0.0.71"), directory / "sink", ("-d", f"{folder}/")) as sink,
        PostfixHost(
            "mx71", "127.0.0.71", directory / "mx71", "", dovecot.sasl_path, sink=sink.address, placements=()
        ) as postfix,
    ):
        query = "from=weir@example.org&to=oncall@example.org&mode=insecure"
        url = f"mailto://weir%40example.org:pw-of-weir@127.0.0.71:{postfix.port}?{query}"
        with started(directory, kafka, [url]):
            write(kafka, decision(account))
            (mail,) = wait_until(lambda: list(folder.iterdir()), 30, "the mail")
            wait_until(lambda: f"release sasl_username:{account}" in read(mail), 10, "the text")
            assert f"Subject: Weir blocked {account}: 61 messages in 60 s" in read(mail)


def read(mail: Path) -> str:
    """A message as a person reads it, more or less."""
    return quopri.decodestring(mail.read_bytes()).decode().replace("&nbsp;", " ")


def test_a_test_says_which_destinations_work(webhook: Webhook) -> None:
    away = Webhook()
    done = _test(webhook.url, away.url)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "1 JSON: sent"
    assert done.stdout.splitlines()[1].startswith("2 JSON: not sent: ")
    assert TOKEN not in done.stdout + done.stderr
    assert [post.title for post in webhook.posts] == ["Weir: a test"]
    assert _test(webhook.url).returncode == 0


def _test(*urls: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "weir.cli", "notify", "--test"],
        cwd=CHECKOUT,
        env=os.environ | {"WEIR_NOTIFY_URLS": " ".join(urls), "WEIR_CONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_assignment_without_its_committed_offsets_is_begun_anew(kafka: Kafka) -> None:
    """Else nobody would know what is new."""
    failures = [KafkaException(KafkaError(KafkaError._TIMED_OUT))]

    class Failing(DecisionSource):
        def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
            if failures:
                raise failures.pop()
            super()._assigned(consumer, partitions)

    bootstrap, group = kafka.bootstrap, f"notify-{name()}".replace("@", ".")
    source = Failing(Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap), notify=NotifySettings(group=group)))
    try:
        known = wait_until(lambda: source.read() and source._starts, 30, "an assignment")
        assert not failures
        assert set(known) == set(range(subjects.PARTITIONS))
        account = name()
        write(kafka, decision(account))
        wait_until(
            lambda: [one for one in source.read() if one.new and account in (one.value or b"").decode()],
            20,
            "the record",
        )
    finally:
        source.close()


def test_kafka_is_away_at_the_start_and_again_later(directory: Path, kafka: Kafka, webhook: Webhook) -> None:
    """The last test: the broker is stopped."""
    first, second = name(), name()
    kafka.stop()
    with made(directory, kafka, [webhook.url]) as notify:
        notify.wait_ready(notify.metrics, 20)
        kafka.start()
        notify.wait_following(60)
        write(kafka, decision(first))
        webhook.wait_for(first)
        kafka.process.signal(signal.SIGKILL)
        kafka.process.wait(10)
        kafka.start()
        write(kafka, decision(second))
        webhook.wait_for(second, 60)
        wait_committed(kafka, notify)
        assert len(webhook.posts) == 2
        assert notify.restarts == 0
