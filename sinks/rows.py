"""Records of the topics as rows of the history, each function one kind.

Invariants: pure; a row follows from its record and the settings alone, so that a record that comes again gives the same
row. Times are by the broker's clock (the host's offset is off), in milliseconds.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import msgspec
from msgspec.structs import astuple

from weir import envelopes, subjects
from weir.decisions import Decision
from weir.envelopes import Head
from weir.events import Event, Number, Offset, Request, Time, is_accepted
from weir.events import decoder as event_decoder
from weir.limits import Hit
from weir.operators import EVERYTHING, Word

_OF_REQUEST = Request.__struct_fields__
EVENT = (
    *("minute", "host", "epoch", "seq", "time", "kind", "refused", "client", "details"),
    # but for seq and time, which every kind of event has, and for what stands in the details
    *(name for name in _OF_REQUEST[2:] if name not in ("rule", "limits")),
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


UNREADABLE = (ValueError, RecursionError)
"""What decoding raises: msgspec's and Unicode's errors are ValueErrors, and JSON may be nested too deep."""


class Other(msgspec.Struct, gc=False):
    """What every event has: all that we know of a kind without columns of its own."""

    seq: Number
    time: Time
    kind: str
    clock_offset: Offset = 0.0


_other_decoder = msgspec.json.Decoder(Other)


class Events(msgspec.Struct, gc=False):
    """An envelope of weir.events, read: its events by seq, each once, and what could not be read."""

    head: Head
    columns: Sequence[Sequence[Any]]
    """For each of EVENT the values of all events: made and inserted so, they cost half of what rows do."""
    bad: list[bytes] = []
    """Lines that are no events."""
    error: str = ""
    """Why the first of them is none."""
    again: bool = False
    """A replay of a dead letter: earlier seqs than those that came after it."""

    def __len__(self) -> int:
        return len(self.columns[SEQ])

    @property
    def epoch(self) -> tuple[str, str]:
        """Host and epoch."""
        return self.head.host, self.head.epoch

    @property
    def seqs(self) -> Sequence[int]:
        return self.columns[SEQ]

    def only(self, kept: list[int]) -> "Events":
        """Those of these places."""
        if len(kept) == len(self):
            return self
        return Events(self.head, [[column[place] for place in kept] for column in self.columns])


def events(value: bytes, recipients: str) -> Events:
    """Read an envelope; `recipients` is `full` or `domain`. Raises msgspec.DecodeError if it is none."""
    try:
        head, records = envelopes.decode(value, event_decoder)
    except UNREADABLE:
        return _line_by_line(value, recipients)
    requests = [record for record in records if isinstance(record, Request)]
    if len(requests) == len(records):
        return _in_order(Events(head, _requests(head, requests, recipients)))
    lines = value.split(b"\n")[1:]
    return _of_rows(head, [_row(head, *pair, recipients) for pair in zip(records, lines, strict=False)])


def _line_by_line(value: bytes, recipients: str) -> Events:
    head_line, _, rest = value.partition(b"\n")
    head, _ = envelopes.decode(head_line, event_decoder)
    rows: list[Row] = []
    bad: list[bytes] = []
    why = ""
    for line in rest.split(b"\n"):
        try:
            other = _other_decoder.decode(line)
            record = event_decoder.decode(line) if other.kind in _KNOWN else other
            rows.append(_row(head, record, line, recipients))
        except UNREADABLE as error:
            bad.append(line)
            why = why or str(error)
    found = _of_rows(head, rows)
    found.bad, found.error = bad, why
    return found


def _row(head: Head, record: Event | Other, line: bytes, recipients: str) -> Row:
    if isinstance(record, Request):
        return tuple(column[0] for column in _requests(head, [record], recipients))
    return _other(head, record, line.decode(), recipients)


def _of_rows(head: Head, rows: list[Row]) -> Events:
    return _in_order(Events(head, list(zip(*rows, strict=True)) or [()] * len(EVENT)))


def _in_order(found: Events) -> Events:
    """By seq and each once, as an agent of ours writes them anyway."""
    seqs = list(found.seqs)
    if seqs == sorted(set(seqs)):
        return found
    places = {seq: place for place, seq in enumerate(seqs)}
    return Events(found.head, [[column[places[seq]] for seq in sorted(places)] for column in found.columns])


def _requests(head: Head, requests: list[Request], recipients: str) -> list[Sequence[Any]]:
    """The columns of requests of one envelope."""
    count = len(requests)
    if not requests:
        return [[] for _ in EVENT]
    own: dict[str, Sequence[Any]] = dict(zip(_OF_REQUEST, zip(*map(astuple, requests), strict=True), strict=True))
    times = [round((time - offset) * 1000) for time, offset in zip(own["time"], own["clock_offset"], strict=True)]
    if min(times) < 0 or max(times) > _MOST * 1000:
        times = [_time(time / 1000) for time in times]
    if recipients != "full":
        own["recipient"] = [_kept(recipient, recipients) for recipient in own["recipient"]]
    own |= {
        "minute": [time // 60_000 * 60 for time in times],
        "time": times,
        "host": [head.host] * count,
        "epoch": [head.epoch] * count,
        "kind": ["request"] * count,
        "refused": [_refused(action) for action in own["action"]],
        "client": [_client(address) for address in own["client_address"]],
        "client_port": [_port(port) for port in own["client_port"]],
        "details": [
            _details(rule, limits, recipients) if rule or limits else ""
            for rule, limits in zip(own["rule"], own["limits"], strict=True)
        ],
    }
    return [own[name] for name in EVENT]


def _details(rule: str, limits: list[Hit], recipients: str) -> str:
    """What rules had to do with a request, as its event tells it."""
    if recipients != "full":
        limits = [msgspec.structs.replace(hit, key=_kept_key(hit.key, recipients)) for hit in limits]
    return msgspec.json.encode({"rule": rule, "limits": limits}).decode()


def _kept_key(key: str, recipients: str) -> str:
    item, _, value = key.partition("=")
    return f"{item}={_kept(value, recipients)}" if item.startswith("recipient") else key


def _other(head: Head, event: Event | Other, text: str, recipients: str) -> Row:
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
    return (_day(said), said, subject, verb, f"{offset}@{said}", who, "", 0, "")


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


@lru_cache(maxsize=1024)
def _refused(action: str) -> int:
    return 0 if is_accepted(action) else 1


@lru_cache(maxsize=65536)
def _port(port: str) -> int:
    number = int(port) if len(port) <= 5 and port.isdigit() and port.isascii() else 0
    return number if number < 65536 else 0


@lru_cache(maxsize=8192)
def _client(address: str) -> str:
    return subjects.value(subjects.client_address(address))


_NUMBERS = frozenset(
    name
    for name, column in zip(
        EVENT, _requests(Head(1, "", ""), [Request(seq=0, time=0, protocol_state="")], "full"), strict=True
    )
    if not isinstance(column[0], str)
)
