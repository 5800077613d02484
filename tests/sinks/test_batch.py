"""A batch of messages."""

import weakref

import pytest
from structlog.testing import capture_logs

from sinks import rows
from sinks.batch import Batch, Message
from tests.sinks.made import envelope, event
from weir import topics


def test_a_batch_is_gone_with_its_last_reference() -> None:
    """It is large: none waits for Python to look for cycles."""
    batch = Batch("full")
    batch.add(Message(topics.EVENTS, 0, 0, b"mx1", envelope([event(1)]), 0.0, {}))
    assert batch.rows == 1
    left = weakref.ref(batch)
    del batch
    assert left() is None


def test_what_meets_a_fault_of_ours_is_put_aside_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_value: bytes, _recipients: str) -> rows.Events:
        raise KeyError("action")

    monkeypatch.setattr(rows, "events", fails)
    batch = Batch("full")
    with capture_logs() as logs:
        batch.add(Message(topics.EVENTS, 3, 17, b"mx1", envelope([event(1)]), 0.0, {}))
    (letter,) = batch.dead
    assert b"KeyError('action')" in letter.value
    assert batch.next == {(topics.EVENTS, 3): 18}
    assert [(one["log_level"], one["offset"]) for one in logs] == [("error", 17)]
