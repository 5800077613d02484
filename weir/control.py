"""How commands on a mail host ask its agent: one question and one answer, a line of JSON each, over a unix socket.

Invariant: who may write into the folder of the socket (the agent's own user and root) may ask; nobody else can.
"""

import socket
from pathlib import Path

import msgspec

NAME = "control"
"""Of the socket: in the spool's folder, or in the standalone agent's `--state DIR`."""
MAX_LINE = 16 * 1024 * 1024
SECONDS = 10.0


class RuleHits(msgspec.Struct):
    id: str
    hits: int
    """Requests that the rule matched since the agent's start."""


class LimitCount(msgspec.Struct):
    """A counter of a limit on this host."""

    item: str
    key: str
    rule: str
    maximum: float
    seconds: float
    until: float
    """When its window ends, Unix seconds."""
    count: int


class Question(msgspec.Struct):
    ask: str
    """`rules`, `limits` or `reset`."""
    number: int = 50
    """Of limits: the fullest so many."""
    key: str = ""
    """Of a reset: `ITEM=VALUE`, or a value of whatever item."""


class Answer(msgspec.Struct):
    error: str = ""
    digest: str = ""
    """Of the rule set in use; empty: no rules."""
    rules: list[RuleHits] = []
    """In the order of the rules."""
    limits: list[LimitCount] = []
    """The fullest first."""
    counters: int = 0
    """Counters in memory; of a reset: how many were forgotten."""


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_answer_decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def ask(path: Path, question: Question) -> Answer:
    """Ask the agent at this socket. Raises OSError if it cannot be asked, and ValueError with what it says instead."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        connection.sendall(encoder.encode(question) + b"\n")
        with connection.makefile("rb") as lines:
            line = lines.readline(MAX_LINE)
    answer = _answer_decoder.decode(line)
    if answer.error:
        raise ValueError(answer.error)
    return answer
