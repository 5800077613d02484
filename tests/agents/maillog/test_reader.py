"""The mail log's threads: how far it was read, and what is known again after a stop."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from agents.agent import Agent
from agents.maillog import again, reader
from agents.maillog.asked import AskedMessages
from agents.maillog.metrics import MailLogCollector
from agents.maillog.position import Position
from agents.maillog.reader import MailLog
from agents.maillog.rotation import Lost
from agents.maillog.telling import Told
from fleet.process import wait_until
from weir import settings
from weir.events import Delivery, Removed

A = "4jYmyW0Nsyz1SWGt"
HEAD = "2026-11-24T15:32:00+00:00 mx1 postfix"
SUBMIT = (
    f"{HEAD}/smtpd[7]: {A}: client=unknown[192.0.2.1], sasl_method=PLAIN, sasl_username=alice@weir.test\n"
    f"{HEAD}/qmgr[8]: {A}: from=<alice@weir.test>, size=333, nrcpt=1 (queue active)\n"
)
DELIVER = f"{HEAD}/smtp[9]: {A}: to=<x@dest.test>, relay=none, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (ok)\n"
REMOVE = f"{HEAD}/qmgr[8]: {A}: removed\n"
SECOND = "127.0.0.1[127.0.0.1]"


class Spool:
    """Takes what is told, and has written it at once."""

    def __init__(self) -> None:
        self.events: list[Told] = []
        self.position: bytes | None = None
        self.room = threading.Event()
        self.room.set()
        self.ended = False

    def tell(self, events: list[Told], position: bytes) -> bool:
        while not self.room.wait(0.01):
            if self.ended:
                return False
        self.events += events
        self.position = position
        return True


class Host:
    def __init__(self, folder: Path) -> None:
        self.log = folder / "mail.log"
        self.log.touch()
        self.kept = folder / "messages"
        self.spool = Spool()

    @contextmanager
    def following(self, options: settings.Log | None = None) -> Iterator[MailLog]:
        options = options or settings.Log(files=[str(self.log)])
        spool = self.spool
        one = MailLog(options, "", self.kept, AskedMessages(), spool.tell, lambda: spool.position)
        one.start()
        try:
            wait_until(lambda: options.files[0].encode() in (spool.position or b""), 5, "the first position")
            yield one
        finally:
            one.stop()

    def write(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def wait(self, *kinds: type) -> None:
        wait_until(lambda: [type(event) for event in self.spool.events][-len(kinds) :] == list(kinds), 5, f"{kinds}")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(reader, "TICK_SECONDS", 0.01)
    return Host(tmp_path)


def test_a_message_is_known_after_a_stop(host: Host) -> None:
    with host.following():
        host.write(SUBMIT)
        wait_until(lambda: len(host.spool.events) == 2, 5, "the submission")
    with host.following() as log:
        host.write(DELIVER)
        host.wait(Delivery)
        assert [one[:3] for one in log.looks.queued("sasl_username:alice@weir.test")] == [("postfix", A, False)]
    (event,) = host.spool.events[2:]
    assert isinstance(event, Delivery)
    assert event.sasl_username == "alice@weir.test"


def test_lines_after_what_was_kept_are_known_but_not_told_again(host: Host) -> None:
    with host.following():
        wait_until(host.kept.exists, 5, "the file")
        early = host.kept.read_bytes()
        host.write(SUBMIT)
        wait_until(lambda: len(host.spool.events) == 2, 5, "the submission")
    host.kept.write_bytes(early)
    host.log.rename(host.log.with_name("mail.log.1"))
    host.write(DELIVER)
    with host.following():
        host.wait(Delivery)
    (event,) = host.spool.events[2:]
    assert isinstance(event, Delivery)
    assert event.sasl_username == "alice@weir.test"


@pytest.mark.parametrize("damage", [b"", b"no JSON\n"])
def test_without_what_was_kept_each_line_is_told_all_the_same(host: Host, damage: bytes) -> None:
    with host.following():
        host.write(SUBMIT)
        wait_until(lambda: len(host.spool.events) == 2, 5, "the submission")
    host.kept.write_bytes(damage)
    with host.following():
        host.write(DELIVER + REMOVE)
        host.wait(Delivery, Removed)
    assert len(host.spool.events) == 4


def test_what_became_of_a_notification_names_the_message_that_it_tells_of(host: Host) -> None:
    notification = A.replace("4j", "4k")
    bounced = DELIVER.replace("status=sent (ok)", "status=bounced (no)")
    made = (
        f"{HEAD}/cleanup[6]: {notification}: message-id=<2@mx1.test>\n"
        f"{HEAD}/bounce[5]: {A}: sender non-delivery notification: {notification}\n"
        f"{HEAD}/qmgr[8]: {notification}: from=<>, size=2333, nrcpt=1 (queue active)\n"
    )
    with host.following():
        host.write(SUBMIT + bounced + made + (DELIVER + REMOVE).replace(A, notification))
        host.wait(Delivery, Delivery, Removed)
    first, *rest = (event for event in host.spool.events if isinstance(event, Delivery | Removed))
    assert (first.queue_id, first.parent) == (A, "")
    assert [(event.queue_id, event.parent, event.sasl_username) for event in rest] == [(notification, A, "")] * 2


def test_what_is_in_the_log_at_the_first_start_is_not_told(host: Host) -> None:
    host.write(SUBMIT)
    with host.following():
        host.write(DELIVER)
        host.wait(Delivery)
    assert len(host.spool.events) == 1


def test_what_waits_is_told_while_the_log_is_silent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LATE_SECONDS", -20.0)
    local = SUBMIT.replace("unknown[192.0.2.1], sasl_method=PLAIN, sasl_username=alice@weir.test", SECOND)
    with host.following():
        host.write(local)
        wait_until(lambda: host.spool.events, 5, "the submission")
    position = msgspec.json.decode(host.spool.position or b"", type=Position)
    assert position.waited > 0
    with host.following():
        host.write(REMOVE)
        host.wait(Removed)
    assert len(host.spool.events) == 2


def test_lines_that_found_no_room_come_at_the_next_start(host: Host) -> None:
    with host.following():
        host.spool.room.clear()
        host.write(SUBMIT)
        host.spool.ended = True
    assert host.spool.events == []
    host.spool.room.set()
    with host.following():
        wait_until(lambda: len(host.spool.events) == 2, 5, "the submission")


def test_a_log_that_is_not_followed_any_more_begins_at_its_end(host: Host) -> None:
    with host.following():
        pass
    with host.following(settings.Log(files=[str(host.log.with_name("other.log"))])):
        pass
    host.write(SUBMIT)
    with host.following():
        host.write(DELIVER)
        host.wait(Delivery)
    assert len(host.spool.events) == 1


def test_a_first_loss_is_a_rise(host: Host) -> None:
    """An alert on a counter's rise needs the counter before."""
    agent = cast(Agent, SimpleNamespace(unasked=0, holding=None))

    def losses(log: MailLog) -> dict[str, float]:
        (family,) = [one for one in MailLogCollector(log, agent).collect() if one.name == "weir_agent_log_losses"]
        return {sample.labels["reason"]: sample.value for sample in family.samples}

    with host.following() as log:
        assert losses(log) == {reason.value: 0 for reason in Lost}
        host.write("x" * 20_000 + "\n")
        wait_until(lambda: losses(log)["too long"] == 1, 5, "the loss")


def test_entries_of_the_journal_between_two_cursors(tmp_path: Path) -> None:
    program = tmp_path / "journalctl"
    entries = "".join(f'{{"__CURSOR":"{cursor}"}}\n' for cursor in "abcde")
    program.write_text(f"#!/bin/sh\nprintf '%s' '{entries}'\n")
    program.chmod(0o755)
    found = [line for lines in again.of_journal("a", "c", (str(program),)) for line in lines]
    assert found == [b'{"__CURSOR":"b"}', b'{"__CURSOR":"c"}']
    assert list(again.of_journal("x", "c", (str(program),))) == []
    assert list(again.of_journal("", "c", (str(program),))) == []
