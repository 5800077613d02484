"""Events as rows of the history, column by column; decisions and words: `sinks.decision_rows`.

Invariants: pure; a row follows from its event and the settings alone, so that an event that comes again gives the same
row. Times are by the broker's clock (the host's offset is off), in milliseconds.
"""

from collections.abc import Sequence
from itertools import chain
from operator import lt
from typing import Any

import msgspec
from msgspec.structs import astuple

from sinks import texts
from sinks.privacy import kept, kept_key, without_names
from weir import envelopes, subjects
from weir.envelopes import UNREADABLE, Head
from weir.events import (
    Delivery,
    Event,
    Login,
    Number,
    Offset,
    Queue,
    Rejected,
    Removed,
    Request,
    Submitted,
    Time,
)
from weir.events import decoder as event_decoder
from weir.limits import Hit

REQUEST = (
    *("minute", "host", "epoch", "seq", "time", "kind", "refused", "client", "details"),
    # but for seq and time, which every kind of event has, and for what stands in the details
    *(name for name in Request.__struct_fields__[2:] if name != "limits"),
)
EVENT = (
    *REQUEST,
    *("submitted", "message_id", "parent", "uid", "login", "unasked", "status", "relay", "dsn", "bounce", "list"),
    *("text", "how", "code", "service", "tries", "failed"),
)

Row = tuple[Any, ...]
Columns = dict[str, Sequence[Any]]
"""Name of EVENT → the values of all events. What they leave at its default is left out, there and in an insert."""

