"""Decisions: keys, ids and replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import decisions
from weir.decisions import Decision, Evidence

ACCOUNT = "sasl_username:alice@example.org"


def test_read_as_written() -> None:
    evidence = Evidence("messages", 61, 60, 60, 1000.0, ["mx1"], ["client_address:192.0.2.7"])
    decision = Decision(
        1, "0" * 12, ACCOUNT, "burst", "521 no", evidence, 1000.0, 4600.0, shadow=True, why_shadow="brake"
    )
    assert decisions.decoder.decode(decisions.encoder.encode(decision)) == decision


@given(st.from_regex(r"[a-z_]+", fullmatch=True), st.text(min_size=1, max_size=50))
def test_a_key_splits_into_what_it_was_made_of(cause: str, subject: str) -> None:
    assert decisions.split_key(decisions.key(cause, subject)) == (cause, subject)


@pytest.mark.parametrize("key", [b"", b"burst", b"burst ", b" x", b"\xff x"])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decisions.split_key(key)


def test_the_same_facts_give_the_same_id() -> None:
    identity = decisions.decision_id(ACCOUNT, "burst", 1000.0)
    assert identity == decisions.decision_id(ACCOUNT, "burst", 1000.9)
    others = {
        decisions.decision_id(ACCOUNT, "burst", 1001.0),
        decisions.decision_id(ACCOUNT, "flood", 1000.0),
        decisions.decision_id("sasl_username:bob@example.org", "burst", 1000.0),
    }
    assert len(others - {identity}) == 3
    assert len(identity) == 12
    assert set(identity) <= set("0123456789abcdef")


def test_a_blocks_reply_names_cause_and_id() -> None:
    assert decisions.action("Too much mail", "burst", "abc") == "521 5.7.1 Too much mail [weir burst abc]"
