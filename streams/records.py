"""How windows stand in the changelog: msgpack arrays. A new field goes to the end and has a default.

Invariant: the first fields of a record are its head's, so that it can be looked at without being decoded.
"""

from typing import Annotated

import msgspec

from weir.limits import MIN_SECONDS

VERSION = 1
LIMIT_VERSION = 1
OUTCOME_VERSION = 1


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


class LimitRecord(msgspec.Struct, array_like=True, gc=False):
    """A `streams.limits.LimitWindow`, whose docstrings say what the fields mean."""

    version: int
    ends: float
    until: float
    what: str
    maximum: Annotated[float, msgspec.Meta(gt=0)]
    seconds: Annotated[float, msgspec.Meta(ge=MIN_SECONDS)]
    buckets: list[int]
    sums: list[int]
    hosts: dict[str, int]
    after: float
    since: float
    change: int


class LimitHead(msgspec.Struct, array_like=True, gc=False):
    version: int
    ends: float
    """When all that was counted has left the window, Unix seconds."""
    until: float
    """End of the last decision, Unix seconds."""


class OutcomeRecord(msgspec.Struct, array_like=True, gc=False):
    """A `streams.outcomes.OutcomeWindow`, whose docstrings say what the fields mean."""

    version: int
    newest: int
    counts: dict[str, dict[int, int]]
    after: float


class OutcomeHead(msgspec.Struct, array_like=True, gc=False):
    version: int
    newest: int
    """The newest bucket, 0 if there is none."""


_encoder = msgspec.msgpack.Encoder()
_record_decoder = msgspec.msgpack.Decoder(Record)
_head_decoder = msgspec.msgpack.Decoder(Head)
_limit_decoder = msgspec.msgpack.Decoder(LimitRecord)
_limit_head_decoder = msgspec.msgpack.Decoder(LimitHead)
_outcome_decoder = msgspec.msgpack.Decoder(OutcomeRecord)
_outcome_head_decoder = msgspec.msgpack.Decoder(OutcomeHead)


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


def encode_limit(record: LimitRecord) -> bytes:
    return _encoder.encode(record)


def decode_limit(value: bytes) -> LimitRecord:
    """Raises ValueError for what is no record of a version that we know."""
    record = _limit_decoder.decode(value)
    _expect_known(record.version, LIMIT_VERSION)
    if len(record.buckets) != len(record.sums):
        raise ValueError("expected as many sums as buckets")
    return record


def decode_limit_head(value: bytes) -> LimitHead:
    """The head of a limit's record only. Raises ValueError for what is none of a version that we know."""
    head = _limit_head_decoder.decode(value)
    _expect_known(head.version, LIMIT_VERSION)
    return head


def encode_outcome(record: OutcomeRecord) -> bytes:
    return _encoder.encode(record)


def decode_outcome(value: bytes) -> OutcomeRecord:
    """Raises ValueError for what is no record of a version that we know."""
    record = _outcome_decoder.decode(value)
    _expect_known(record.version, OUTCOME_VERSION)
    return record


def decode_outcome_head(value: bytes) -> OutcomeHead:
    """The head of a record of outcomes only. Raises ValueError for what is none of a version that we know."""
    head = _outcome_head_decoder.decode(value)
    _expect_known(head.version, OUTCOME_VERSION)
    return head


def _expect_known(version: int, known: int = VERSION) -> None:
    if version != known:
        raise ValueError(f"expected a window of version {known}, got {version}")
