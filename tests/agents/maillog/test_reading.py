"""Lines of the log → events: who they are of, and that whatever stands in a line fits into one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.maillog.asked import AskedMessages
from agents.maillog.filters import WAIT
from agents.maillog.outcomes import Message, Recent
from agents.maillog.position import Position
from agents.maillog.reading import Reading
from tests.agents.maillog.test_tracker import SAMPLES
from tests.weir.maillog.test_lines import mutated
from weir import events, settings, tallies
from weir.events import Delivery, Event, Login, Rejected, Removed, Request, Submitted
from weir.maillog.unknown import NO_HEAD

A, B = "4jYmyW0Nsyz1SWGt", "4jYmz10rjVz1SWJs"
CLIENT = "unknown[192.0.2.1]:4711"
ALICE = f"{CLIENT}, sasl_method=PLAIN, sasl_username=Alice"
SECOND = 1_795_534_320.0
"""15:32:00 UTC, 24 November 2026."""


class Log:
    def __init__(self, options: settings.Log | None = None) -> None:
        self.asked = AskedMessages()
        self.reading = Reading(options or settings.Log(), "weir.test", self.asked)
        self.found: list[Event] = []
        self.time = 0

    def write(self, program: str, text: str, pid: int = 7) -> "Log":
        stamp = f"2026-11-24T15:{32 + self.time // 60:02}:{self.time % 60:02}+00:00"
        self.found += self.reading.events("mail.log", [f"{stamp} mx1 {program}[{pid}]: {text}".encode()])
        return self

    def submit(self, queue_id: str = A, client: str = ALICE, service: str = "postfix/submission") -> "Log":
        return self.write(f"{service}/smtpd", f"{queue_id}: client={client}")

    def queue(self, queue_id: str = A, sender: str = "alice@weir.test", service: str = "postfix") -> "Log":
        self.write(f"{service}/cleanup", f"{queue_id}: message-id=<1@x>")
        return self.write(f"{service}/qmgr", f"{queue_id}: from=<{sender}>, size=333, nrcpt=2 (queue active)")

    def deliver(self, result: str, queue_id: str = A) -> "Log":
        return self.write(
            "postfix/smtp", f"{queue_id}: to=<x@dest.test>, relay=mx[192.0.2.9]:25, delay=1, delays=0/0/0/1, {result}"
        )

    def ask(self, queue_id: str = "", instance: str = "7.6b05ae03.c4c9.0") -> "Log":
        request = Request(seq=1, time=SECOND + self.time, protocol_state="RCPT", instance=instance, queue_id=queue_id)
        self.asked.note(request)
        return self

    def only(self, kind: type[Event]) -> list[Event]:
        return [one for one in self.found if isinstance(one, kind)]


def test_a_message_from_its_login_to_its_end() -> None:
    log = Log().ask().submit().queue()
    log.deliver("dsn=2.0.0, status=sent (250 ok)")
    log.deliver("dsn=5.1.1, status=bounced (host mx[192.0.2.9] said: 550 5.1.1 User unknown)")
    log.write("postfix/qmgr", f"{A}: removed")
    of_message = {
        "seq": 0,
        "time": SECOND,
        "submitted": SECOND,
        "queue_id": A,
        "message_id": "1@x",
        "sasl_username": "alice@weir.test",
        "client_address": "192.0.2.1",
    }
    envelope = of_message | {"sender": "alice@weir.test"}
    delivery = envelope | {"recipient": "x@dest.test", "relay": "mx[192.0.2.9]:25"}
    said = "host mx[192.0.2.9] said: 550 5.1.1 User unknown"
    bounced = {"status": "bounced", "dsn": "5.1.1", "bounce": "unknown_recipient", "text": said}
    assert log.found == [
        Login(
            seq=0, time=SECOND, sasl_username="alice@weir.test", client_address="192.0.2.1", service="smtpd", tries=1
        ),
        msgspec.convert(envelope | {"kind": "submitted", "size": 333, "recipients": 2}, Submitted),
        msgspec.convert(delivery | {"kind": "delivery", "status": "sent", "dsn": "2.0.0", "text": "250 ok"}, Delivery),
        msgspec.convert(delivery | {"kind": "delivery"} | bounced, Delivery),
        msgspec.convert(of_message | {"kind": "removed", "how": "removed"}, Removed),
    ]


@pytest.mark.parametrize(
    ("asked", "unasked"),
    [({}, False), ({"queue_id": A, "instance": ""}, False), ({"queue_id": B}, True), ({"instance": "8.1.1.0"}, True)],
)
def test_unasked_is_what_no_request_was_seen_of(asked: dict[str, str], unasked: bool) -> None:
    (event,) = Log().ask(**asked).submit().queue().only(Submitted)
    assert isinstance(event, Submitted)
    assert event.unasked is unasked


def test_a_message_that_is_held_is_known_as_asked_when_it_is_released() -> None:
    log = Log().submit().ask(queue_id=A)
    log.write("postfix/submission/smtpd", f"{A}: hold: END-OF-MESSAGE from {CLIENT}: <END-OF-MESSAGE>: x; proto=ESMTP")
    (message,) = log.reading.tracker.under_way.in_queue()
    assert message.instance == ""
    log.asked = log.reading.teller._asked = AskedMessages()
    log.write("postfix/postsuper", f"{A}: released from hold").queue()
    (event,) = log.only(Submitted)
    assert isinstance(event, Submitted)
    assert not event.unasked
    assert [one.how for one in log.only(Removed) if isinstance(one, Removed)] == ["held", "released"]


def test_mail_without_a_login_need_not_be_asked_about() -> None:
    log = Log().submit(A, CLIENT).queue()
    log.write("postfix/pickup", f"{B}: uid=0 from=<form@weir.test>").queue(B)
    first, form = log.only(Submitted)
    assert isinstance(first, Submitted)
    assert isinstance(form, Submitted)
    assert (first.unasked, first.uid, first.login) == (False, -1, "")
    assert (form.unasked, form.uid, form.login) == (False, 0, "root")


def test_mail_of_ignored_users_is_nobodys() -> None:
    log = Log(settings.Log(ignore_uids=[5000]))
    log.write("postfix/pickup", f"{A}: uid=5000 from=<sieve@weir.test>").queue()
    log.write("postfix/pickup", f"{B}: uid=5001 from=<form@weir.test>").queue(B)
    for queue_id in (A, B):
        log.deliver("dsn=2.0.0, status=sent (250 ok)", queue_id)
    assert [one.uid for one in log.found if isinstance(one, Submitted | Delivery)] == [5001, -1, 5001]
    assert [one.subject for event in log.found for one in tallies.tallies(event)] == 2 * ["uid:5001"]


def test_our_own_refusal_is_marked() -> None:
    text = "521 5.7.1 <x@dest.test>: Recipient address rejected: {}; from=<a@b> to=<x@dest.test> proto=ESMTP helo=<h>"
    log = Log()
    for reason in ("No more [weir burst 1f0c9a6b2d47]", "User unknown"):
        log.write("postfix/smtpd", f"NOQUEUE: reject: RCPT from {CLIENT}: {text.format(reason)}")
    assert [(one.decision, one.code) for one in log.found if isinstance(one, Rejected)] == [
        ("1f0c9a6b2d47", 521),
        ("", 521),
    ]
    assert [[one.result for one in tallies.tallies(event)] for event in log.found] == [[], ["rejected"]]


def test_a_failed_login_is_told_once_and_a_successful_one_too() -> None:
    log = Log()
    log.write("dovecot", "auth: passwd-file(alice,192.0.2.1): Password mismatch", 0)
    log.write("postfix/smtpd", f"warning: {CLIENT}: SASL PLAIN authentication failed: (reason unavailable)")
    log.write("dovecot", "imap-login: Login: user=<Bob>, method=PLAIN, rip=192.0.2.2, lip=192.0.2.3, mpid=1", 0)
    log.time = 40
    log.submit()
    assert [(one.service, one.sasl_username, one.client_address, one.failed) for one in log.found] == [  # type: ignore[union-attr]  # logins only
        ("smtpd", "alice@weir.test", "192.0.2.1", "credentials"),
        ("imap-login", "bob@weir.test", "192.0.2.2", ""),
        ("smtpd", "alice@weir.test", "192.0.2.1", ""),
    ]


def test_a_login_that_the_second_data_base_grants_is_no_failed_one() -> None:
    log = Log()
    log.write("dovecot", "auth: ldap(alice,192.0.2.1): unknown user", 0).submit()
    log.write("dovecot", "auth: ldap(bob,192.0.2.2): unknown user", 0)
    log.write("dovecot", "imap-login: Login: user=<Bob>, method=PLAIN, rip=192.0.2.2, lip=192.0.2.3, mpid=1", 0)
    log.found += log.reading.flush(log.reading.newest + 100)
    assert {one.failed for one in log.found if isinstance(one, Login)} == {""}


def test_failed_logins_that_syslog_has_as_one_line_are_as_many() -> None:
    said = f"warning: {CLIENT}: SASL LOGIN authentication failed: UGFzc3dvcmQ6"
    log = Log().write("postfix/smtpd", said).write("postfix/smtpd", f"message repeated 3 times: [ {said}]")
    assert sum(one.tries for one in log.found if isinstance(one, Login)) == 4


def test_what_is_known_goes_on_after_a_restart_in_the_midst_of_a_filter() -> None:
    log = Log().ask().submit().queue()
    log.submit(B, "localhost[127.0.0.1]", "postfix").queue(B)
    again = Log()
    known = log.reading.known(Position())
    recent = msgspec.json.decode(msgspec.json.encode(known.recent), type=Recent)
    messages = msgspec.json.decode(msgspec.json.encode(list(known.messages)), type=list[Message])
    again.reading.restore(known._replace(messages=messages, recent=recent))
    again.write(
        "postfix/smtp",
        f"{A}: to=<x@dest.test>, relay=127.0.0.1[127.0.0.1]:10024, delay=1, delays=0/0/0/1, "
        f"dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {B})",
    )
    again.deliver("dsn=2.0.0, status=sent (250 ok)", B)
    assert [one.sasl_username for one in again.found if isinstance(one, Delivery)] == ["alice@weir.test"]
    in_queue = again.reading.tracker.under_way.in_queue()
    assert [(one.queue_id, one.user) for one in in_queue] == [(A, "Alice"), (B, "Alice")]


def test_outcomes_that_wait_are_told_while_the_log_is_silent() -> None:
    log = Log().submit(A, "localhost[127.0.0.1]").queue().deliver("dsn=2.0.0, status=sent (250 ok)")
    assert log.found == []
    assert log.reading.flush(log.reading.newest + WAIT - 1) == []
    assert [type(event) for event in log.reading.flush(log.reading.newest + WAIT)] == [Submitted, Delivery]


def test_lines_not_understood_are_counted_by_daemon() -> None:
    log = Log().write("opendkim", "x").write("opendkim", "y").write("postfix/smtpd", "something new")
    log.reading.events("mail.log", [b"no head at all"])
    assert log.reading.unknown.counts == {"opendkim": 2, "smtpd": 1, NO_HEAD: 1}


def test_a_fault_of_ours_costs_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    with monkeypatch.context() as broken:
        broken.setattr(log.reading.teller, "event", lambda _: 1 / 0)
        log.submit()
    log.queue()
    assert log.reading.faults == 1
    assert len(log.only(Submitted)) == 1


_SAMPLES = [line for path in sorted(SAMPLES.glob("*.log")) for line in path.read_bytes().splitlines()]


@given(st.lists(st.one_of(mutated(), st.sampled_from(_SAMPLES)), max_size=40))
def test_every_event_can_be_read_by_others(lines: list[bytes]) -> None:
    reading = Reading(settings.Log(), "weir.test", AskedMessages())
    found = [*reading.events("mail.log", lines), *reading.flush(1e10)]
    assert reading.faults == 0
    for event in found:
        event.seq = 1
        assert events.decoder.decode(events.encoder.encode(event)) == event
        for tally in tallies.tallies(event):
            assert tallies.decoder.decode(tallies.encoder.encode(tally)) == tally


def test_what_stands_in_a_line_is_cut_to_what_an_event_holds() -> None:
    long = "x" * 5000
    log = Log().submit(A, f"{CLIENT}, sasl_method=PLAIN, sasl_username={long}").queue(sender=long)
    log.deliver(f"dsn=5.0.0, status=bounced ({long})")
    log.write("postfix/pickup", f"{B}: uid=9999999999 from=<{long}>").queue(B)
    log.found += log.reading.events("", [f"2200-11-24T15:32:45+00:00 mx1 postfix/qmgr[1]: {B}: removed".encode()])
    for event in log.found:
        assert events.decoder.decode(events.encoder.encode(event)) == event
    assert [type(event) for event in log.found] == [Login, Submitted, Delivery, Removed]
