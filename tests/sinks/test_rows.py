"""Records as rows."""

import string
from typing import get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks import decision_rows, rows
from sinks.embedded import Embedded
from tests.sinks.made import NOON, Way, envelope, event, insert, login, rejected, rows_of
from weir.cli.history import outcome
from weir.decisions import Decision, Evidence
from weir.events import MAX_TEXT, Delivery, Heartbeat, Login, Queue, Rejected, Removed, Request, Submitted
from weir.limits import Hit
from weir.operators import Word

ODD = "".join(map(chr, range(0x20))) + string.printable + "'\\\"é€\u2028\U0001f4e7\x7f"


def named(row: rows.Row) -> dict[str, object]:
    return dict(zip(rows.EVENT, row, strict=True))


def only(value: bytes, recipients: str = "full") -> dict[str, object]:
    found = rows.events(value, recipients)
    assert not found.bad
    (row,) = rows_of(found)
    return named(row)


def test_a_request_keeps_its_attributes_and_its_time_is_the_brokers() -> None:
    row = only(
        envelope([event(7, time=NOON + 61.5, clock_offset=1.25, action="521 5.7.1 no", client_port="2525", cut=True)])
    )
    assert row["time"] == round((NOON + 60.25) * 1000)
    assert row["minute"] == NOON + 60
    assert (row["host"], row["epoch"], row["seq"], row["kind"]) == ("mx1", "e1", 7, "request")
    assert (row["refused"], row["client_port"], row["cut"], row["details"]) == (1, 2525, 1, "")


def test_what_rules_had_to_do_with_a_request_is_kept() -> None:
    hits = [Hit("ab" * 8, key, 1, 100.0, 3600.0, "rate R") for key in ("sender=a@b.example", "recipient=bob@c.example")]
    value = envelope([event(1, rule="R", limits=hits)])
    row = only(value)
    details = msgspec.json.decode(str(row["details"]))
    assert row["rule"] == "R"
    assert details == {"limits": msgspec.to_builtins(hits)}
    kept = msgspec.json.decode(str(only(value, "domain")["details"]))
    assert [hit["key"] for hit in kept["limits"]] == ["sender=a@b.example", "recipient=@c.example"]


@pytest.mark.parametrize("port", ["", "unknown", "-1", "65536", "999999999999", "²"])
def test_a_port_that_is_none_is_0(port: str) -> None:
    assert only(envelope([event(1, client_port=port)]))["client_port"] == 0


