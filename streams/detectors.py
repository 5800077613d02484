"""Detectors: what is too much. `Burst` is the first: too many messages or recipients in a minute or in an hour.

Invariants: a detector is pure and judges sums of windows, each at its own time, never the clock; only mail that was
accepted is evidence, so what we refuse ourselves never is.
"""

import ipaddress
import math
from dataclasses import dataclass

from streams.windows import Limits, Sums
from weir import subjects
from weir.settings import OwnThresholds, Settings, Thresholds

BURST = "burst"
"""The cause in decisions."""


@dataclass(frozen=True)
class Crossing:
    """The first counter found above its threshold."""

    counter: str
    count: int
    threshold: int
    seconds: int


_COUNTERS = (("messages", 60), ("recipients", 60), ("messages", 3600), ("recipients", 3600))
"""Counter and seconds of each field of `Limits`, and of `Sums` after its bucket."""


class Burst:
    """Too many messages or recipients over all hosts, in a minute or in an hour."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError for an own threshold's subject or a trusted network that is none."""
        burst = settings.detectors.burst
        self._account = _limits(burst.account)
        self._client = _limits(burst.client)
        self._own = {
            subject: _limits(_own(thresholds, burst.client if subjects.is_client(subject) else burst.account))
            for subject, thresholds in (
                (subjects.parse(name, settings.default_realm), own) for name, own in burst.own.items()
            )
        }
        self._trusted = [ipaddress.ip_network(network) for network in settings.trusted]

    def limits(self, subject: str) -> Limits | None:
        """What the subject may send; None for one that is never judged. A local user may send as an account does."""
        if subjects.is_account(subject) or subjects.is_uid(subject):
            return self._own.get(subject, self._account)
        if subjects.is_client(subject) and not self._is_trusted(subject):
            return self._own.get(subject, self._client)
        return None

    def _is_trusted(self, subject: str) -> bool:
        try:
            client = ipaddress.ip_network(subjects.value(subject))
        except ValueError:
            return True  # no address: nothing that could be blocked
        return any(client.version == network.version and client.overlaps(network) for network in self._trusted)


def crossing(sums: Sums, limits: Limits) -> Crossing | None:
    """What exceeds its limit, the first of all; None if nothing does."""
    for (counter, seconds), count, limit in zip(_COUNTERS, sums[1:], limits, strict=True):
        if count > limit:
            return Crossing(counter, count, int(limit), seconds)
    return None


def _own(own: OwnThresholds, others: Thresholds) -> Thresholds:
    def chosen(mine: int | None, theirs: int) -> int:
        return theirs if mine is None else mine

    return Thresholds(
        messages_per_minute=chosen(own.messages_per_minute, others.messages_per_minute),
        recipients_per_minute=chosen(own.recipients_per_minute, others.recipients_per_minute),
        messages_per_hour=chosen(own.messages_per_hour, others.messages_per_hour),
        recipients_per_hour=chosen(own.recipients_per_hour, others.recipients_per_hour),
    )


def _limits(thresholds: Thresholds) -> Limits:
    numbers = (
        thresholds.messages_per_minute,
        thresholds.recipients_per_minute,
        thresholds.messages_per_hour,
        thresholds.recipients_per_hour,
    )
    return Limits(*(number or math.inf for number in numbers))
