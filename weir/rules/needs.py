"""What an evaluation needs from outside, and what comes of it.

An evaluation is a generator: it yields a `Need`, whoever drives it sends back the answer, and at last it returns an
`Outcome`. One that needs nothing runs through at once.
"""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec


class Question(NamedTuple):
    """One DNS question, and the list that it is about."""

    name: str
    type: str
    """`A`, `AAAA`, `TXT`, `MX`, `NS`."""
    list: str = ""
    """Name of the DNS list, which is switched off after too many time-outs; empty for plain look-ups."""
    ttl: int = 0
    """The answer is kept so many seconds at least."""


class Lookup(NamedTuple):
    """Ask all of these at the same time. Answer: `Mapping[Question, list[str]]`, where a question without an answer
    (no such name, time-out, list switched off) has an empty list. MX and NS are host names, TXT one text a record.
    With DNS off nothing is looked up."""

    questions: tuple[Question, ...]


class Wait(NamedTuple):
    """Answer: None, after so many seconds."""

    seconds: float


class Ask(NamedTuple):
    """Forward the request to another policy server. Answer: its action, or None if it cannot be reached in time."""

    address: str
    port: int
    attributes: Mapping[str, str]


class Mail(NamedTuple):
    """Send a mail; answer: None, at once (it is sent beside). With a `path` it goes through that program, else to the
    SMTP server."""

    server: str
    path: str
    sender: str
    recipient: str
    subject: str
    body: str
    helo: str = ""


Need = Lookup | Wait | Ask | Mail


class Limit(msgspec.Struct, frozen=True, cache_hash=True):
    """A limit as a rule states it: `FUNCTION(ITEM/MAXIMUM/SECONDS/ACTION)`."""

    function: str
    """`rate`, `size`, `rcpt`, or one of these with 5321."""
    item: str
    maximum: float
    seconds: float
    rule: str
    """Id of its rule."""
    digest: str
    """Of the rule's canonical text: its name in the fleet."""


class Limits(Protocol):
    """The counters. The host's own are in `weir.rules.counters`; an agent puts the fleet's word beside them."""

    def count(self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float) -> tuple[int, bool]:
        """Count, and return the count to tell (`$$ratecount`) and whether the limit is exceeded."""
        ...


class Outcome(msgspec.Struct):
    """What came of a request."""

    action: str
    """The reply, whole; `DUNNO` if no rule spoke."""
    hits: list[int]
    """Numbers of the rules that matched, in the order in which they did."""
    notes: list[str]
    """Texts of `note()`, for the log."""
    rule: int = -1
    """Number of the rule that gave the action; -1: none did."""
    trouble: str = ""
    """What went wrong and was passed over, by rule id: a pattern past its deadline, jumps without end."""


Evaluation = Generator[Need, Any, Outcome]
