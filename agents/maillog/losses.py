"""Lines that were lost, or may have been: counted by reason, and told once in a while."""

import time
from collections import Counter
from collections.abc import Iterable

import structlog

from agents.maillog.log_file import Loss
from agents.maillog.rotation import Lost

TELL_SECONDS = 60.0
"""Between two words about them."""

log = structlog.get_logger(__name__)


class Losses(Counter[Lost]):
    """By reason, how often."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        """As far as known."""
        self._next = 0.0  # when (monotonic) they may be told again

    def add(self, path: str, losses: Iterable[Loss]) -> None:
        for loss in losses:
            self[loss.reason] += 1
            self.bytes += loss.bytes
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + TELL_SECONDS
                all_of_them = {reason.value: count for reason, count in self.items()}
                reason = loss.reason.value
                log.warning(
                    "log lines lost", path=path, file=loss.file, reason=reason, bytes=loss.bytes, so_far=all_of_them
                )
