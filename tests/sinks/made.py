"""Events and envelopes for tests of the history."""

from collections.abc import Sequence
from typing import Any

import msgspec

from sinks import rows
from sinks.rows import Events
from sinks.store import Store
from weir import envelopes
from weir.events import Request, encoder

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


def envelope(records: Sequence[Any], host: str = "mx1", epoch: str = "e1") -> bytes:
    lines = [encoder.encode(one) if isinstance(one, msgspec.Struct) else one for one in records]
    return envelopes.encode(envelopes.head(host, epoch), lines)


def events(records: Sequence[Any], host: str = "mx1", epoch: str = "e1") -> Events:
    return rows.events(envelope(records, host, epoch), "full")


def rows_of(*made: Events) -> list[rows.Row]:
    """The events as rows, each in the order of EVENT."""
    return [row for one in made for row in zip(*one.columns, strict=True)]


def insert(store: Store, table: str, names: Sequence[str], made: Sequence[rows.Row], token: str = "") -> None:
    """Insert rows, as one writes them by hand."""
    store.insert(table, names, list(zip(*made, strict=True)), token)
