"""Events and envelopes for tests of the history."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sinks import rows
from sinks.rows import Events
from sinks.store import Store
from weir import envelopes
from weir.events import Delivery, Login, Rejected, Removed, Request, Submitted, encoder

NOON = 1_790_000_040.0
"""The start of a minute."""


def event(seq: int, **fields: Any) -> Request:
    known: dict[str, Any] = {
        "time": NOON,
        "protocol_state": "RCPT",
        "sasl_username": "alice@example.org",
        "client_address": "192.0.2.10",
        "messages": 1,
        "recipients": 2,
    }
    return Request(seq=seq, **(known | fields))


class Way:
    """What the mail log tells of one message of Alice's; seqs go on from `seq`."""

    def __init__(self, seq: int, queue_id: str = "4bXYZ", submitted: float = NOON, **of: Any) -> None:
        self.events: list[Any] = []
        self._seq = seq
        known = {"sasl_username": "alice@example.org", "client_address": "192.0.2.10", "message_id": "<1@a.example>"}
        self._of = known | {"queue_id": queue_id, "submitted": submitted} | of

    def submitted(self, time: float = NOON, **fields: Any) -> "Way":
        return self._add(Submitted, time, {"sender": "alice@example.org", "size": 900, "recipients": 2} | fields)

    def delivery(self, status: str, time: float = NOON, **fields: Any) -> "Way":
        return self._add(Delivery, time, {"status": status, "recipient": "bob@example.net"} | fields)

    def removed(self, how: str = "removed", time: float = NOON) -> "Way":
        return self._add(Removed, time, {"how": how})

    def _add(self, kind: Any, time: float, fields: dict[str, Any]) -> "Way":
        self.events.append(kind(seq=self._seq, time=time, **(self._of | fields)))
        self._seq += 1
        return self


def rejected(seq: int, **fields: Any) -> Rejected:
    known: dict[str, Any] = {"time": NOON, "client_address": "192.0.2.10", "stage": "RCPT", "code": 554}
    return Rejected(seq=seq, **(known | fields))


def login(seq: int, **fields: Any) -> Login:
    known: dict[str, Any] = {"time": NOON, "sasl_username": "alice@example.org", "client_address": "192.0.2.10"}
    return Login(seq=seq, **(known | fields))


def envelope(records: Sequence[Any], host: str = "mx1", epoch: str = "e1") -> bytes:
    lines = [encoder.encode(one) if isinstance(one, msgspec.Struct) else one for one in records]
    return envelopes.encode(envelopes.head(host, epoch), lines)


def events(records: Sequence[Any], host: str = "mx1", epoch: str = "e1") -> Events:
    return rows.events(envelope(records, host, epoch), "full")


def rows_of(*made: Events) -> list[rows.Row]:
    """The events as rows, each in the order of EVENT."""
    return [row for one in made for row in zip(*map(one.column, rows.EVENT), strict=True)]


def insert(store: Store, table: str, names: Sequence[str], made: Sequence[rows.Row], token: str = "") -> None:
    """Insert rows, as one writes them by hand."""
    store.insert(table, names, list(zip(*made, strict=True)), token)
