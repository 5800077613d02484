"""Looks into the queues: what is kept of a subject is what a walk over all messages finds, whatever the log tells."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.maillog import by_subject, looks, under_way
from agents.maillog.asked import AskedMessages
from agents.maillog.looks import Looks
from agents.maillog.outcomes import Message, Recent
from agents.maillog.position import Position
from agents.maillog.reading import Reading
from weir import settings

A, B = "4jYmyW0Nsyz1SWGt", "4jYmz10rjVz1SWJs"
C, D = "3F1A2B4C5D", "3F1A2B4C5E"
IDS = (A, B, C, D)
USERS = ("alice", "Alice@weir.test", "bob")
ALICE, BOB, CAROL = (f"sasl_username:{name}@weir.test" for name in ("alice", "bob", "carol"))
SUBJECTS = (ALICE, BOB, "sasl_username:alice@other.test", CAROL, "uid:33", "uid:5000")
REALMS = ("weir.test", "other.test")
LOOPBACK, FILTER = "client=localhost[127.0.0.1]", "127.0.0.1[127.0.0.1]:10024"
ANSWER = "delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 Ok: queued as"


class Host:
    """A log and looks, between which `meanwhile` happens: step by step, each time that a look takes the lock."""

    def __init__(self) -> None:
        self.time = 0
        self.realm = REALMS[0]
        self.realm_changes = 0
        self.meanwhile: list[Step] = []
        self._begin()

    def _begin(self) -> None:
        self.reading = Reading(settings.Log(ignore_uids=[5000]), self.realm, AskedMessages())
        self.looks = Looks(self.reading.tracker.under_way, self)  # type: ignore[arg-type]  # this is its lock

    def __enter__(self) -> None:
        if self.meanwhile:
            self.meanwhile.pop(0).on(self)

    def __exit__(self, *raised: object) -> None:
        pass

    def write(self, program: str, text: str) -> "Host":
        day, second = divmod(self.time, 86400)
        stamp = f"2026-11-{24 + day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}+00:00"
        self.reading.events("mail.log", [f"{stamp} mx1 {program}[7]: {text}".encode()])
        return self

    def submit(self, queue_id: str, user: str) -> "Host":
        return self.write(
            "postfix/smtpd", f"{queue_id}: client=x[192.0.2.1], sasl_method=PLAIN, sasl_username={user}"
        ).queue(queue_id)

    def queue(self, queue_id: str) -> "Host":
        return self.write("postfix/qmgr", f"{queue_id}: from=<a@b>, size=333, nrcpt=1 (queue active)")

    def restart(self, subject: str) -> None:
        """With a look for that subject before what was known is taken up."""
        known = self.reading.known(Position())
        recent = msgspec.json.decode(msgspec.json.encode(known.recent), type=Recent)
        messages = msgspec.json.decode(msgspec.json.encode(list(known.messages)), type=list[Message])
        self._begin()
        self.looks.queued(subject)
        self.reading.restore(known._replace(messages=messages, recent=recent))

    def walk(self, subject: str) -> list[Message]:
        """A subject's messages, the simplest way."""
        return [one for one in self.reading.tracker.under_way.in_queue() if self._subject(one) == subject]

    def _subject(self, message: Message) -> str:
        name = message.user if "@" in message.user else f"{message.user}@{self.realm}"
        return f"sasl_username:{name.lower()}" if message.user else f"uid:{message.uid}"

    def check(self, subject: str) -> None:
        changes = self.realm_changes
        found = self.looks.queued(subject)
        if changes == self.realm_changes:  # else it was another account when it was looked for
            walked = [(one.instance, one.queue_id, one.held, one.since) for one in self.walk(subject) if one.instance]
            assert sorted(found) == sorted(walked)

    def check_what_is_kept(self) -> None:
        index = self.reading.tracker.under_way.by_subject
        for subject in index.looked_for.keys() - index.unfilled():
            kept, walked = index.of(subject), self.walk(subject)
            assert len(kept) == len(walked)
            assert all(one is other for one, other in zip(sorted(kept, key=_id), sorted(walked, key=_id), strict=True))


def _id(message: Message) -> str:
    return message.queue_id


@dataclass
class Line:
    program: str
    text: str

    def on(self, host: Host) -> None:
        host.write(self.program, self.text)


@dataclass
class Sent:
    """A message of a user, or of a local user."""

    queue_id: str
    sender: str | int

    def on(self, host: Host) -> None:
        if isinstance(self.sender, str):
            host.submit(self.queue_id, self.sender)
        else:
            host.write("postfix/pickup", f"{self.queue_id}: uid={self.sender} from=<a>").queue(self.queue_id)


@dataclass
class Wait:
    seconds: int

    def on(self, host: Host) -> None:
        host.time += self.seconds


@dataclass
class Realm:
    """The settings are read again."""

    name: str

    def on(self, host: Host) -> None:
        host.realm_changes += self.name != host.realm
        host.realm = self.name
        host.reading.use_realm(self.name)