MOST = 2**32 - 1
"""Seconds: the end of ClickHouse's DateTime, in 2106."""
_QUEUED = 100 * 86_400_000
"""Milliseconds: Postfix keeps no message longer (maximal_queue_lifetime); what tells of an earlier one is garbage."""
_SHARED: dict[type[msgspec.Struct], dict[str, str]] = {
    Request: {},
    Submitted: {"recipients": "recipient_count"},
    Delivery: {},
    Removed: {},
    Rejected: {"stage": "protocol_state"},
    Login: {"method": "sasl_method"},
}
"""Kinds that have columns, and what goes into the column of another name."""
_FIELDS = {kind: [shared.get(name, name) for name in kind.__struct_fields__] for kind, shared in _SHARED.items()}
_KNOWN = {kind.__struct_config__.tag for kind in _SHARED}
MAIL_LOG = frozenset(_KNOWN - {"request"})
"""Kinds of events that the mail log tells."""
_EMPTY = dict.fromkeys(EVENT, "") | dict.fromkeys(
    (
        *("minute", "seq", "time", "refused", "clock_offset", "cut", "recipient_count", "client_port", "size"),
        *("messages", "recipients", "bytes", "attempted_messages", "attempted_recipients"),
        *("submitted", "unasked", "code", "tries"),
    ),
    0,
)
_EMPTY["uid"] = -1
_ALWAYS = frozenset({"minute", "host", "epoch", "seq", "time", "kind", "uid"})
"""Columns that are not left out for being empty; of uid 0 is root."""
_AGAIN = frozenset(
    (
        *("protocol_state", "sasl_username", "sasl_method", "sender", "client_address", "client_name", "helo_name"),
        *("server_address", "encryption_protocol", "status", "relay", "dsn", "service"),
    )
)
"""Columns whose texts come again: one object is kept of each, since whoever goes through those of a batch waits for the
memory.
"""


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
    columns: Columns
    """Made and inserted so, events cost half of what rows do."""
    bad: list[bytes] = []
    """Lines that are no events."""
    error: str = ""
    """Why the first of them is none."""
    again: bool = False
    """A replay of a dead letter: earlier seqs than those that came after it."""

    def __len__(self) -> int:
        return len(self.columns["seq"])

    @property
    def epoch(self) -> tuple[str, str]:
        """Host and epoch."""
        return self.head.host, self.head.epoch

    @property
    def seqs(self) -> Sequence[int]:
        return self.columns["seq"]

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column, left out or not."""
        return self.columns[name] if name in self.columns else [_EMPTY[name]] * len(self)

    def only(self, kept: Sequence[int]) -> "Events":
        """Those of these places."""
        if len(kept) == len(self):
            return self
        return Events(self.head, {name: [column[place] for place in kept] for name, column in self.columns.items()})


def together(found: Sequence[Events]) -> Columns:
    """The columns of all of them, in the order of EVENT."""
    present = _ALWAYS.union(*(one.columns for one in found))
    return {name: list(chain.from_iterable([one.column(name) for one in found])) for name in EVENT if name in present}


def events(value: bytes, recipients: str) -> Events:
    """Read an envelope; `recipients` is `full` or `domain`. Raises msgspec.DecodeError if it is none."""
    try:
        head, records = envelopes.decode(value, event_decoder)
    except UNREADABLE:
        return _line_by_line(value, recipients)
    lines = [] if _SHARED.keys() >= set(map(type, records)) else value.split(b"\n")[1:]
    return _of_records(head, records, lines, recipients)


def _line_by_line(value: bytes, recipients: str) -> Events:
    head_line, _, rest = value.partition(b"\n")
    head, _ = envelopes.decode(head_line, event_decoder)
    records: list[Event | Other] = []
    lines: list[bytes] = []
    bad: list[bytes] = []
    why = ""
    for line in rest.split(b"\n"):
        try:
            other = _other_decoder.decode(line)
            if other.kind not in _KNOWN:
                line.decode()  # it goes into details as it is
            records.append(event_decoder.decode(line) if other.kind in _KNOWN else other)
            lines.append(line)
        except UNREADABLE as error:
            bad.append(line)
            why = why or str(error)
    found = _of_records(head, records, lines, recipients)
    found.bad, found.error = bad, why
    return found


def _of_records(head: Head, records: Sequence[Event | Other], lines: Sequence[bytes], recipients: str) -> Events:
    """Kind by kind: columns of one kind are made together. `lines` are of use to kinds without columns only."""
    parts = []
    kinds = dict.fromkeys(map(type, records))
    for kind in kinds:
        if kind in _SHARED:
            some = [record for record in records if type(record) is kind] if len(kinds) > 1 else records
            parts.append(Events(head, _known(head, kind, some, recipients)))
        else:
            parts += [
                Events(head, _other(head, record, line.decode(), recipients))
                for record, line in zip(records, lines, strict=False)
                if type(record) is kind
            ]
    return _in_order(parts[0] if len(parts) == 1 else Events(head, together(parts)))


def _in_order(found: Events) -> Events:
    """By seq and each once, as an agent of ours writes them anyway."""
    seqs = found.seqs
    if all(map(lt, seqs, seqs[1:])):
        return found
    places = {seq: place for place, seq in enumerate(seqs)}
    order = [places[seq] for seq in sorted(places)]
    return Events(found.head, {name: [column[place] for place in order] for name, column in found.columns.items()})


def _known(head: Head, kind: type[msgspec.Struct], records: Sequence[Any], recipients: str) -> Columns:
    """The columns of events of one kind, of one envelope."""
    count = len(records)
    own = _told(kind, records)
    offsets = own.get("clock_offset")
    if offsets is None:
        times = [round(time * 1000) for time in own["time"]]
    else:
        if kind is not Request:
            offsets = own["clock_offset"] = _of_whole_seconds(own)
        times = [round((time - offset) * 1000) for time, offset in zip(own["time"], offsets, strict=True)]
    first, last = min(times), max(times)
    if first < 0 or last > MOST * 1000:
        times = [milliseconds(time / 1000) for time in times]
        first, last = min(times), max(times)
    if kind is Request:
        _complete_requests(own, recipients)
    else:
        _complete_mail_log(own, times, recipients)
    if recipients != "full" and "recipient" in own:
        own["recipient"] = [kept(recipient, recipients) for recipient in own["recipient"]]
    if "client_address" in own:
        own["client"] = list(map(texts.client.__getitem__, own["client_address"]))
    minute = last // 60_000
    return own | {
        "minute": [minute * 60] * count if first >= minute * 60_000 else [time // 60_000 * 60 for time in times],
        "time": times,
        "host": [head.host] * count,
        "epoch": [head.epoch] * count,
        "kind": [str(kind.__struct_config__.tag)] * count,
    }


def _told(kind: type[msgspec.Struct], records: Sequence[Any]) -> Columns:
    """The columns that hold more than their default, as the events have them."""
    count = len(records)
    own: Columns = {}
    for name, column in zip(_FIELDS[kind], zip(*map(astuple, records), strict=True), strict=True):
        first = column[0]
        if not first and name not in _ALWAYS and column.count(first) == count:
            continue
        if name in _AGAIN:
            alike = first == column[-1] and column.count(first) == count
            own[name] = [texts.same[first]] * count if alike else list(map(texts.same.__getitem__, column))
        else:
            own[name] = column
    return own


def _complete_requests(own: Columns, recipients: str) -> None:
    if "action" in own and any(refused := list(map(texts.refused.__getitem__, own["action"]))):
        own["refused"] = refused
    if "client_port" in own:
        own["client_port"] = list(map(texts.port.__getitem__, own["client_port"]))
    if "limits" in own:
        own["details"] = [_details(hits, recipients) if hits else "" for hits in own.pop("limits")]


def _of_whole_seconds(own: Columns) -> list[float]:
    """The clock's offsets, rounded where a log tells seconds only: some milliseconds make no other second of it."""
    pairs = zip(own["time"], own["clock_offset"], strict=True)
    return [offset if time % 1 else float(round(offset)) for time, offset in pairs]


