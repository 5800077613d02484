"""A batch: what was read from Kafka and is not in the history yet.

Invariants: pure, but for a log line of a fault of ours; each message is in the batch, or in weir.dead with its error,
and either way below the offset to commit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from sinks import decision_rows, rows
from sinks.rows import Events, Row
from weir import dead_letters, decisions, envelopes, operators, subjects, topics
from weir.decisions import decoder as decision_decoder
from weir.operators import decoder as word_decoder

log = structlog.get_logger(__name__)


class Message(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    time: float
    """The broker's time stamp, Unix seconds."""
    headers: dict[str, Any]
    """Name → bytes, or None."""


class DeadLetter(NamedTuple):
    key: bytes
    value: bytes


class Batch:
    def __init__(self, recipients: str) -> None:
        self.events: list[Events] = []
        self.decisions: list[Row] = []
        self.words: list[Row] = []
        self.dead: list[DeadLetter] = []
        self.rows = 0
        """Of all kinds together, dead letters too."""
        self.next: dict[tuple[str, int], int] = {}
        """Topic and partition → the offset to go on from once all this is stored."""
        self._recipients = recipients

    def add(self, message: Message) -> None:
        """Take in a message; what cannot be understood becomes a dead letter."""
        try:
            _ADD[message.topic](self, message)
        except envelopes.UNREADABLE as error:
            self._bury(message, message.value, str(error))
        except Exception as error:  # a fault of ours stops no history: the message waits for a version that can read it
            log.exception("not understood, put aside", topic=message.topic, offset=message.offset)
            self._bury(message, message.value, repr(error))
        self.next[message.topic, message.partition] = message.offset + 1

    def _add_events(self, message: Message) -> None:
        found = rows.events(message.value or b"", self._recipients)
        found.again = dead_letters.REPLAYED in message.headers
        if len(found):
            self.events.append(found)
            self.rows += len(found)
        if found.bad:
            head_line = (message.value or b"").partition(b"\n")[0]
            self._bury(message, b"\n".join([head_line, *found.bad]), found.error)

    def _add_decision(self, message: Message) -> None:
        if message.value is None:
            return  # the broker keeps no decision under this key any more: the history does
        record = decision_decoder.decode(message.value)
        if record.version != decisions.VERSION:
            raise ValueError(f"expected a decision of version {decisions.VERSION}, got {record.version}")
        _check_length(record.subject)
        self.decisions.append(decision_rows.decision(record))
        self.rows += 1

    def _add_word(self, message: Message) -> None:
        group, subject = operators.split_key(message.key or b"")
        _check_length(subject)
        if message.value is None:
            who = (message.headers.get("who") or b"").decode(errors="replace")
            if group == operators.STANDING:
                self.words.append(decision_rows.ended(subject, message.time, who, message.offset))
                self.rows += 1
            return
        record = word_decoder.decode(message.value)
        if record.version != operators.VERSION:
            raise ValueError(f"expected a word of version {operators.VERSION}, got {record.version}")
        if operators.key(record) != message.key:  # agents do not obey it
            raise ValueError(f"expected a word that agrees with its key {message.key!r}")
        self.words.append(decision_rows.word(record, message.time))
        self.rows += 1

    def _bury(self, message: Message, value: bytes | None, error: str) -> None:
        origin = message.topic, message.partition, message.offset
        letter = dead_letters.encode(origin, message.key, value, error, "sink")
        self.dead.append(DeadLetter(dead_letters.key(origin), letter))
        self.rows += 1


_ADD: dict[str, Callable[[Batch, Message], None]] = {
    topics.EVENTS: Batch._add_events,
    topics.DECISIONS: Batch._add_decision,
    topics.OPERATORS: Batch._add_word,
}
"""Not of each batch: one that held its own methods would be a cycle, and in memory until Python looks for such."""


def _check_length(subject: str) -> None:
    if len(subject) > subjects.MAX_LENGTH:
        raise ValueError(f"expected a subject of at most {subjects.MAX_LENGTH} characters, got {len(subject)}")