@dataclass
class LookFor:
    """Another thread begins to look."""

    subject: str

    def on(self, host: Host) -> None:
        host.reading.tracker.under_way.by_subject.look_for(self.subject)


@dataclass
class Look:
    subject: str
    meanwhile: list["Step"] = field(default_factory=list)

    def on(self, host: Host) -> None:
        host.meanwhile = list(self.meanwhile)
        host.check(self.subject)
        host.meanwhile = []


@dataclass
class Filtered:
    """A message comes out of a content filter, and is looked for before the filter's answer tells who sent it."""

    queue_id: str
    given_back: str
    subject: str

    def on(self, host: Host) -> None:
        host.write("postfix/smtpd", f"{self.given_back}: {LOOPBACK}").queue(self.given_back)
        host.check(self.subject)
        host.write("postfix/smtp", f"{self.queue_id}: to=<x@y>, relay={FILTER}, {ANSWER} {self.given_back})")


@dataclass
class Restart:
    subject: str
    """Looked for before what was known is taken up."""

    def on(self, host: Host) -> None:
        host.restart(self.subject)


Step = Line | Sent | Filtered | Wait | Realm | LookFor | Look | Restart
WAITS = (Wait(1), Wait(11), Wait(4000))
LINES = (
    ("smtpd", "{one}: client=x[192.0.2.1], sasl_method=PLAIN, sasl_username={user}"),
    ("smtpd", f"{{one}}: {LOOPBACK}"),
    ("smtpd", f"{{one}}: {LOOPBACK}, orig_queue_id={{other}}"),
    ("smtpd", "NOQUEUE: hold: RCPT from x[192.0.2.1]: <x@y>: Recipient address x; from=<a@b> to=<x@y>"),
    ("smtpd", "NOQUEUE: proxy-accept: END-OF-MESSAGE from x[192.0.2.1]: 250 Ok: queued as {one}; from=<a@b>"),
    ("pickup", "{one}: uid={uid} from=<a>"),
    ("pickup", "{one}: uid={uid} from=<a> orig_id={other}"),
    ("cleanup", "{one}: message-id=<1@x>"),
    ("cleanup", "{one}: milter-reject: END-OF-MESSAGE from x[192.0.2.1]: 5.7.1 no"),
    ("qmgr", "{one}: from=<a@b>, size=333, nrcpt=1 (queue active)"),
    ("smtp", f"{{one}}: to=<x@y>, relay={FILTER}, {ANSWER} {{other}})"),
    ("smtp", f"{{one}}: to=<x@y>, relay=mx[192.0.2.9]:25, {ANSWER} {{other}})"),
    ("qmgr", "{one}: removed"),
    ("qmgr", "{one}: from=<a@b>, status=expired, returned to sender"),
    ("postsuper", "{one}: placed on hold"),
    ("postsuper", "{one}: released from hold"),
    ("postsuper", "{one}: removed"),
)


def _line(said: tuple[str, str], one: str, other: str, user: str, uid: int) -> Line:
    program, text = said
    return Line(f"postfix/{program}", text.format(one=one, other=other, user=user, uid=uid))


ID, USER, UID, SUBJECT = map(st.sampled_from, (IDS, USERS, (33, 5000), SUBJECTS))
LINE = st.builds(_line, st.sampled_from(LINES), ID, ID, USER, UID)
REMOVED = st.builds(_line, st.just(("qmgr", "{one}: removed")), ID, ID, USER, UID)
SENT = st.builds(Sent, ID, st.one_of(USER, UID))
REALM = st.builds(Realm, st.sampled_from(REALMS))
MEANWHILE = st.lists(st.one_of(LINE, SENT, REMOVED, REALM, st.builds(LookFor, SUBJECT)), max_size=4)
LOOK = st.builds(Look, SUBJECT, MEANWHILE)
RESTART = st.builds(Restart, SUBJECT)
STEPS = st.lists(
    st.one_of(
        LINE, SENT, SENT, st.builds(Filtered, ID, ID, SUBJECT), LOOK, LOOK, RESTART, REALM, st.sampled_from(WAITS)
    ),
    max_size=40,
)