@pytest.mark.parametrize(
    ("address", "client"), [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64"), ("unknown", "")]
)
def test_the_client_is_the_subject_that_is_counted(address: str, client: str) -> None:
    row = only(envelope([event(1, client_address=address)]))
    assert (row["client"], row["client_address"]) == (client, address)


@pytest.mark.parametrize(("recipient", "kept"), [("bob@example.net", "@example.net"), ("postmaster", ""), ("", "")])
def test_of_a_recipient_the_domain_alone_is_kept_if_so_wished(recipient: str, kept: str) -> None:
    value = envelope([event(1, recipient=recipient)])
    assert only(value)["recipient"] == recipient
    assert only(value, "domain")["recipient"] == kept


def test_texts_that_are_forgotten_and_come_again_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.texts.KEPT", 3)
    names = ["a", "b", "a", "x" * 1000, "c", "d", "x" * 1000, "b", "a"]
    made = [event(seq, client_name=name, client_port=str(seq % 5 + 1)) for seq, name in enumerate(names)]
    found = list(map(named, rows_of(rows.events(envelope(made[:6]), "full"), rows.events(envelope(made[6:]), "full"))))
    assert [row["client_name"] for row in found] == names
    assert [row["client_port"] for row in found] == [seq % 5 + 1 for seq in range(len(names))]


def test_rows_are_in_the_order_of_their_seqs_each_once() -> None:
    found = rows.events(envelope([event(5), event(2), event(5), event(3)]), "full")
    assert list(found.seqs) == [2, 3, 5]


def test_an_unknown_kind_is_kept_whole() -> None:
    line = b'{"kind":"greeting","seq":3,"time":1790000000.5,"method":"PLAIN","recipient":"bob@example.net"}'
    row = only(envelope([line]))
    assert (row["kind"], row["seq"], row["time"]) == ("greeting", 3, 1790000000500)
    assert row["details"] == line.decode()
    assert "bob" not in str(only(envelope([line]), "domain")["details"])


MAIL_LOG = [
    *Way(1, submitted=NOON - 7.5).submitted(parent="4bABC", uid=33, login="www-data", unasked=True).events,
    *Way(2)
    .delivery("bounced", relay="mx.example.net[192.0.2.9]:25", dsn="5.1.1", bounce="listed", list="x.test", text="no")
    .events,
    *Way(3).removed("held").events,
    rejected(4, dsn="5.7.1", decision="0123456789ab", recipient="bob@example.net", queue_id="4bXYZ"),
    login(5, service="imap", method="PLAIN", tries=3, failed="credentials"),
]


def test_each_kind_of_the_mail_log_has_its_columns() -> None:
    submitted, delivery, removed, refusal, tried = map(named, rows_of(rows.events(envelope(MAIL_LOG), "full")))
    assert [submitted[name] for name in ("kind", "queue_id", "parent", "message_id", "uid", "login", "unasked")] == [
        *("submitted", "4bXYZ", "4bABC", "<1@a.example>", 33, "www-data", True)
    ]
    assert [submitted[name] for name in ("submitted", "recipient_count", "recipients", "size")] == [
        *(int(NOON) - 8, 2, 0, 900)
    ]
    assert [delivery[name] for name in ("kind", "status", "relay", "dsn", "bounce", "list", "text", "uid")] == [
        *("delivery", "bounced", "mx.example.net[192.0.2.9]:25", "5.1.1", "listed", "x.test", "no", -1)
    ]
    assert (removed["kind"], removed["how"], removed["client"]) == ("removed", "held", "192.0.2.10")
    assert [refusal[name] for name in ("kind", "protocol_state", "code", "dsn", "decision", "submitted")] == [
        *("rejected", "RCPT", 554, "5.7.1", "0123456789ab", int(NOON))
    ]
    assert [tried[name] for name in ("kind", "service", "sasl_method", "tries", "failed")] == [
        *("login", "imap", "PLAIN", 3, "credentials")
    ]
    assert all(row["details"] == "" for row in (submitted, delivery, removed, refusal, tried))


def test_kinds_in_one_envelope_give_the_rows_of_each_alone() -> None:
    beat = Heartbeat(seq=7, time=NOON, version="1", host="mx1")
    made = [*MAIL_LOG, event(6), beat, event(8)]
    alone = [rows_of(rows.events(envelope([one]), "full"))[0] for one in made]
    assert rows_of(rows.events(envelope(made[::-1]), "full")) == alone
    with_bad = rows.events(envelope([*made, b"no event"]), "full")
    assert (rows_of(with_bad), with_bad.bad) == (alone, [b"no event"])


def test_a_column_of_nothing_but_its_default_is_left_out() -> None:
    plain, told = rows.events(envelope([event(0)]), "full"), rows.events(envelope(MAIL_LOG[:1]), "full")
    expected = {"minute", "time", "host", "epoch", "seq", "kind", "client", "action", "protocol_state"}
    assert plain.columns.keys() == expected | {"sasl_username", "client_address", "messages", "recipients"}
    both = rows.together([plain, told])
    assert list(both) == [name for name in rows.EVENT if name in plain.columns.keys() | told.columns.keys()]
    assert (both["uid"], both["submitted"], both["seq"]) == ([-1, 33], [0, int(NOON) - 8], [0, 1])


def test_what_is_left_out_is_the_default_of_its_column(store: Embedded) -> None:
    """Of the history's schema."""
    store.insert("events", ("minute", "seq"), [[int(NOON)], [7]])
    left_out = [name for name in rows.EVENT if name not in ("seq", "minute", "time")]
    (found,) = store.query(f"SELECT {', '.join(left_out)}, toUInt32(submitted) FROM events")
    empty = rows.events(envelope([event(7)]), "full")
    empty.columns = {"seq": [7]}
    expected = [empty.column(name)[0] for name in left_out]
    place = left_out.index("submitted")
    assert [*found[:place], found[-1], *found[place + 1 : -1]] == expected


def test_root_is_a_user_too() -> None:
    assert only(envelope(Way(1, uid=0, sasl_username="").submitted(login="root").events))["uid"] == 0


@pytest.mark.parametrize(
    ("time", "offset", "kept"),
    [(NOON, 0.02, NOON), (NOON, -0.02, NOON), (NOON, 1.7, NOON - 2), (NOON + 0.25, 0.125, NOON + 0.125)],
)
def test_a_time_in_whole_seconds_is_corrected_by_whole_seconds(time: float, offset: float, kept: float) -> None:
    row = only(envelope(Way(1, submitted=time, clock_offset=offset).submitted(time).events))
    assert (row["time"], row["minute"]) == (round(kept * 1000), kept // 60 * 60)
    assert row["submitted"] == int(kept)


@pytest.mark.parametrize(
    ("submitted", "offset", "kept"),
    [
        (NOON - 100, 2.0, NOON - 102),
        (NOON + 100, 0.0, NOON),
        (0.0, 0.0, NOON),
        (5.0, 0.0, NOON - 100 * 86400),
    ],
)
def test_a_submission_lies_before_what_follows_from_it(submitted: float, offset: float, kept: float) -> None:
    way = Way(1, submitted=submitted, clock_offset=offset)
    row = only(envelope(way.delivery("sent", NOON + offset).events))
    assert row["submitted"] == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "550 5.1.1 <Bob@example.net>: Recipient address rejected",
            "550 5.1.1 <@example.net>: Recipient address rejected",
        ),
        ("user bob unknown, bobby is not", "user  unknown, bobby is not"),
        ("forwarded to carol.x@example.com by us", "forwarded to @example.com by us"),
    ],
)
def test_what_a_server_said_names_no_recipient_if_so_wished(text: str, kept: str) -> None:
    value = envelope(Way(1).delivery("bounced", text=text).events)
    assert (only(value)["text"], only(value)["recipient"]) == (text, "bob@example.net")
    assert (only(value, "domain")["text"], only(value, "domain")["recipient"]) == (kept, "@example.net")
    refused = only(envelope([rejected(1, recipient="bob@example.net")]), "domain")
    assert refused["recipient"] == "@example.net"


