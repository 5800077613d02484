"""Limits over the fleet: how a rule's limit is named there, and what an event and a tally tell of it.

Invariants: two limits share a name only if they have the same rule, function, item, maximum and seconds, so a window
never mixes what counts differently; what is told is bounded in number and size, whatever a client sends.
"""

import hashlib
from typing import Annotated

import msgspec

from weir.rules.needs import Limit

CAUSE = "limit"
"""The cause in decisions."""
MIN_SECONDS = 12.0
"""A shorter limit stays on the host: a bucket is a twelfth of it, and no decision travels in less than a second."""
MAX_SECONDS = 31 * 86_400.0
"""A longer one too: its decision may be in force for 13 twelfths of that, and weir.decisions keeps it for 35 days."""
MAX_MAXIMUM = 2.0**53
MAX_HITS = 16
"""Limits of one request that are counted over the fleet."""
MAX_KEY = 160
MAX_WHAT = 60
"""Characters."""

Increment = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Maximum = Annotated[float, msgspec.Meta(ge=0, le=MAX_MAXIMUM)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=366 * 86_400.0)]
What = Annotated[str, msgspec.Meta(max_length=MAX_WHAT)]


class Hit(msgspec.Struct, gc=False):
    """That a limit counted a request."""

    digest: Annotated[str, msgspec.Meta(max_length=16)]
    """The limit's name, `digest`."""
    key: Annotated[str, msgspec.Meta(max_length=MAX_KEY)]
    """What it counted, `subjects.limit_key`."""
    increment: Increment
    maximum: Maximum
    seconds: Seconds
    what: What = ""
    """For people: its function and the id of its rule."""


def digest(limit: Limit) -> str:
    """Sixteen hexadecimal digits: the limit's name in the fleet."""
    text = "\n".join((limit.digest, limit.function, limit.item, repr(float(limit.maximum)), repr(float(limit.seconds))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def what(limit: Limit) -> str:
    """`rate R-7`: function and rule, cut if that is long."""
    text = f"{limit.function} {limit.rule}"
    return "".join(character if character.isprintable() else " " for character in text[:MAX_WHAT])


def fits(limit: Limit) -> bool:
    """Whether the limit can be counted over the fleet."""
    return MIN_SECONDS <= limit.seconds <= MAX_SECONDS and 0 < limit.maximum <= MAX_MAXIMUM
