"""The decisions in force, in an agent's memory: what it needs to answer, and no more.

Invariants: the newest record of a cause and a subject replaces the one before it; what cannot be understood changes
nothing; a shadow blocks nobody; a decision ends at its `until` by itself, though it is removed only later.
"""

import sys
from collections.abc import Iterator

import msgspec

from weir import decisions, limits

GRACE = 120.0
"""Seconds that a decision stays in memory after its end: until the clock's offset is known, `now` may be wrong."""
MAX_SUBJECTS = 1_000_000
"""Some 300 MB. What a client sends may be what a limit counts; whom a detector blocks always finds room."""
_IDENTITY = "\0"
"""Stands for the decision's id in the text of an action, which is then the same for all decisions of a cause."""


class InForce(msgspec.Struct, gc=False):
    """A decision, reduced to what a reply needs. A hundred thousand of them must be small."""

    id: str
    cause: str
    until: float
    after: float
    text: str
    count: int
    """What a limit of the fleet had counted; 0 for other causes."""
    recalled: bool
    """Only the snapshot has it, as far as the topic was read."""
    next: "InForce | None" = None
    """Of another cause, on the same subject."""

    @property
    def action(self) -> str:
        return self.text.replace(_IDENTITY, self.id)


class Decisions:
    """All decisions in force, by subject."""

    def __init__(self) -> None:
        self._of: dict[str, InForce] = {}
        """The first of each subject's; almost always it is the only one."""
        self.left_out = 0
        """Limits of the fleet that found no room."""
        self._round: Iterator[str] = iter(())

    def __len__(self) -> int:
        """Subjects with decisions."""
        return len(self._of)

    def __iter__(self) -> Iterator[str]:
        """Those subjects."""
        return iter(self._of)

    def apply(self, key: bytes, value: bytes | None, now: float, recalled: bool = False) -> decisions.Decision | None:
        """Take in one record of weir.decisions; None as value removes what stands under that key.

        `recalled` says that it comes from the snapshot. Returns the decision if it is now in force. Raises ValueError
        for a record that makes no sense.
        """
        cause, subject = decisions.split_key(key)
        if value is None:
            self._replace(subject, cause, None)
            return None
        decision = decisions.decoder.decode(value)
        if decision.version != decisions.VERSION or (decision.cause, decision.subject) != (cause, subject):
            raise ValueError(f"expected a decision of version {decisions.VERSION} that agrees with its key {key!r}")
        blocks = not decision.shadow and decision.until + GRACE > now
        if blocks and cause == limits.CAUSE and len(self._of) >= MAX_SUBJECTS and subject not in self._of:
            self.left_out += 1
            return None
        self._replace(subject, cause, _in_force(decision, recalled) if blocks else None)
        return decision if blocks and now < decision.until else None

    def blocking(self, subject: str, now: float, released: float) -> InForce | None:
        """The decision that blocks this subject; `released` is the time of its newest release, 0 if none.

        A decision that did not take that release into account is void.
        """
        found = self._of.get(subject)
        while found is not None and (now >= found.until or found.after < released):
            found = found.next
        return found

    def confirm(self, key: bytes) -> None:
        """The topic has a record with this key."""
        cause, _, subject = key.decode(errors="replace").partition(" ")
        for found in self._all(subject):
            if found.cause == cause:
                found.recalled = False

    def unconfirmed(self) -> Iterator[tuple[str, bytes]]:
        """Subject and key of what only the snapshot has."""
        for subject in self._of:
            for found in self._all(subject):
                if found.recalled:
                    yield subject, decisions.key(found.cause, subject)

    def expire(self, now: float, limit: int) -> None:
        """Remove what is over among the next `limit` subjects; the rounds go on for ever."""
        for _ in range(min(limit, len(self._of))):
            subject = next(self._round, None)
            if subject is None:
                self._round = iter(list(self._of))
                subject = next(self._round)
            for found in self._all(subject):
                if found.until + GRACE <= now:
                    self._replace(subject, found.cause, None)

    def _all(self, subject: str) -> list[InForce]:
        several: list[InForce] = []
        found = self._of.get(subject)
        while found is not None:
            several.append(found)
            found = found.next
        return several

    def _replace(self, subject: str, cause: str, new: InForce | None) -> None:
        first = new
        for found in self._all(subject):
            if found.cause != cause:
                found.next = first
                first = found
        if first is None:
            self._of.pop(subject, None)
        else:
            self._of[subject] = first


def _in_force(decision: decisions.Decision, recalled: bool) -> InForce:
    text = decision.action.replace(_IDENTITY, " ")
    if decision.id:
        text = text.replace(decision.id, _IDENTITY)
    cause = sys.intern(decision.cause)
    count = decision.evidence.count if cause == limits.CAUSE else 0
    return InForce(decision.id, cause, decision.until, decision.after, sys.intern(text), count, recalled)