@pytest.mark.parametrize(
    ("subject", "account", "uid"),
    [("sasl_username:alice@example.org", "alice@example.org", -1), ("uid:33", "", 33), ("limit:x", "", -1)],
)
def test_what_was_done_with_queued_mail_is_the_subject_s(subject: str, account: str, uid: int) -> None:
    told = Queue(seq=1, time=NOON, subject=subject, how="held", messages=7, cause="1f0c9a6b2d47")
    row = only(envelope([told]))
    assert [row[name] for name in ("kind", "sasl_username", "uid", "how", "messages")] == [
        *("queue", account, uid, "held", 0)
    ], "they were counted when they were submitted"
    assert outcome("queue", row) == "7 messages put on hold [1f0c9a6b2d47]"


def test_a_heartbeat_is_kept_whole_and_in_order() -> None:
    beat = Heartbeat(seq=2, time=NOON, version="1", host="mx1", spool_bytes=17)
    found = rows.events(envelope([event(1), beat, event(3)]), "full")
    assert list(found.seqs) == [1, 2, 3]
    row = named(rows_of(found)[1])
    assert row["kind"] == "heartbeat"
    assert msgspec.json.decode(str(row["details"]))["spool_bytes"] == 17


@pytest.mark.parametrize(
    "line",
    [
        b"no event",
        b'{"kind":"request","seq":-1,"time":1,"protocol_state":"RCPT"}',
        b'{"kind":"request","seq":1,"time":1e300,"protocol_state":"RCPT"}',
        b'{"kind":"request","seq":1,"time":1,"protocol_state":"RCPT","size":99999999999999999999999}',
        b'{"kind":"request","seq":1,"time":1,"protocol_state":7}',
        b'{"kind":"request","seq":1,"time":1,"clock_offset":1e300,"protocol_state":"RCPT"}',
        b'{"kind":"login","seq":"one","time":1}',
        b'{"kind":"login","seq":1,"time":1,"deep":' + b"[" * 100_000 + b"}",
        b'{"kind":"request","seq":1,"time":1,"protocol_state":"RCPT","sasl_username":"' + b"a" * 513 + b'"}',
        b'{"kind":"request","seq":1,"time":1,"protocol_state":"\xff"}',
    ],
)
def test_a_line_that_is_no_event_is_told_and_the_others_are_kept(line: bytes) -> None:
    found = rows.events(envelope([event(1), line, event(3)]), "full")
    assert list(found.seqs) == [1, 3]
    assert found.bad == [line]
    assert found.error