@hypothesis_settings(max_examples=500)
@given(STEPS)
def test_what_is_kept_is_what_a_walk_finds(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(looks, "SLICE", 1)
        small.setattr(looks, "PAUSE", 0.0)
        small.setattr(looks, "GATHER", 0.0)
        small.setattr(under_way, "BATCH", 3)
        small.setattr(under_way, "MAX_MESSAGES", 3)
        small.setattr(by_subject, "MAX_SUBJECTS", 2)
        host = Host()
        for step in steps:
            step.on(host)
            host.check_what_is_kept()
        assert host.reading.faults == 0
        for subject in SUBJECTS:
            host.check(subject)
        senders = {host._subject(one) for one in host.reading.tracker.under_way.in_queue()}
        assert host.looks.senders() == senders - {"uid:-1"}


def test_what_waits_in_the_queues() -> None:
    host = Host().submit(A, "Alice").write("postfix/pickup", f"{B}: uid=33 from=<form@weir.test>").queue(B)

    def find(subject: str) -> list[tuple[str, str, bool]]:
        return [one[:3] for one in host.looks.queued(subject)]

    (waits,) = host.looks.queued("uid:33")
    assert waits.since > 0
    assert find(ALICE) == [("postfix", A, False)]
    assert find("uid:33") == [("postfix", B, False)]
    assert find(CAROL) == find("uid:34") == find("uid:-1") == []
    host.write("postfix/qmgr", f"{A}: removed").write("postfix/postsuper", f"{B}: placed on hold")
    assert find(ALICE) == []
    assert find("uid:33") == [("postfix", B, True)]
    assert host.looks.senders() == {"uid:33"}


def test_a_message_out_of_a_filter_is_found_once_it_is_in_the_queue_and_its_sender_is_known() -> None:
    host = Host().submit(A, "alice")
    host.write("postfix/smtpd", f"{B}: {LOOPBACK}").queue(B).write("postfix/smtpd", f"{C}: {LOOPBACK}")
    assert [one.queue_id for one in host.looks.queued(ALICE)] == [A]
    for queue_id in (B, C):
        host.write("postfix/smtp", f"{A}: to=<x@y>, relay={FILTER}, {ANSWER} {queue_id})")
    index = host.reading.tracker.under_way.by_subject
    assert [one.queue_id for one in index.of(ALICE)] == [A, B]
    host.queue(C)
    assert [one.queue_id for one in host.looks.queued(ALICE)] == [A, B, C]


def test_what_changes_while_it_is_filled_in_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "SLICE", 1)
    host = Host()
    for queue_id in IDS:
        host.submit(queue_id, "alice")
    gone = [Line("postfix/qmgr", f"{queue_id}: removed") for queue_id in (C, D)]
    host.meanwhile = [Wait(0), Wait(0), gone[0], Wait(0), gone[1]]
    assert [one.queue_id for one in host.looks.queued(ALICE)] == [A, B]


def test_who_is_looked_for_during_a_walk_has_another_one() -> None:
    host = Host().submit(A, "alice").submit(B, "bob")
    host.meanwhile = [Wait(0), Wait(0), LookFor(BOB)]
    assert [one.queue_id for one in host.looks.queued(ALICE)] == [A]
    assert [one.queue_id for one in host.looks.queued(BOB)] == [B]


def test_many_looks_at_once_walk_the_messages_once(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host().submit(A, "alice")
    index = host.reading.tracker.under_way.by_subject
    walks: list[set[str]] = []
    theirs = index.theirs

    def watched(messages: list[Message], wanted: set[str]) -> list[Message]:
        walks.append(set(wanted))
        return theirs(messages, wanted)

    monkeypatch.setattr(index, "theirs", watched)
    host.meanwhile = [LookFor(ALICE), LookFor(BOB)]
    for subject in (ALICE, BOB, CAROL, ALICE, CAROL):
        host.looks.queued(subject)
    assert walks == [{ALICE, BOB}, {CAROL}]


def test_only_the_subjects_that_were_looked_for_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_subject, "MAX_SUBJECTS", 2)
    host = Host().submit(A, "alice")
    for subject in (ALICE, CAROL, ALICE, "uid:33"):
        host.looks.queued(subject)
    index = host.reading.tracker.under_way.by_subject
    assert [one.queue_id for one in index.of(ALICE)] == [A]
    with pytest.raises(KeyError):
        index.of(CAROL)


def test_a_subject_that_is_dropped_and_looked_for_anew_during_its_walk_has_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "SLICE", 1)
    monkeypatch.setattr(by_subject, "MAX_SUBJECTS", 2)
    host = Host()
    for queue_id in IDS:
        host.submit(queue_id, "alice")
    host.meanwhile = [Wait(0), Wait(0), Wait(0), LookFor(BOB), LookFor(CAROL), LookFor(ALICE)]
    assert {one.queue_id for one in host.looks.queued(ALICE)} == set(IDS)


def test_a_look_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host().submit(A, "alice")
    with monkeypatch.context() as broken:
        broken.setattr(looks, "islice", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            host.looks.queued(ALICE)
    assert [one.queue_id for one in host.looks.queued(ALICE)] == [A]


def test_threads_that_look_while_the_log_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "SLICE", 10)
    host, lock = Host(), threading.Lock()
    several = Looks(host.reading.tracker.under_way, lock)
    numbers = [f"{number:06X}" for number in range(2000)]

    def read() -> None:
        for number, queue_id in enumerate(numbers):
            with lock:
                host.submit(queue_id, USERS[number % 3])
                if number % 4:
                    host.write("postfix/qmgr", f"{numbers[number // 2]}: removed")

    with ThreadPoolExecutor(7) as pool:
        reading = pool.submit(read)
        while not reading.done():
            list(pool.map(several.queued, SUBJECTS))
        reading.result()
    for subject in SUBJECTS:
        assert {one.queue_id for one in several.queued(subject)} == {one.queue_id for one in host.walk(subject)}
