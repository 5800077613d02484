"""A batch of messages."""

import weakref

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
