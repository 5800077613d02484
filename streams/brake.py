"""The brake: when detectors block too many accounts at once it is more likely our mistake than an attack.

Invariants: only blocks that are carried out count, and only of accounts: clients an attacker can make at will, and one
hole in a web application gives him the local users of many sites at once; so neither may hold back the blocks of stolen
accounts. An account counts once, at its newest block. Pure: records of weir.decisions and the time come in as values.
"""

import heapq

from weir import subjects
from weir.decisions import Decision
from weir.settings import Brake as Settings

SECONDS = 600.0
SHARE_FROM = 10
"""Blocks from which on the share is looked at."""


class Brake:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._blocks: dict[str, float] = {}
        """Account → time of its newest block."""
        self._ages: list[tuple[float, str]] = []
        """Heap of the same, and of older blocks."""

    def take(self, decision: Decision, time: float) -> None:
        """Take in a decision, ours or another worker's, at its record's time; the same again changes nothing."""
        subject = decision.subject
        if not decision.shadow and subjects.is_account(subject) and time > self._blocks.get(subject, 0.0):
            self._blocks[subject] = time
            heapq.heappush(self._ages, (time, subject))

    def is_on(self, now: float, active: float) -> bool:
        """Whether further blocks are shadows; `active`: accounts of the whole fleet that sent in the last hour."""
        self._forget(now - SECONDS)
        blocks = len(self._blocks)
        if blocks > self._settings.blocks:
            return True
        return blocks >= SHARE_FROM and self._settings.share < 1 and blocks > self._settings.share * active

    def _forget(self, before: float) -> None:
        while self._ages and self._ages[0][0] < before:
            time, subject = heapq.heappop(self._ages)
            if self._blocks.get(subject) == time:
                del self._blocks[subject]