def test_an_envelope_may_be_empty() -> None:
    found = rows.events(envelope([]), "full")
    assert (len(found), found.bad) == (0, [])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        b"[" * 100_000,
        b'{"version":1,"host":"' + b"h" * 256 + b'","epoch":"b"}\n',
        b'{"version":2,"host":"a","epoch":"b"}\n',
        b"\xff\xfe\n{}",
    ],
)
def test_what_is_no_envelope_is_an_error(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        rows.events(value, "full")


def test_every_odd_character_and_a_megabyte_come_back(store: Embedded) -> None:
    texts = [ODD, ODD[::-1] * 3, "x" * 1_000_000]
    made = [
        rows_of(rows.events(envelope([event(seq, sender=text, sasl_username=text[:50])]), "full"))[0]
        for seq, text in enumerate(texts)
    ]
    insert(store, "events", rows.EVENT, made)
    found = store.query("SELECT seq, sender, sasl_username FROM events FINAL ORDER BY seq")
    assert [list(row) for row in found] == [[seq, text, text[:50]] for seq, text in enumerate(texts)]


@given(
    st.builds(
        Request,
        seq=st.integers(0, 2**62),
        time=st.floats(0, 2**32, exclude_max=True),
        clock_offset=st.floats(-(2**32), 2**32),
        protocol_state=st.text(max_size=20),
        sender=st.text(max_size=MAX_TEXT),
        client_port=st.text(max_size=6),
        client_address=st.text(max_size=40),
        size=st.integers(0, 2**62),
        messages=st.integers(0, 2**62),
    )
)
def test_no_event_makes_a_row_out_of_range(made: Request) -> None:
    row = only(envelope([made]))
    for column, value in row.items():
        if isinstance(value, int) and column != "uid":
            assert 0 <= value < 2**63, column
    assert isinstance(row["minute"], int)
    assert row["minute"] % 60 == 0
    assert row["minute"] < 2**32


@pytest.mark.parametrize("recipients", ["full", "domain"])
@pytest.mark.parametrize(
    "kind", [Request, Submitted, Delivery, Removed, Rejected, Login], ids=lambda kind: kind.__name__
)
def test_an_event_of_empty_texts_is_a_row_too(kind: type[msgspec.Struct], recipients: str) -> None:
    texts = {name: "" for name, wanted in get_type_hints(kind).items() if wanted is str}
    made = kind(**texts, seq=0, time=NOON)
    row = only(envelope([made]), recipients)
    assert row["kind"] == kind.__struct_config__.tag
    assert row["refused"] == 0


def test_decisions_and_words_come_back(store: Embedded) -> None:
    evidence = Evidence("messages", 61, 60, 60, NOON, ["mx1", "mx'2"], ["client_address:192.0.2.10"])
    decided = Decision(
        1, "0123456789ab", "sasl_username:alice@example.org", "burst", "521 no", evidence, NOON, NOON + 3600.5
    )
    insert(store, "decisions", decision_rows.DECISION, [decision_rows.decision(decided)])
    insert(
        store,
        "words",
        decision_rows.WORD,
        [
            decision_rows.word(Word(1, "cd", "block", decided.subject, "eve", "it's spam", NOON + 1), NOON + 0.001),
            decision_rows.ended("*", NOON + 2, "eve", 17),
        ],
    )
    (found,) = store.query("SELECT toString(day), toUnixTimestamp64Milli(until), hosts, beside, count FROM decisions")
    assert list(found) == ["2026-09-21", (NOON + 3600.5) * 1000, evidence.hosts, evidence.beside, 61]
    words = store.query("SELECT subject, word, reason, toUnixTimestamp64Milli(time) FROM words ORDER BY time")
    assert list(map(list, words)) == [
        [decided.subject, "block", "it's spam", NOON * 1000 + 1],
        ["*", "resume", "", (NOON + 2) * 1000],
    ]


def test_a_decision_of_nonsense_stays_in_range() -> None:
    evidence = Evidence("messages", -5, 2**70, -1, -1e300)
    row = decision_rows.decision(Decision(1, "x", "s", "burst", "a", evidence, 1e300, -1, change=-3))
    assert all(0 <= value < 2**63 for value in row if isinstance(value, int))
