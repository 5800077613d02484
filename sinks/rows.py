"""Records of the topics as rows of the history, each function one kind.

Invariants: pure; a row follows from its record and the settings alone, so that a record that comes again gives the same
row. Times are by the broker's clock (the host's offset is off), in milliseconds.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import astuple

from weir import envelopes, subjects
from weir.decisions import Decision
from weir.envelopes import Head
from weir.events import Event, Number, Request, Time, is_accepted
from weir.events import decoder as event_decoder
from weir.operators import EVERYTHING, Word

_OF_REQUEST = Request.__struct_fields__
_PORT = _OF_REQUEST.index("client_port")
EVENT = (
    *("minute", "host", "epoch", "seq", "time", "kind", "refused", "client", "details"),
    *_OF_REQUEST[2:],  # but for seq and time, which every kind of event has
)
DECISION = (
    *("day", "id", "change", "subject", "cause", "action", "since", "until", "after", "decided"),
    *("shadow", "why_shadow", "who", "counter", "count", "threshold", "seconds", "crossed", "hosts", "beside"),
)
WORD = ("day", "time", "subject", "word", "id", "who", "reason", "until", "action")

MINUTE, SEQ, CLIENT, SASL_USERNAME = map(EVENT.index, ("minute", "seq", "client", "sasl_username"))

Row = tuple[Any, ...]

_MOST = 2**32 - 1
"""Seconds: the end of ClickHouse's DateTime, in 2106."""
_KNOWN = frozenset(kind.__struct_config__.tag for kind in (Request,))


class Other(msgspec.Struct, gc=False):
    """What every event has: all that we know of a kind without columns of its own."""

    seq: Number
    time: Time
    kind: str
    clock_offset: float = 0.0


_other_decoder = msgspec.json.Decoder(Other)


class Events(msgspec.Struct, gc=False):
    """An envelope of weir.events, read: its rows by seq, each once, and what could not be read."""

    head: Head
    rows: list[Row]
    bad: list[bytes]
    """Lines that are no events."""
    error: str = ""
    """Why the first of them is none."""
    again: bool = False
    """A replay of a dead letter: earlier seqs than those that came after it."""


def events(value: bytes, recipients: str) -> Events:
    """Read an envelope; `recipients` is `full` or `domain`. Raises msgspec.DecodeError if it is none."""
    try:
        head, records = envelopes.decode(value, event_decoder)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _line_by_line(value, recipients)
    lines = None
    made = []
    for index, event in enumerate(records):
        if isinstance(event, Request):
            made.append(request(head, event, recipients))
        else:
            lines = lines or value.split(b"\n")
            made.append(other(head, event, lines[index + 1].decode(), recipients))
    return Events(head, _in_order(made), [])


def _line_by_line(value: bytes, recipients: str) -> Events:
    head_line, _, rest = value.partition(b"\n")
    head, _ = envelopes.decode(head_line, event_decoder)
    found = Events(head, [], [])
    for line in rest.split(b"\n"):
        try:
            kind = _other_decoder.decode(line)
            if kind.kind in _KNOWN:
                event = event_decoder.decode(line)
                assert isinstance(event, Request)  # noqa: S101 (for mypy: its kind says so)
                found.rows.append(request(head, event, recipients))
            else:
                found.rows.append(other(head, kind, line.decode(), recipients))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            found.bad.append(line)
            found.error = found.error or str(error)
    found.rows = _in_order(found.rows)
    return found


def _in_order(made: list[Row]) -> list[Row]:
    """By seq and each once, as an agent of ours writes them anyway."""
    seqs = [row[SEQ] for row in made]
    if seqs == sorted(set(seqs)):
        return made
    return [row for _, row in sorted({row[SEQ]: row for row in made}.items())]


def request(head: Head, event: Request, recipients: str) -> Row:
    if recipients != "full":
        event.recipient = _kept(event.recipient, recipients)
    time = _time(event.time - event.clock_offset)
    refused = 0 if is_accepted(event.action) else 1
    own = astuple(event)
    port = own[_PORT]
    return (
        *(time // 60_000 * 60, head.host, head.epoch, event.seq, time, "request", refused),
        *(_client(event.client_address), ""),
        *own[2:_PORT],
        int(port) if len(port) <= 5 and port.isdigit() and port.isascii() and int(port) < 65536 else 0,
        *own[_PORT + 1 :],
    )


def other(head: Head, event: Event | Other, text: str, recipients: str) -> Row:
    """An event of a kind without columns of its own: `text`, the whole of it, goes into `details`."""
    if recipients != "full" and '"recipient"' in text:
        whole = msgspec.json.decode(text)
        text = msgspec.json.encode(whole | {"recipient": _kept(str(whole.get("recipient", "")), recipients)}).decode()
    kind = event.kind if isinstance(event, Other) else str(event.__struct_config__.tag)
    time = _time(event.time - event.clock_offset)
    known = {
        "minute": time // 60_000 * 60,
        "time": time,
        "host": head.host,
        "epoch": head.epoch,
        "seq": event.seq,
        "kind": kind,
        "clock_offset": event.clock_offset,
        "details": text,
    }
    return tuple(known.get(column, 0 if column in _NUMBERS else "") for column in EVENT)


def decision(record: Decision) -> Row:
    evidence = record.evidence
    since = _time(record.since)
    return (
        _day(since),
        record.id,
        min(max(record.change, 0), _MOST),
        record.subject,
        record.cause,
        record.action,
        since,
        _time(record.until),
        _time(record.after),
        _time(record.decided),
        int(record.shadow),
        record.why_shadow,
        record.who,
        evidence.counter,
        _number(evidence.count),
        _number(evidence.threshold),
        min(max(evidence.seconds, 0), _MOST),
        _time(evidence.time),
        evidence.hosts,
        evidence.beside,
    )


def word(record: Word, time: float) -> Row:
    """An operator's word; `time` is the broker's, Unix seconds."""
    said = _time(time)
    return (
        _day(said),
        said,
        record.subject,
        record.word,
        record.id,
        record.who,
        record.reason,
        _time(record.until),
        record.action,
    )


def ended(subject: str, time: float, who: str, offset: int) -> Row:
    """The end of an operator's standing word (of a pause, the subject is `*`): a record without a value."""
    said = _time(time)
    verb = "resume" if subject == EVERYTHING else "end"
    return (_day(said), said, subject, verb, f"offset {offset}", who, "", 0, "")


def _kept(recipient: str, recipients: str) -> str:
    if recipients == "full":
        return recipient
    _, at, domain = recipient.rpartition("@")
    return at + domain if at else ""


def _number(count: int) -> int:
    return min(max(count, 0), 2**62)


def _day(milliseconds: int) -> date:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date()


def _time(seconds: float) -> int:
    return round(min(max(seconds, 0.0), _MOST) * 1000)


@lru_cache(maxsize=8192)
def _client(address: str) -> str:
    return subjects.value(subjects.client_address(address))


_NUMBERS = frozenset(
    column
    for column, value in zip(
        EVENT, request(Head(1, "", ""), Request(seq=0, time=0, protocol_state=""), "full"), strict=True
    )
    if not isinstance(value, str)
)
