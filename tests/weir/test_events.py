"""Events: facts that an older or newer reader understands, and that stay small."""

import msgspec
import pytest

from weir import events, limits, subjects
from weir.events import Heartbeat, Request
from weir.limits import Hit


def test_a_request_is_read_as_it_was_written() -> None:
    request = Request(
        seq=7, time=1000.5, clock_offset=-0.25, protocol_state="RCPT", sasl_username="alice@example.org", recipients=1
    )
    assert events.decoder.decode(events.encoder.encode(request)) == request


def test_a_heartbeat_is_read_as_it_was_written() -> None:
    heartbeat = Heartbeat(seq=8, time=1000.0, version="0.1.0", host="mx1", quiet_partitions=[3, 4])
    assert events.decoder.decode(events.encoder.encode(heartbeat)) == heartbeat


def test_unknown_fields_of_a_newer_agent_are_ignored() -> None:
    line = b'{"kind":"request","seq":1,"time":5.0,"protocol_state":"RCPT","colour":"blue"}'
    assert events.decoder.decode(line) == Request(seq=1, time=5.0, protocol_state="RCPT")


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"kind":"storm","seq":1}', b'{"kind":"request","seq":"1"}', b"\xff\x00"]
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        events.decoder.decode(line)


def test_the_largest_request_is_under_64_kib() -> None:
    """Each text at its bound, of the characters that JSON needs most bytes for."""
    worst = "\x01" * events.MAX_TEXT
    texts = {
        field.name: worst for field in msgspec.structs.fields(Request) if field.type is str and field.name != "kind"
    }
    key = subjects.limit_key("sender", "\U0001f600" * 500)
    hit = Hit("f" * 16, key, 2**40, 2.0**53 - 0.5, 1e7 + 0.123456, "\U0001f600" * limits.MAX_WHAT)
    largest = Request(
        seq=2**62,
        time=1e9 + 0.123456,
        rule="\x01" * events.MAX_RULE,
        limits=[hit] * limits.MAX_HITS,
        **texts,  # type: ignore[arg-type]
    )
    assert len(events.encoder.encode(largest)) < 64 * 1024


def test_more_limits_than_an_event_may_hold_are_refused() -> None:
    hit = Hit("f" * 16, "sender=a", 1, 1.0, 60.0)
    line = events.encoder.encode(Request(seq=1, time=1.0, protocol_state="RCPT", limits=[hit] * (limits.MAX_HITS + 1)))
    with pytest.raises(ValueError, match="length"):
        events.decoder.decode(line)


@pytest.mark.parametrize(
    "action", ["DUNNO", "OK", "dunno", "PREPEND X-Weir: yes", "WARN look", "200 fine", "FILTER smtp:[::1]", "HOLD", ""]
)
def test_mail_goes_on_after(action: str) -> None:
    assert events.is_accepted(action)


@pytest.mark.parametrize(
    "action",
    [
        *(
            "REJECT",
            "reject spam",
            "521 5.7.1 no",
            "450 later",
            "DEFER",
            "DEFER_IF_PERMIT x",
            "defer_if_reject",
            "DISCARD",
        ),
        *("REJECT\ttoo much", " REJECT", "450\tlater", "discard\n"),
    ],
)
def test_mail_does_not_go_on_after(action: str) -> None:
    assert not events.is_accepted(action)