def _complete_mail_log(own: Columns, times: list[int], recipients: str) -> None:
    """When the message was submitted, in seconds: of what is not a message's, when it happened."""
    zeros = [0.0] * len(times)
    told, offsets = own.get("submitted", zeros), own.get("clock_offset", zeros)
    own["submitted"] = [
        min(max(round((begin - offset) * 1000), time - _QUEUED, 0), time) // 1000 if begin else time // 1000
        for begin, offset, time in zip(told, offsets, times, strict=True)
    ]
    if recipients != "full" and "text" in own:
        names = own.get("recipient", [""] * len(times))
        own["text"] = [without_names(*pair) if pair[0] else "" for pair in zip(own["text"], names, strict=True)]


def _details(limits: list[Hit], recipients: str) -> str:
    """The limits that counted a request, as its event tells them."""
    if recipients != "full":
        limits = [msgspec.structs.replace(hit, key=kept_key(hit.key, recipients)) for hit in limits]
    return msgspec.json.encode({"limits": limits}).decode()


def _other(head: Head, event: Event | Other, text: str, recipients: str) -> Columns:
    """The columns of an event of a kind without columns of its own: `text`, the whole of it, goes into `details`."""
    if recipients != "full" and '"recipient"' in text:
        whole = msgspec.json.decode(text)
        text = msgspec.json.encode(whole | {"recipient": kept(str(whole.get("recipient", "")), recipients)}).decode()
    kind = event.kind if isinstance(event, Other) else str(event.__struct_config__.tag)
    time = milliseconds(event.time - event.clock_offset)
    known: Columns = {
        "minute": [time // 60_000 * 60],
        "time": [time],
        "host": [head.host],
        "epoch": [head.epoch],
        "seq": [event.seq],
        "kind": [kind],
        "clock_offset": [event.clock_offset],
        "details": [text],
    }
    if isinstance(event, Queue):
        known |= {"how": [event.how], "submitted": [time // 1000]}
        known |= _of_subject(event.subject)
    return known


def _of_subject(subject: str) -> Columns:
    """So that it is found, and forgotten, with the account or the local user."""
    if subjects.is_account(subject):
        return {"sasl_username": [subjects.value(subject)]}
    return {"uid": [int(subjects.value(subject))]} if subjects.is_uid(subject) else {}


def milliseconds(seconds: float) -> int:
    """Of a Unix time, in the range of ClickHouse's."""
    return round(min(max(seconds, 0.0), MOST) * 1000)
