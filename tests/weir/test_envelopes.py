"""Envelopes: many records of one host and epoch in one Kafka message."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import envelopes, tallies
from weir.tallies import Tally

TALLIES = st.lists(
    st.builds(
        Tally,
        st.integers(0, 2**62),
        st.text(max_size=20),
        st.floats(allow_nan=False, allow_infinity=False),
        beside=st.text(max_size=20),
    ),
    max_size=20,
)


@given(st.text(max_size=20), st.text(max_size=20), TALLIES)
def test_read_as_written(host: str, epoch: str, records: list[Tally]) -> None:
    head = envelopes.head(host, epoch)
    value = envelopes.encode(head, map(tallies.encoder.encode, records))
    assert envelopes.decode(value, tallies.decoder) == (envelopes.Head(envelopes.VERSION, host, epoch), records)


def test_each_record_is_one_line() -> None:
    value = envelopes.encode(envelopes.head("mx1", "e"), [b'{"seq":1}', b'{"seq":2}'])
    assert value.splitlines() == [b'{"version":1,"host":"mx1","epoch":"e"}', b'{"seq":1}', b'{"seq":2}']


@pytest.mark.parametrize(
    "value", [b"", b"\n", b"garbage", b'{"version":1}', b'{"version":1,"host":"a","epoch":"b"}\nx']
)
def test_what_is_no_envelope_is_refused(value: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        envelopes.decode(value, tallies.decoder)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(msgspec.DecodeError, match="expected an envelope of version 1, got 2"):
        envelopes.decode(b'{"version":2,"host":"mx1","epoch":"e"}\n', tallies.decoder)


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(value: bytes) -> None:
    with contextlib.suppress(msgspec.DecodeError):
        envelopes.decode(value, tallies.decoder)
