"""The limits that rules count: the host's own counters, exactly as one postfwd has them, and the fleet's word beside.

    allowed by an operator          nothing is counted, nothing is exceeded
    the host's counter is exceeded  exceeded; the count is the host's
    a decision says exhausted       exceeded; the count is the fleet's
    else                            not exceeded; the count is the host's

An allow concerns limits keyed by its subject's own item: `sasl_username` for an account, `client_address` for a client.
A release voids the host's counters that are so keyed and began before it, and decisions that did not know of it.

Invariants: the host counts whatever the fleet says, so its refusals are what one postfwd would have said; without
decisions nothing else is refused.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from agents.decisions import Decisions, InForce
from weir import limits, subjects
from weir.limits import MAX_HITS, Hit
from weir.operators import Operators
from weir.rules.counters import Counters
from weir.rules.needs import Limit
from weir.settings import Rules

FLEET, HOST = "fleet", "host"
_LIMITS_KEPT = 10_000
"""A rule may make its maximum of what a client sends, and so any number of limits."""


class _Shared(NamedTuple):
    """A limit that is counted over the fleet."""

    digest: str
    what: str


class FleetLimits:
    """What all requests share. Times are Unix seconds by the host's clock."""

    def __init__(self, settings: Rules, default_realm: str, decisions: Decisions, operators: Operators) -> None:
        self.counters = Counters()
        self.clock_offset = 0.0
        """Seconds that the host's clock is ahead of the broker's."""
        self.exceeded: Counter[str] = Counter()
        """Requests that met an exceeded limit, by who said so: `host` or `fleet`."""
        self.not_shared = 0
        """Limits of requests that hit more than are told to the fleet."""
        self._decisions = decisions
        self._operators = operators
        self.configure(settings, default_realm)

    def configure(self, settings: Rules, default_realm: str) -> None:
        """Take other settings."""
        self.default_realm = default_realm
        self._settings = settings
        self._known: dict[Limit, _Shared | None] = {}

    def count(
        self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float, hits: list[Hit]
    ) -> tuple[int, bool]:
        """Count as `weir.rules.needs.Limits` does; what is to be counted over the fleet goes into `hits`."""
        operators = self._operators
        owner = subjects.keyed_by(limit.item, key, self.default_realm)
        released = 0.0
        if owner:
            if operators.allow(owner, now - self.clock_offset) is not None:
                return 0, False
            released = operators.released(owner)
        shared = self._shared(limit)
        subject = ""
        if shared is not None:
            hit = _hit(limit, shared, key, increment)
            subject = subjects.limit(hit.digest, hit.key)
            released = max(released, operators.released(subject))
            if hit.increment:
                self._tell(hit, hits)
        if released:
            self.counters.void(limit, key, released + self.clock_offset)
        count, exceeded = self.counters.count(limit, key, increment, items, now)
        if exceeded:
            self.exceeded[HOST] += 1
        elif found := self._exhausted(subject, now, released):
            self.exceeded[FLEET] += 1
            return found.count, True
        return count, exceeded

    def _tell(self, hit: Hit, hits: list[Hit]) -> None:
        if len(hits) < MAX_HITS:
            hits.append(hit)
        else:
            self.not_shared += 1

    def _exhausted(self, subject: str, now: float, released: float) -> InForce | None:
        """The decision that this limit of the fleet is exhausted, if there is one."""
        return self._decisions.blocking(subject, now - self.clock_offset, released) if subject else None

    def _shared(self, limit: Limit) -> _Shared | None:
        """How the limit is told to the fleet; None if it stays on the host."""
        try:
            return self._known[limit]
        except KeyError:
            own = self._settings.own.get(limit.rule)
            scope = own.limits if own is not None else self._settings.limits
            if len(self._known) >= _LIMITS_KEPT:
                self._known.clear()
            is_shared = scope == FLEET and limits.fits(limit)
            found = self._known[limit] = _Shared(limits.digest(limit), limits.what(limit)) if is_shared else None
            return found


def _hit(limit: Limit, shared: _Shared, key: str, increment: int) -> Hit:
    return Hit(
        shared.digest,
        subjects.limit_key(limit.item, key),
        min(max(increment, 0), 2**40),
        limit.maximum,
        limit.seconds,
        shared.what,
    )
