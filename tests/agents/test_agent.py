"""The agent apart from its sockets and Kafka, with a spool and a snapshot of its own."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from agents.agent import Agent, read_for_rules
from agents.follower import Record
from agents.maillog.asked import AskedMessages
from agents.policy_protocol import PolicyRequest, parse
from agents.snapshot import Snapshot
from agents.spool import Spool
from tests.agents.test_decisions import decision
from weir import __version__, decisions, events, operators, subjects, tallies, topics
from weir.events import Event, Heartbeat, Request, Submitted
from weir.operators import Word

ALICE = "sasl_username:alice@example.org"
CLIENT = "client_address:192.0.2.9"


class Running:
    """An agent, and what came of it."""

    def __init__(self, directory: Path, engine: Any = None) -> None:
        self.spool = Spool(directory, "mx1", 2**30)
        self.snapshot = Snapshot(directory / "decisions.snapshot")
        self.spool.open()
        self.agent = Agent("mx1", "example.org", self.spool, self.snapshot, engine)
        self.agent.recall(time.time())
        self.snapshot.start()

    def stop(self) -> list[Event]:
        """All events that the spool holds then."""
        self.snapshot.close()
        self.spool.close()
        return list(self.spool.recent(0.0))

    def ask(self, **attributes: str) -> str:
        written: list[bytes] = []
        self.begin(written.append, **attributes)
        self.agent.settle()
        (reply,) = written
        return reply.decode().removeprefix("action=").removesuffix("\n\n")

    def begin(self, write: Callable[[bytes], None], **attributes: str) -> None:
        """Ask; the answer is written when it is known."""
        lines = {"request": "smtpd_access_policy", "client_address": "192.0.2.9", "instance": "i"} | attributes
        raw = "\n".join(f"{name}={value}" for name, value in lines.items()).encode()
        if self.agent.engine is None:
            self.agent.answer(parse(raw), write)
        else:
            self.agent.answer_by_rules(read_for_rules(raw), write)


@pytest.fixture
def running(tmp_path: Path) -> Running:
    return Running(tmp_path)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def record(topic: str, offset: int, key: bytes, value: bytes | None) -> Record:
    return Record(topic, 0, offset, key, value, time.time(), time.time())


def blocked(offset: int, subject: str = ALICE) -> Record:
    now = time.time()
    made = decision(subject, until=now + 60)
    made.evidence.time = now
    return record(topics.DECISIONS, offset, decisions.key("burst", subject), decisions.encoder.encode(made))


def echoed(offset: int, partition: int, next_offset: int) -> Record:
    value = msgspec.json.encode({"version": 1, "partition": partition, "next": next_offset, "worker": "w"})
    return record(topics.ECHO, offset, str(partition).encode(), value)


def test_a_request_is_answered_counted_and_kept(running: Running) -> None:
    assert running.ask(protocol_state="RCPT", sasl_username="Alice", recipient="x@y") == "DUNNO"
    assert (
        running.ask(protocol_state="END-OF-MESSAGE", sasl_username="Alice", recipient_count="3", size="700") == "DUNNO"
    )
    first, second = running.stop()
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert (first.seq, first.sasl_username, first.recipient, first.action) == (1, "alice@example.org", "x@y", "DUNNO")
    assert (first.messages, first.recipients, first.attempted_recipients) == (1, 1, 1)
    assert (second.seq, second.messages, second.recipients, second.bytes) == (2, 0, 2, 700)
    assert {tally.subject for tally in tallies.tallies(second)} == {ALICE, CLIENT}
    assert running.agent.requests == {("RCPT", "dunno"): 1, ("END-OF-MESSAGE", "dunno"): 1}


def test_the_reply_comes_before_everything_else(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    append = running.spool.append

    def recorded(event: Event) -> None:
        order.append("event")
        append(event)

    monkeypatch.setattr(running.spool, "append", recorded)
    for _ in range(2):
        request = PolicyRequest(seq=0, time=0.0, protocol_state="RCPT")
        running.agent.answer(request, lambda _: order.append("reply"))
    running.agent.settle()
    running.stop()
    assert order == ["reply", "reply", "event", "event"]


def test_a_client_cannot_set_what_is_no_attribute(running: Running) -> None:
    attributes = {"protocol_state": "RCPT", "sasl_username": "alice", "sender": "a@b"}
    forged = {
        "seq": "77",
        "time": "5",
        "clock_offset": "5",
        "action": "521 no",
        "decision": "abc",
        "rule": "R-1",
        "limits": "x",
        "cut": "true",
        "messages": "5",
        "recipients": "5",
        "bytes": "5",
        "attempted_messages": "5",
        "attempted_recipients": "5",
    }
    assert {*forged} == {*Request.__struct_fields__} - {*PolicyRequest.__annotations__}
    running.ask(**attributes, instance="1")
    running.ask(**attributes, instance="2", **forged)
    running.ask(**attributes, instance="3", **forged, helo_name='"')
    first, *others = running.stop()
    assert isinstance(first, Request)
    for number, other in enumerate(others, start=2):
        assert isinstance(other, Request)
        assert 0 <= other.time - first.time < 10
        same = {"seq": 1, "time": first.time, "instance": "1", "helo_name": ""}
        assert other.seq == number
        assert msgspec.structs.replace(other, **same) == first


def test_a_decision_blocks_and_its_event_says_so(running: Running) -> None:
    running.agent.learn([blocked(0)], time.time())
    action = running.ask(protocol_state="RCPT", sasl_username="alice@example.org")
    assert action == decision(ALICE).action
    (event,) = running.stop()
    assert isinstance(event, Request)
    assert (event.action, event.decision) == (action, decision(ALICE).id)
    assert (event.messages, event.attempted_messages) == (0, 1)


def test_times_are_judged_by_the_brokers_clock(running: Running) -> None:
    """This host's clock is an hour ahead: for the fleet the block has not ended yet."""
    now = time.time()
    running.agent.learn([echoed(0, 0, 1)._replace(time=now - 3600)], now)
    made = decision(ALICE, until=now - 1800)
    value = decisions.encoder.encode(made)
    running.agent.learn([record(topics.DECISIONS, 0, decisions.key("burst", ALICE), value)], now)
    assert running.ask(protocol_state="RCPT", sasl_username="alice") == made.action
    (event,) = running.stop()
    assert event.clock_offset == pytest.approx(3600, abs=1)


