"""Tracker: every outcome counts for the one who sent the message, and for nobody else."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.maillog import under_way
from agents.maillog.filters import WAIT
from agents.maillog.outcomes import Accepted, Began, Delivered, Ended, Held, LoggedIn, Message, Outcome, Refused
from agents.maillog.tracker import Tracker
from tests.weir.maillog.test_lines import mutated
from weir.events import MAX_TEXT
from weir.maillog.bounces import Kind
from weir.maillog.lines import Parser

SAMPLES = Path(__file__).parents[2] / "weir" / "maillog" / "samples"
NOW = 1_795_600_000.0
A, B, C = "4jYmyW0Nsyz1SWGt", "4jYmz10rjVz1SWJs", "3F1A2B4C5D"
ALICE = "unknown[192.0.2.1]:4711, sasl_method=PLAIN, sasl_username=alice@weir.test"
BOB = "unknown[192.0.2.2]:4711, sasl_method=PLAIN, sasl_username=bob@weir.test"
LOOPBACK = "localhost[127.0.0.1]"
MX = "mx[192.0.2.9]:25"
DELAYS = "delay=1, delays=0/0/0/1"


class Log:
    """A log that is written and tracked line by line; all outcomes so far."""

    def __init__(self, kept: Tracker | None = None) -> None:
        self.tracker = Tracker() if kept is None else kept
        self.outcomes: list[Outcome] = []
        self.time = 0
        self._parser = Parser(lambda: NOW)

    def write(self, daemon: str, text: str, pid: int = 7) -> "Log":
        stamp = f"Nov 24 {self.time // 3600:02}:{self.time // 60 % 60:02}:{self.time % 60:02}"
        line = self._parser.parse(f"{stamp} mx1 postfix/{daemon}[{pid}]: {text}")
        assert line is not None
        assert line.message is not None, text
        self.outcomes += self.tracker.track(line)
        return self

    def wait(self, seconds: int) -> "Log":
        self.time += seconds
        return self

    def submit(self, queue_id: str, client: str = ALICE, pid: int = 7) -> "Log":
        return self.write("smtpd", f"{queue_id}: client={client}", pid)

    def queue(self, queue_id: str, sender: str = "alice@weir.test", recipients: int = 1) -> "Log":
        self.write("cleanup", f"{queue_id}: message-id=<{queue_id}@x>")
        return self.write("qmgr", f"{queue_id}: from=<{sender}>, size=333, nrcpt={recipients} (queue active)")

    def deliver(self, queue_id: str, text: str = "250 ok", status: str = "sent", relay: str = MX) -> "Log":
        dsn = {"sent": "2.0.0", "bounced": "5.1.1", "deferred": "4.2.2"}[status]
        result = f"dsn={dsn}, status={status} ({text})"
        return self.write("smtp", f"{queue_id}: to=<x@dest.test>, relay={relay}, {DELAYS}, {result}")

    def remove(self, queue_id: str) -> "Log":
        return self.write("qmgr", f"{queue_id}: removed")

    def only(self, kind: type) -> list[Outcome]:
        return [one for one in self.outcomes if isinstance(one, kind)]

    def delivered(self) -> list[tuple[str, str]]:
        return [(one.message.user, one.status) for one in self.outcomes if isinstance(one, Delivered)]


class TestOneMessage:
    def test_from_the_login_to_the_end(self) -> None:
        log = Log().submit(A, pid=18179).queue(A, recipients=2).wait(5)
        log.deliver(A).deliver(A, "host mx[192.0.2.9] said: 550 5.1.1 User unknown", "bounced").remove(A)
        began, accepted, sent, bounced, ended = log.outcomes[1:]
        assert log.outcomes[0] == LoggedIn(log.outcomes[0].time, "alice@weir.test", "192.0.2.1")
        assert isinstance(began, Began)
        assert isinstance(accepted, Accepted)
        assert isinstance(sent, Delivered)
        assert isinstance(bounced, Delivered)
        assert isinstance(ended, Ended)
        since = began.time
        assert began.pid == 18179
        assert accepted.message == Message(
            A,
            since,
            "alice@weir.test",
            client="192.0.2.1",
            message_id=f"{A}@x",
            sender="alice@weir.test",
            size=333,
            recipients=2,
            instance="postfix",
        )
        assert (sent.status, sent.bounce, sent.time) == ("sent", None, since + 5)
        assert bounced.bounce is not None
        assert (bounced.status, bounced.bounce.kind, bounced.recipient) == (
            "bounced",
            Kind.UNKNOWN_RECIPIENT,
            "x@dest.test",
        )
        assert ended.how == "removed"
        assert len(log.tracker.under_way) == 0

    def test_accepted_once_however_often_it_is_tried(self) -> None:
        log = Log().submit(A).queue(A).deliver(A, "host mx said: 452 4.2.2 over quota", "deferred")
        log.wait(600).write("qmgr", f"{A}: from=<alice@weir.test>, size=333, nrcpt=1 (queue active)").deliver(A).remove(
            A
        )
        assert len(log.only(Accepted)) == 1
        assert log.delivered() == [("alice@weir.test", "deferred"), ("alice@weir.test", "sent")]

    def test_a_header_that_is_there_twice_makes_no_other_message(self) -> None:
        """Postfix tells of each Message-ID: a sender who writes two would be nobody."""
        log = Log().submit(A)
        for line in ("message-id=<1@x>", "resent-message-id=<2@x>", "message-id=<3@x>"):
            log.write("cleanup", f"{A}: {line}")
        log.write("qmgr", f"{A}: from=<alice@weir.test>, size=333, nrcpt=1 (queue active)").deliver(A)
        (accepted,) = log.only(Accepted)
        assert isinstance(accepted, Accepted)
        assert (accepted.message.user, accepted.message.message_id) == ("alice@weir.test", "1@x")
        assert log.delivered() == [("alice@weir.test", "sent")]
        assert log.tracker.under_way.forgotten == 0

    def test_a_session_logs_in_once(self) -> None:
        log = Log().submit(A).submit(B).write("smtpd", "disconnect from unknown[192.0.2.1]:4711 ehlo=1").submit(C)
        assert len(log.only(LoggedIn)) == 2
        assert len(log.only(Began)) == 3

    def test_mail_of_a_local_program(self) -> None:
        log = Log().write("pickup", f"{A}: uid=33 from=<www-data>").queue(A, "www-data@weir.test").deliver(A).remove(A)
        assert [(one.message.uid, one.message.user) for one in log.only(Accepted) if isinstance(one, Accepted)] == [
            (33, "")
        ]

    def test_a_reply_of_a_local_program_is_nobodys(self) -> None:
        log = Log().write("pickup", f"{A}: uid=5000 from=<>").queue(A, "").deliver(A).remove(A)
        assert [one.message.uid for one in log.outcomes if isinstance(one, Delivered)] == [-1]
        assert log.only(Accepted) == []

    def test_a_notification_is_nobodys(self) -> None:
        log = Log().submit(A).queue(A).queue(B, "").write("bounce", f"{A}: sender non-delivery notification: {B}")
        log.deliver(B).remove(B)
        assert log.delivered() == [("", "sent")]
        assert len(log.only(Accepted)) == 1
        assert not log.tracker.waiting
        told = log.only(Delivered)[0]
        assert isinstance(told, Delivered)
        assert told.message.parent == A

    def test_expired(self) -> None:
        log = Log().submit(A).queue(A).write("qmgr", f"{A}: from=<alice@weir.test>, status=expired, returned to sender")
        log.remove(A)
        assert [one.how for one in log.outcomes if isinstance(one, Ended)] == ["expired"]

    def test_requeued_by_hand(self) -> None:
        log = (
            Log()
            .submit(A)
            .queue(A)
            .write("postsuper", f"{A}: requeued")
            .write("pickup", f"{B}: uid=0 from=<x@y> orig_id={A}")
        )
        log.queue(B).deliver(B).remove(B)
        assert log.delivered() == [("alice@weir.test", "sent")]
        assert len(log.only(Accepted)) == 1
        assert len(log.tracker.under_way) == 0

    def test_one_requeued_by_hand_that_is_not_known_is_nobodys(self) -> None:
        log = Log().write("pickup", f"{B}: uid=105 from=<x@y> orig_id={A}").queue(B).deliver(B).remove(B)
        assert [one.message.uid for one in log.outcomes if isinstance(one, Delivered)] == [-1]
        assert log.only(Accepted) == []


REFUSED = (
    "from unknown[192.0.2.1]:4711: 554 5.7.1 <{}>: Recipient address rejected: no; "
    "from=<a@b> to=<x@y> proto=ESMTP helo=<z>"
)


class TestNoEnd:
    """Messages that are never removed, as they never came into the queue."""

    def test_refused_at_its_end(self) -> None:
        log = Log().submit(A).write("smtpd", f"{A}: reject: END-OF-MESSAGE {REFUSED.format('END-OF-MESSAGE')}")
        log.write("cleanup", f"{A}: message-id=<late@x>")
        assert [one.how for one in log.outcomes if isinstance(one, Ended)] == ["refused"]
        assert len(log.tracker.under_way) == 0

    def test_refused_for_its_header(self) -> None:
        log = Log().submit(A)
        log.write("cleanup", f"{A}: reject: header Subject: x from unknown[192.0.2.1]; from=<a@b> to=<c@d>: 5.7.1 no")
        assert [one.user for one in log.outcomes if isinstance(one, Refused)] == ["alice@weir.test"]
        assert len(log.tracker.under_way) == 0
        assert [(one.user, one.client) for one in log.outcomes if isinstance(one, Refused)] == [
            ("alice@weir.test", "192.0.2.1")
        ]

    def test_what_a_milter_refuses_is_its_senders(self) -> None:
        """Cleanup tells of it, which knows the message and no session."""
        log = Log().submit(A, pid=8).submit(B, BOB, 9)
        log.write("cleanup", f"{A}: milter-reject: END-OF-MESSAGE from unknown[192.0.2.1]:4711: 5.7.1 spam", 9)
        assert [(one.user, one.client, one.stage) for one in log.outcomes if isinstance(one, Refused)] == [
            ("alice@weir.test", "192.0.2.1", "END-OF-MESSAGE")
        ]

    def test_refused_by_a_milter(self) -> None:
        log = Log().submit(A)
        log.write("cleanup", f"{A}: milter-reject: END-OF-MESSAGE {REFUSED.format('END-OF-MESSAGE')}")
        assert [one.user for one in log.outcomes if isinstance(one, Refused)] == ["alice@weir.test"]

    def test_a_refused_recipient_ends_nothing(self) -> None:
        log = Log().submit(A).write("smtpd", f"{A}: reject: RCPT {REFUSED.format('x@y')}").queue(A).deliver(A)
        assert log.delivered() == [("alice@weir.test", "sent")]
        assert [(one.user, one.code) for one in log.outcomes if isinstance(one, Refused)] == [("alice@weir.test", 554)]

    def test_a_refusal_before_anything_was_sent_is_nobodys(self) -> None:
        log = Log().write("smtpd", f"NOQUEUE: reject: RCPT {REFUSED.format('x@y')}")
        assert [(one.user, one.client) for one in log.outcomes if isinstance(one, Refused)] == [("", "192.0.2.1")]

    def test_our_own_refusal_is_marked(self) -> None:
        ours = REFUSED.replace("no;", "blocked [weir messages_minute d-1];").format("x@y")
        log = Log().write("smtpd", f"NOQUEUE: reject: RCPT {ours}")
        assert [one.decision for one in log.outcomes if isinstance(one, Refused)] == ["d-1"]

    def test_discarded(self) -> None:
        discard = "discard: RCPT from unknown[192.0.2.1]:4711: <x@y>: Recipient address weir; from=<a@b> to=<x@y>"
        log = Log().write("smtpd", f"NOQUEUE: {discard}").submit(A).submit(B).write("smtpd", f"{B}: {discard}")
        assert [(one.message.queue_id, one.how) for one in log.outcomes if isinstance(one, Ended)] == [
            (A, "discarded"),
            (B, "discarded"),
        ]
        assert len(log.tracker.under_way) == 0

    def test_held_and_released(self) -> None:
        hold = f"{A}: hold: END-OF-MESSAGE from unknown[192.0.2.1]:4711: <END-OF-MESSAGE>: End-of-data x; from=<a@b>"
        log = Log().submit(A).write("smtpd", hold).write("cleanup", f"{A}: message-id=<m@x>").wait(7200)
        assert [one.held for one in log.outcomes if isinstance(one, Held)] == [True]
        message = log.tracker.under_way.find(A)
        assert message is not None
        assert (message.held, message.message_id) == (True, "m@x")
        log.write("postsuper", f"{A}: released from hold")
        log.write("qmgr", f"{A}: from=<alice@weir.test>, size=333, nrcpt=1 (queue active)").deliver(A).remove(A)
        assert len(log.only(Accepted)) == 1
        assert log.delivered() == [("alice@weir.test", "sent")]

    def test_held_before_its_first_line(self) -> None:
        hold = "NOQUEUE: hold: RCPT from unknown[192.0.2.1]:4711: <x@y>: Recipient address x; from=<a@b> to=<x@y>"
        log = Log().write("smtpd", hold).submit(A).write("smtpd", hold.replace("NOQUEUE", A)).submit(B)
        assert [(one.message.queue_id, one.held) for one in log.outcomes if isinstance(one, Held)] == [(A, True)]

    def test_held_and_deleted_by_hand(self) -> None:
        log = Log().submit(A).queue(A).write("postsuper", f"{A}: placed on hold").write("postsuper", f"{A}: removed")
        assert [one.how for one in log.outcomes if isinstance(one, Ended)] == ["deleted"]
        assert len(log.tracker.under_way) == 0


def reinjected(queue_id: str) -> str:
    return f"250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {queue_id}"


FILTER = "127.0.0.1[127.0.0.1]:10024"


class TestFilters:
    def test_what_a_filter_gave_back_is_the_users(self) -> None:
        log = Log().submit(A).queue(A).submit(B, LOOPBACK, 8).queue(B)
        log.deliver(B).remove(B).deliver(A, reinjected(B), relay=FILTER).remove(A)
        assert log.delivered() == [("alice@weir.test", "sent")]
        assert len(log.only(Accepted)) == 1
        assert len(log.tracker.under_way) == 0

    def test_bounces_after_it_was_tied(self) -> None:
        log = Log().submit(A).queue(A, recipients=2).submit(B, LOOPBACK, 8).queue(B, recipients=2)
        log.deliver(A, reinjected(B), relay=FILTER).deliver(A, reinjected(B), relay=FILTER).remove(A)
        log.wait(60).deliver(B).deliver(B, "host mx said: 550 no such user", "bounced").remove(B)
        assert log.delivered() == [("alice@weir.test", "sent"), ("alice@weir.test", "bounced")]
        told = log.only(Delivered)[-1]
        assert isinstance(told, Delivered)
        assert (told.message.client, told.message.parent, told.message.since) == ("192.0.2.1", A, told.time - 60)

    def test_every_recipient_of_a_message_that_came_back_and_is_gone(self) -> None:
        log = Log().submit(A).queue(A, recipients=2).submit(B, LOOPBACK, 8).queue(B, recipients=2)
        log.deliver(A, reinjected(B), relay=FILTER).deliver(B).deliver(B).remove(B)
        log.deliver(A, reinjected(B), relay=FILTER).remove(A).wait(60).submit(C)
        assert log.delivered() == [("alice@weir.test", "sent")] * 2

    def test_told_by_xforward(self) -> None:
        log = Log().submit(A).queue(A).submit(B, f"{LOOPBACK}, orig_queue_id={A}, orig_client=unknown[192.0.2.1]", 8)
        log.queue(B).deliver(B)
        assert log.delivered() == [("alice@weir.test", "sent")]

    def test_a_filter_before_the_queue(self) -> None:
        log = Log().submit("NOQUEUE").submit(A, f"{LOOPBACK}, orig_client=unknown[192.0.2.1]", 8)
        accept = f"250 2.0.0 Ok: queued as {A}; from=<a@b> to=<x@y> proto=ESMTP helo=<z>"
        log.write("smtpd", f"NOQUEUE: proxy-accept: END-OF-MESSAGE from unknown[192.0.2.1]:4711: {accept}")
        log.queue(A).deliver(A).remove(A)
        assert log.delivered() == [("alice@weir.test", "sent")]

    def test_its_first_line_comes_late(self) -> None:
        log = (
            Log().submit(A).queue(A).deliver(A, reinjected(B), relay=FILTER).submit(B, LOOPBACK, 8).queue(B).deliver(B)
        )
        assert log.delivered() == [("alice@weir.test", "sent")]

    def test_a_program_on_this_host_that_is_no_filter(self) -> None:
        log = Log().submit(A, LOOPBACK).queue(A).deliver(A).remove(A)
        assert log.outcomes == []
        assert log.tracker.waiting
        log.wait(int(WAIT)).submit(B)
        assert log.delivered() == [("", "sent")]
        assert len(log.only(Accepted)) == 1

    def test_a_server_on_this_host_that_keeps_it(self) -> None:
        log = Log().submit(A).queue(A).deliver(A, reinjected(B), relay=FILTER).remove(A)
        assert log.delivered() == []
        log.outcomes += log.tracker.flush(log.outcomes[-1].time + WAIT)
        assert log.delivered() == [("alice@weir.test", "sent")]

    def test_a_remote_server_ties_nothing(self) -> None:
        """Neither to a message of another user, nor to one without a login."""
        log = Log().submit(A).queue(A).submit(B, BOB, 8).queue(B).submit(C, "evil.test[192.0.2.66]", 9).queue(C)
        log.deliver(A, f"250 queued as {B}").deliver(A, f"250 queued as {C}").deliver(B).deliver(C)
        assert log.delivered() == [("alice@weir.test", "sent")] * 2 + [("bob@weir.test", "sent"), ("", "sent")]

    def test_a_filter_ties_no_message_that_has_a_login(self) -> None:
        log = Log().submit(A).queue(A).submit(B, BOB, 8).queue(B).deliver(A, reinjected(B), relay=FILTER).deliver(B)
        assert sorted(log.delivered()) == [("alice@weir.test", "sent"), ("bob@weir.test", "sent")]

    def test_a_filter_on_another_host(self) -> None:
        log = Log(Tracker(["192.0.2.50"])).submit(A).queue(A).submit(B, "filter[192.0.2.50]", 8).queue(B)
        log.deliver(A, f"250 Ok: queued as {B}", relay="filter[192.0.2.50]:10024").deliver(B)
        assert log.delivered() == [("alice@weir.test", "sent")]


class TestBounds:
    def test_a_short_id_that_comes_again(self) -> None:
        log = Log().submit(C).queue(C).submit(C, BOB, 8).queue(C, "bob@weir.test").deliver(C).remove(C)
        assert log.delivered() == [("bob@weir.test", "sent")]
        assert log.tracker.under_way.forgotten == 1

    def test_a_short_id_that_comes_again_as_a_notification(self) -> None:
        log = Log().submit(C).queue(C).write("cleanup", f"{C}: message-id=<other@mx1>").deliver(C)
        assert log.delivered() == [("", "sent")]

    @pytest.fixture
    def _few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(under_way, "BATCH", 10)
        monkeypatch.setattr(under_way, "MAX_MESSAGES", 20)

    @pytest.mark.usefixtures("_few")
    def test_memory_is_bounded_and_the_oldest_go(self) -> None:
        log = Log()
        for number in range(100):
            log.submit(f"{number:06X}").queue(f"{number:06X}")
        assert 20 <= len(log.tracker.under_way) <= 30
        assert log.tracker.under_way.evicted == 100 - len(log.tracker.under_way)
        assert log.tracker.under_way.find(f"{99:06X}") is not None
        assert log.tracker.under_way.find(f"{0:06X}") is None

    def test_of_long_texts_no_more_is_remembered_than_is_told(self) -> None:
        long = "x" * 5000
        log = Log().submit(A).write("cleanup", f"{A}: message-id=<{long}>")
        log.write("qmgr", f"{A}: from=<{long}>, size=333, nrcpt=1 (queue active)")
        log.write("pickup", f"{B}: uid=33 from=<{long}>")
        for message in log.tracker.under_way.records():
            assert len(message.message_id) <= MAX_TEXT
            assert len(message.sender) == MAX_TEXT

    @pytest.mark.usefixtures("_few")
    def test_memory_is_bounded_where_only_the_queue_manager_is_heard(self) -> None:
        log = Log()
        for number in range(100):
            log.write("qmgr", f"{number:06X}: from=<a@b>, size=333, nrcpt=1 (queue active)")
        assert len(log.tracker.under_way) <= 30

    @pytest.mark.usefixtures("_few")
    def test_what_never_came_into_the_queue_is_forgotten(self) -> None:
        log = Log().submit(A).submit(B).queue(B).wait(3601)
        for number in range(10):
            log.submit(f"{number:06X}")
        assert log.tracker.under_way.find(A) is None
        assert log.tracker.under_way.find(B) is not None
        assert (log.tracker.under_way.forgotten, log.tracker.under_way.evicted) == (1, 0)

    def test_lines_of_what_was_never_seen(self) -> None:
        log = Log().deliver(A).remove(A).remove(B).write("postsuper", f"{C}: placed on hold")
        assert log.delivered() == [("", "sent")]
        assert len(log.tracker.under_way) == 0

    def test_state_over_a_restart(self) -> None:
        log = Log().submit(A).queue(A).submit(B, BOB).write("postsuper", f"{B}: placed on hold").submit(C)
        encoded = msgspec.json.encode(list(log.tracker.under_way.records()))
        kept = Tracker()
        kept.restore(msgspec.json.decode(encoded, type=list[Message]))
        assert sorted(kept.under_way.records(), key=str) == sorted(log.tracker.under_way.records(), key=str)
        again = Log(kept).deliver(A).remove(A).queue(C).deliver(C).write("postsuper", f"{B}: released from hold")
        again.queue(B, "bob@weir.test").deliver(B)
        assert again.delivered() == [("alice@weir.test", "sent")] * 2 + [("bob@weir.test", "sent")]
        assert len(again.only(Accepted)) == 2


def test_the_samples_say_what_their_text_says() -> None:
    """For each user: deliveries by status, counted from the text with the simplest patterns."""
    for name in ("mx1", "mx2", "mx3"):
        text = (SAMPLES / f"{name}.maillog").read_text()
        users = dict(re.findall(r": (\w+): client=.*sasl_username=(\S+)", text))
        expected = Counter(
            (users.get(one, ""), status) for one, status in re.findall(r": (\w+): to=.*status=(\w+)", text)
        )
        parser, kept = Parser(lambda: NOW), Tracker()
        told = [one for line in text.splitlines() if (found := parser.parse(line)) for one in kept.track(found)]
        told += kept.flush(NOW)
        assert Counter((one.message.user, one.status) for one in told if isinstance(one, Delivered)) == expected
        accepted = [one.message for one in told if isinstance(one, Accepted)]
        assert all(message.user or message.uid >= 0 or message.client for message in accepted)
        assert len({message.queue_id for message in accepted}) == len(accepted)
        assert kept.under_way.forgotten == kept.under_way.evicted == 0


def lifecycle(number: int, user: str, outcomes: list[str], filtered: bool) -> Iterator[tuple[str, str, int]]:
    """The lines of one message: daemon, text, process id."""
    first, second = f"{number:05X}AAAA", f"{number:05X}BBBB"
    client = f"unknown[192.0.2.{number % 250 + 1}]"
    login = f", sasl_method=PLAIN, sasl_username={user}" if user else ""
    yield "smtpd", f"{first}: client={client}{login}", 1000 + number
    yield "cleanup", f"{first}: message-id=<{number}@x>", 1
    yield "qmgr", f"{first}: from=<s@weir.test>, size=1, nrcpt={len(outcomes)} (queue active)", 2
    last = first
    if filtered:
        yield "smtpd", f"{second}: client=localhost[127.0.0.1]", 5000 + number
        yield "cleanup", f"{second}: message-id=<{number}@x>", 1
        yield "qmgr", f"{second}: from=<s@weir.test>, size=1, nrcpt={len(outcomes)} (queue active)", 2
        for _ in outcomes:
            yield (
                "smtp",
                f"{first}: to=<x@y>, relay={FILTER}, {DELAYS}, dsn=2.0.0, status=sent ({reinjected(second)})",
                3,
            )
        yield "qmgr", f"{first}: removed", 2
        last = second
    for status in outcomes:
        yield "smtp", f"{last}: to=<x@y>, relay=mx[192.0.2.9]:25, {DELAYS}, dsn=5.0.0, status={status} (x)", 4
    if "deferred" not in outcomes:
        yield "qmgr", f"{last}: removed", 2


@given(st.lists(mutated(), max_size=40))
def test_no_line_stops_it(lines: list[bytes]) -> None:
    parser, kept = Parser(lambda: NOW), Tracker()
    for raw in lines:
        line = parser.parse(raw)
        if line is not None:
            list(kept.track(line))
    kept.flush(NOW)
    records = list(kept.under_way.records())
    assert msgspec.json.decode(msgspec.json.encode(records), type=list[Message]) == records


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob", ""]),
        st.lists(st.sampled_from(["sent", "bounced", "deferred"]), min_size=1, max_size=3),
        st.booleans(),
    ),
    max_size=8,
)


@settings(max_examples=200)
@given(MESSAGES, st.randoms(use_true_random=False))
def test_any_mixture_of_messages(sent: list[tuple[str, list[str], bool]], chance: object) -> None:
    """However their lines are mixed: each outcome once, and for its sender."""
    running = [lifecycle(number, *one) for number, one in enumerate(sent)]
    log = Log()
    while running:
        one = chance.choice(running)  # type: ignore[attr-defined]
        line = next(one, None)
        if line is None:
            running.remove(one)
        else:
            log.write(*line)
    log.outcomes += log.tracker.flush(NOW)
    assert Counter(log.delivered()) == Counter((user, status) for user, statuses, _ in sent for status in statuses)
    assert Counter(one.message.user for one in log.outcomes if isinstance(one, Accepted)) == Counter(
        user for user, _, _ in sent
    )
    assert len(log.tracker.under_way) == sum("deferred" in statuses for _, statuses, _ in sent)
