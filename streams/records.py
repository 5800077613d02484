"""How windows stand in the changelog: msgpack arrays. A new field goes to the end and has a default.

Invariant: the first fields of a `Record` are its `Head`, so that it can be looked at without being decoded.
"""

import msgspec

VERSION = 1


class Record(msgspec.Struct, array_like=True, gc=False):
    """A `streams.windows.Window`, whose docstrings say what the fields mean."""

    version: int
    newest: int
    until: int
    buckets: list[int]
    messages: list[int]
    recipients: list[int]
    hosts: dict[str, int]
    beside: dict[str, int]
    after: float
    floor: int
    since: int
    change: int
    why_shadow: str


class Head(msgspec.Struct, array_like=True, gc=False):
    version: int
    newest: int
    """The newest bucket, 0 if there is none."""
    until: int
    """End of the last block, Unix seconds."""


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_head_decoder = msgspec.msgpack.Decoder(Head)


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def decode(value: bytes) -> Record:
    """Raises ValueError for what is no record of a version that we know."""
    record = _record_decoder.decode(value)
    _expect_known(record.version)
    if not len(record.buckets) == len(record.messages) == len(record.recipients):
        raise ValueError("expected as many messages and recipients as buckets")
    return record


def decode_head(value: bytes) -> Head:
    """The head of a record only. Raises ValueError for what is none of a version that we know."""
    head = _head_decoder.decode(value)
    _expect_known(head.version)
    return head


def _expect_known(version: int) -> None:
    if version != VERSION:
        raise ValueError(f"expected a window of version {VERSION}, got {version}")
