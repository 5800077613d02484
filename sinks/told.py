"""Which records of weir.decisions are told to people.

    record                                     told
    of a decision that nobody was told of      yes
    the same again, or moved (`change`)        no
    in force now, was a shadow                 yes, again
    a shadow by the brake                      only the first: the brake itself is what is told
    a limit of a rule                          no: ordinary rate limiting

Invariants: pure; what is read again is not told again.
"""

from typing import TypeVar

from weir import decisions, limits
from weir.decisions import Decision

K = TypeVar("K")
V = TypeVar("V")

BRAKE = "brake"
BRAKE_SECONDS = 600.0
"""After so long without a block held back, the brake is told anew; streams look at ten minutes too."""
MOST = 200_000
"""Decisions that are remembered; beyond it the oldest go, and may be told again."""


class Told:
    """What was told of, by the decisions' ids."""

    def __init__(self) -> None:
        self._in_force: dict[str, bool] = {}
        """Id → whether a record of it was no shadow."""
        self._newest: dict[bytes, str] = {}
        """Key of the topic → the id that came last: a decision that is moved gets another one."""
        self._brake = 0.0
        """When a block was held back last."""

    def take(self, record: Decision) -> bool:
        """Take in a record, and say whether it is to be told."""
        if record.cause == limits.CAUSE:
            return False
        key = decisions.key(record.cause, record.subject)
        before = self._in_force.get(record.id)
        if before is None and record.change:
            before = self._in_force.get(self._newest.get(key, ""))
        self._remember(key, record, bool(before) or not record.shadow)
        if record.why_shadow == BRAKE:
            quiet = record.decided - self._brake > BRAKE_SECONDS
            self._brake = max(self._brake, record.decided)
            return before is None and quiet
        return before is None or not (before or record.shadow)

    def _remember(self, key: bytes, record: Decision, in_force: bool) -> None:
        _put(self._in_force, record.id, in_force)
        _put(self._newest, key, record.id)


def _put(known: dict[K, V], key: K, value: V) -> None:
    """At the end; the one at the beginning goes when there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > MOST:
        del known[next(iter(known))]
