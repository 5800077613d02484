"""`weir sink`, `history`, `dead` and `forget` as their users run them: a real Kafka, a history without a server."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Sink
from fleet.process import free_port, wait_until
from sinks.reader import reader
from tests.faults.system import create_topics
from tests.fleet.conftest import directory
from tests.sinks.made import Way, envelope, event, login
from weir import topics
from weir.settings import History

__all__ = ["directory"]

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(120)]

ALICE = "alice@example.org"


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture(scope="module")
def sink(directory: Path, kafka: Kafka) -> Iterator[Sink]:
    with Sink("sink", directory / "sink", kafka.bootstrap) as started:
        yield started


def weir(sink: Sink, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weir.cli", "--config", str(sink.config), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)


def write(kafka: Kafka, value: bytes, host: str = "mx1") -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(topics.EVENTS, value, host)
    assert producer.flush(10) == 0


def count(sink: Sink, epoch: str) -> int:
    with reader(History(listen=sink.queries)) as history:
        ((number,),) = history.query(f"SELECT count() FROM events FINAL WHERE epoch = '{epoch}'")
    return int(number)


def wait_stored(sink: Sink, epoch: str, number: int) -> None:
    wait_until(lambda: "weir_sink_lag" in sink.metrics(), 30, "the sink to start")
    wait_until(lambda: count(sink, epoch) == number, 30, f"{number} events of epoch {epoch}", 0.1)
    wait_until(lambda: summed(sink), 30, "their sums", 0.1)


def summed(sink: Sink) -> bool:
    """Whether all events are in the sums of minutes."""
    with reader(History(listen=sink.queries)) as history:
        ((events,),) = history.query("SELECT count() FROM events FINAL WHERE kind = 'request'")
        ((sums,),) = history.query("SELECT sum(events) FROM minutes FINAL")
    return bool(events == sums)


def test_what_an_account_did_and_what_became_of_it(kafka: Kafka, sink: Sink) -> None:
    now = time.time()
    refused = event(3, time=now - 1, action="521 5.7.1 no [weir burst 0123456789ab]", decision="0123456789ab")
    write(
        kafka, envelope([event(1, time=now - 90_000), event(2, time=now - 60, sender="a\x1b[2J"), refused], epoch="h")
    )
    said = weir(sink, "block", ALICE, "--for", "1h", "--reason", "on the phone")
    assert said.returncode == 0, said.stderr
    wait_stored(sink, "h", 3)
    wait_until(lambda: "on the phone" in weir(sink, "history", ALICE).stdout, 20, "the word to be stored", 0.5)

    shown = weir(sink, "history", ALICE)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(
        f"sasl_username:{ALICE}, last 1d: 2 messages to 4 recipients, 1 refused, 1 client, 1 host"
    )
    assert len(lines) == 1 + 1 + 3  # the sums, the headings, two requests and the word
    assert "\x1b" not in shown.stdout
    found = json.loads(weir(sink, "history", "192.0.2.10", "--since", "7d", "--json").stdout)
    assert [one["kind"] for one in found["entries"]] == ["request"] * 3
    assert found["sums"]["messages"] == 3
    assert weir(sink, "history", ALICE, "--kind", "word").stdout.count("on the phone") == 1
    assert weir(sink, "history", ALICE, "--host", "mx1", "--since", "30s").stdout.count("521 5.7.1") == 1

    nothing = weir(sink, "history", "nobody@example.org")
    assert nothing.returncode == 1
    assert "holds nothing" in nothing.stderr
    assert weir(sink, "history", ALICE, "--since", "soon").returncode == 2


def test_the_way_of_a_message_is_traced(kafka: Kafka, sink: Sink) -> None:
    now = round(time.time()) - 100
    way = Way(3, "4bTRBCF001", now, message_id="<way@a.example>")
    way.submitted(now).delivery("bounced", now + 2, bounce="listed", text="550 no\x1b[2J").removed(time=now + 3)
    asked = [
        event(1, time=now - 1, instance="w1"),
        event(2, time=now + 1, instance="w1", queue_id="4bTRBCF001", protocol_state="END-OF-MESSAGE"),
    ]
    like_her = Way(20, "4bTRBCF002", now, message_id=f"<{ALICE}>", sasl_username="mallory@example.org").submitted(now)
    tried = login(9, time=now, failed="credentials", tries=4)
    write(kafka, envelope([*asked, *way.events, tried, *like_her.events], epoch="t"))
    wait_stored(sink, "t", 7)

    shown = weir(sink, "trace", "way@a.example")
    assert shown.returncode == 0, shown.stderr
    lines = [line.rstrip() for line in shown.stdout.splitlines()[1:]]
    kinds = ["RCPT", "submitted", "END-OF-MESSAGE", "delivery", "removed"]
    assert [kind in line for line, kind in zip(lines, kinds, strict=True)] == [True] * 5
    assert lines[3].endswith("bounced listed 550 no\\x1b[2J")
    found = json.loads(weir(sink, "trace", "4bTRBCF001", "--json").stdout)
    assert [one["kind"] for one in found["events"]] == ["request", "submitted", "request", "delivery", "removed"]

    table = weir(sink, "trace", ALICE)
    assert table.returncode == 0, table.stderr
    assert "1 bounced, removed" in table.stdout
    (message,) = json.loads(weir(sink, "trace", ALICE, "--json").stdout)["messages"]
    assert (message["message_id"], message["bounced"]) == ("<way@a.example>", 1)
    named = json.loads(weir(sink, "trace", f"<{ALICE}>", "--json").stdout)["events"]
    assert [one["sasl_username"] for one in named] == ["mallory@example.org"], "of that message id, not of that account"
    assert weir(sink, "trace", f"sasl_username:{ALICE}", "--since", "10s").returncode == 1
    nothing = weir(sink, "trace", "<nothing@a.example>")
    assert nothing.returncode == 1
    assert "no message of <nothing@a.example> in the last 7d" in nothing.stderr

    wait_until(lambda: "failed logins" in weir(sink, "history", ALICE).stdout, 20, "the sums of outcomes", 0.5)
    history = weir(sink, "history", ALICE).stdout
    assert "by the mail log: 1 submitted, 1 bounced (1 listed), 4 failed logins (4 credentials)" in history


def test_a_history_that_does_not_answer_is_one_clear_line(sink: Sink, tmp_path: Path) -> None:
    config = tmp_path / "weir.toml"
    for server in ("", f"127.0.0.1:{free_port()}"):
        config.write_text(f'[history]\nserver = "{server}"\nlisten = "127.0.0.1:{free_port()}"\n')
        command = [sys.executable, "-m", "weir.cli", "--config", str(config), "history", ALICE]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 3
        assert done.stderr.startswith("weir: history: ")
        assert done.stderr.count("\n") == 1


def test_a_second_sink_on_the_same_directory_says_so_and_ends(kafka: Kafka, sink: Sink, tmp_path: Path) -> None:
    wait_until(lambda: sink.metrics() != {}, 20, "the first sink")
    config = tmp_path / "weir.toml"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka.bootstrap}"\n'
        f'[history]\npath = "{sink.path}"\nlisten = "127.0.0.1:{free_port()}"\nmetrics = ""\n'
    )
    command = [sys.executable, "-m", "weir.cli", "--config", str(config), "sink"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"weir: cannot open the history in {sink.path}")


def test_a_dead_letter_is_listed_shown_and_sent_once_more(kafka: Kafka, sink: Sink) -> None:
    wait_stored(sink, "d", 0)
    good = [event(seq, time=time.time()) for seq in (1, 2, 4)]
    bad = b'{"kind":"request","seq":3,"time":1e99,"protocol_state":"RCPT"}'
    write(kafka, envelope([*good[:2], bad, good[2]], epoch="d"))
    wait_stored(sink, "d", 3)
    wait_until(lambda: sink.metrics()["weir_sink_dead_total"] == 1.0, 20, "the dead letter")

    (listed,) = json.loads(weir(sink, "dead", "list", "--json").stdout)
    assert listed["by"] == "sink"
    assert "time" in listed["error"]
    assert listed["id"] in weir(sink, "dead", "list").stdout
    shown = json.loads(weir(sink, "dead", "show", listed["id"], "--json").stdout)
    assert shown["value"].splitlines()[1] == bad.decode()
    assert shown["key"] == "mx1"
    assert bad.decode() in weir(sink, "dead", "show", listed["id"]).stdout

    before = sink.metrics()["weir_sink_dead_total"]
    assert weir(sink, "dead", "replay", listed["id"]).returncode == 0
    wait_until(lambda: sink.metrics()["weir_sink_dead_total"] > before, 20, "it to be found once more")
    assert count(sink, "d") == 3
    assert weir(sink, "dead", "replay", "weir.events/0/999999").returncode == 1
    assert weir(sink, "dead", "show", "nonsense").returncode == 1


def test_an_event_that_is_replayed_is_stored_although_later_ones_are(kafka: Kafka, sink: Sink) -> None:
    """What a newer sink understands, an older one had put aside."""
    wait_stored(sink, "r", 0)
    now = time.time()  # an event that comes again has its time
    write(kafka, envelope([event(7, time=now)], epoch="r"))
    wait_stored(sink, "r", 1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    late = envelope([event(seq, time=now) for seq in (5, 7)], epoch="r")
    producer.produce(topics.EVENTS, late, "mx1")
    producer.produce(topics.EVENTS, late, "mx1", headers={"weir-replay": b"1"})
    assert producer.flush(10) == 0
    wait_stored(sink, "r", 2)


def test_a_person_is_forgotten_once_the_sink_is_stopped(kafka: Kafka, sink: Sink) -> None:
    write(kafka, envelope([event(1, time=time.time(), sasl_username="gone@example.org")], epoch="f"))
    wait_stored(sink, "f", 1)
    refused = weir(sink, "forget", "gone@example.org", "--yes")
    assert refused.returncode == 4
    assert "stop the sink" in refused.stderr
    sink.terminate()
    done = weir(sink, "forget", "gone@example.org", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["forgotten"]["events"] == 1
    assert weir(sink, "forget", "gone@example.org", "--yes").returncode == 1
    with_answer = subprocess.run(
        [sys.executable, "-m", "weir.cli", "--config", str(sink.config), "forget", "other@example.org"],
        cwd=CHECKOUT,
        input="n\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert with_answer.returncode == 1