def test_a_decision_applied_is_told_and_measured_once_the_topics_are_read(running: Running, logs: list[Any]) -> None:
    running.agent.learn([blocked(0, CLIENT)], time.time())
    assert logs == []
    running.agent.finish_reading(time.time())
    running.agent.learn([blocked(1)], time.time())
    running.stop()
    assert [(entry["event"], entry["subject"], entry["cause"]) for entry in logs] == [
        ("decision applied", ALICE, "burst")
    ]
    assert 0 <= logs[0]["delay_ms"] < 5000
    samples = {sample.name: sample.value for metric in running.agent.delays.collect() for sample in metric.samples}
    assert samples["weir_agent_decision_delay_seconds_count"] == 1


def test_what_was_known_and_under_way_is_known_after_a_restart(running: Running, tmp_path: Path) -> None:
    running.ask(protocol_state="RCPT", sasl_username="bob")
    running.agent.learn([blocked(0)], time.time())
    word = Word(operators.VERSION, "op", "block", CLIENT, "me", "why", time.time() + 60, "521 by hand")
    running.agent.learn(
        [record(topics.OPERATORS, 0, operators.key(word), operators.encoder.encode(word))._replace(time=time.time())],
        time.time(),
    )
    running.stop()
    again = Running(tmp_path)
    assert again.ask(protocol_state="RCPT", sasl_username="alice", client_address="192.0.2.1") == decision(ALICE).action
    assert again.ask(protocol_state="RCPT", sasl_username="carol") == "521 by hand"
    end = {"protocol_state": "END-OF-MESSAGE", "recipient_count": "1", "size": "5"}
    again.ask(**end, sasl_username="bob", client_address="192.0.2.1")
    last = again.stop()[-1]
    assert isinstance(last, Request)
    assert (last.messages, last.recipients, last.bytes) == (0, 0, 5), "its recipient was counted before"


def test_garbage_in_any_topic_is_counted_and_told_once(running: Running, logs: list[Any]) -> None:
    garbage = [b"", b"\xff", b"{}", b"[" * 100_000, b'{"partition":12,"next":1}', None]
    for offset, value in enumerate(garbage):
        for topic in (topics.DECISIONS, topics.OPERATORS, topics.ECHO):
            running.agent.learn([record(topic, offset, b"\xff", value)], time.time())
    assert running.agent.knowledge.garbage == 18
    running.agent.tick(time.time())
    running.agent.tick(time.time())
    assert [entry["count"] for entry in logs] == [18]
    assert running.ask(protocol_state="RCPT") == "DUNNO"
    running.stop()


def test_garbage_does_not_replace_the_last_good_in_the_snapshot(running: Running, tmp_path: Path) -> None:
    good = blocked(0)
    running.agent.learn([good, good._replace(offset=1, value=b"garbage")], time.time())
    running.agent.finish_reading(time.time())
    running.stop()
    again = Running(tmp_path)
    assert again.ask(protocol_state="RCPT", sasl_username="alice") == decision(ALICE).action
    again.stop()


def test_what_is_read_again_goes_into_the_snapshot_once(running: Running, tmp_path: Path) -> None:
    """A crash in the midst of reading must not leave an older record as the last of its key."""
    block, lift = blocked(0), blocked(0)._replace(offset=1, value=None)
    running.agent.learn([block, lift], time.time())
    running.stop()
    again = Running(tmp_path)
    again.agent.learn([block], time.time())
    again.stop()
    third = Running(tmp_path)
    third.agent.learn([block, lift], time.time())
    third.agent.finish_reading(time.time())
    assert third.ask(protocol_state="RCPT", sasl_username="alice") == "DUNNO"
    third.stop()


