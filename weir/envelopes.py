"""Envelopes: the Kafka messages of weir.events and weir.tallies. `kcat` shows them as they are.

    {"version":1,"host":"mx1","epoch":"5f0c…"}      head: all lines are of this host and epoch
    {"seq":17,"subject":"sasl_username:…",…}        one record a line, seq never falling

Invariants: all records of one event for one partition stand in one envelope; an envelope is at most MAX_BYTES long.
"""

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec

T = TypeVar("T")

UNREADABLE = (ValueError, RecursionError)
"""What decoding a record raises: msgspec's and Unicode's errors are ValueErrors, and JSON may be nested too deep."""
VERSION = 1
MAX_BYTES = 256 * 1024


class Head(msgspec.Struct, gc=False):
    version: int
    host: Annotated[str, msgspec.Meta(max_length=255)]
    epoch: Annotated[str, msgspec.Meta(max_length=64)]
    """Random id: seqs of different epochs have nothing to do with each other."""


_head_decoder: msgspec.json.Decoder[Head] = msgspec.json.Decoder(Head)


def head(host: str, epoch: str) -> bytes:
    """The head line, with its line break; the same for all envelopes of an epoch."""
    return msgspec.json.encode(Head(VERSION, host, epoch)) + b"\n"


def encode(head_line: bytes, lines: Iterable[bytes]) -> bytes:
    """An envelope of records, each one line of JSON without its line break."""
    return head_line + b"\n".join(lines)


def decode(value: bytes, records: "msgspec.json.Decoder[T]") -> tuple[Head, list[T]]:
    """Head and records. Raises one of UNREADABLE for what is no envelope of a version that we know."""
    head_line, _, lines = value.partition(b"\n")
    found = _head_decoder.decode(head_line)
    if found.version != VERSION:
        raise msgspec.ValidationError(f"expected an envelope of version {VERSION}, got {found.version}")
    return found, records.decode_lines(lines)