def test_heartbeat_tells_the_agents_state_and_speaks_for_quiet_partitions(running: Running) -> None:
    now = time.time()
    running.ask(protocol_state="RCPT", sasl_username="alice")
    running.agent.heartbeat(now)
    running.agent.heartbeat(now + 1)
    running.agent.finish_reading(now)
    running.agent.heartbeat(now + 6)
    _, first, second, third = running.stop()
    assert isinstance(first, Heartbeat)
    assert isinstance(second, Heartbeat)
    assert isinstance(third, Heartbeat)
    spoken = {subjects.partition(ALICE), subjects.partition(CLIENT)}
    assert {*first.quiet_partitions} == {*range(12)} - spoken
    assert second.quiet_partitions == []
    assert third.quiet_partitions == [*range(12)]
    assert (first.host, first.version, first.stale, third.stale) == ("mx1", __version__, True, False)


def test_counting_alone_is_told_once_and_so_is_its_end(running: Running, logs: list[Any]) -> None:
    start = time.time()

    def tick(at: float, echo: bool = False) -> None:
        if echo:
            for partition in range(12):
                running.agent.freshness.echo(partition, 1, at, at)
        running.agent.tick(at)

    tick(start + 5)
    assert logs == [], "it has just started"
    tick(start + 11)
    tick(start + 12)
    tick(start + 13, echo=True)
    tick(start + 14, echo=True)
    tick(start + 30)
    running.stop()
    assert [entry["event"].split(":")[0] for entry in logs] == [
        "counting alone",
        "counted with the fleet again",
        "counting alone",
    ]


def test_an_event_of_the_longest_texts_fits(running: Running) -> None:
    texts = dict.fromkeys(
        ("sender", "recipient", "client_name", "helo_name", "instance", "queue_id", "policy_context"), "\1" * 8000
    )
    running.ask(protocol_state="RCPT", sasl_username="ü" * 4000, **texts)
    (event,) = running.stop()
    assert isinstance(event, Request)
    assert event.cut
    assert len(events.encoder.encode(event)) < 64 * 1024


def test_what_the_mail_log_tells_is_kept_with_its_position_and_unasked_mail_is_counted(running: Running) -> None:
    mail = [Submitted(seq=0, time=1.0, queue_id=f"A{number}", unasked=number < 2) for number in range(3)]
    running.agent.read(mail, b'{"version":1}')
    running.agent.heartbeat(time.time())
    *kept, heartbeat = running.stop()
    assert kept == mail
    assert [event.seq for event in kept] == [1, 2, 3]
    assert running.spool.log_position == b'{"version":1}'
    assert isinstance(heartbeat, Heartbeat)
    assert heartbeat.unasked == 2


def test_requests_are_remembered_for_the_mail_log_over_a_restart_too(tmp_path: Path) -> None:
    first = Running(tmp_path)
    first.agent.asked = AskedMessages()
    first.ask(protocol_state="RCPT", instance="4703.6b05ae03.c4c9.0")
    first.ask(protocol_state="END-OF-MESSAGE", instance="4703.6b05ae03.c4c9.0", queue_id="A1", recipient_count="1")
    assert first.agent.asked.knows("A1")
    first.stop()
    again = Running(tmp_path)
    again.agent.asked = asked = AskedMessages()
    again.agent.recall(time.time())
    assert asked.knows("A1")
    assert asked.began("4jYmyW0Nsyz1SWGt", 0x4703, time.time())
    again.stop()


def said(offset: int, kind: Any, queue: Any = "", subject: str = ALICE) -> Record:
    word = Word(operators.VERSION, f"w{offset}", kind, subject, "me", "why", time.time() + 0.001, "521 x", queue)
    return record(topics.OPERATORS, offset, operators.key(word), operators.encoder.encode(word))


def test_a_release_that_nobody_was_here_for_is_found_until_something_comes_after_it(running: Running) -> None:
    agent = running.agent
    assert agent.released(ALICE) is None
    agent.learn([said(0, "block"), said(1, "release", "delete")], time.time())
    found = agent.released(ALICE)
    assert found is not None
    assert (found[0].id, found[0].queue) == ("w1", "delete")
    agent.learn([blocked(0)._replace(time=time.time() + 1)], time.time())
    assert bool(agent.cause(ALICE)) == (agent.released(ALICE) is None)
    agent.learn([said(2, "release", "leave"), said(3, "block")], time.time())
    time.sleep(0.002)  # that block is over
    assert agent.cause(ALICE) == ""
    assert agent.released(ALICE) is None, "it was spoken of after the release"
    running.stop()
