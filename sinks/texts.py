"""Texts that come again, and what is made of them: one object for each, or one reckoning.

Whoever goes through the texts of a batch waits for the memory; alike ones that are one object are read once.

Invariant: about KEPT are remembered, then all are forgotten: a log may say anything. Long ones never are.
"""

from collections.abc import Callable
from typing import Any

from weir import subjects
from weir.events import MAX_TEXT, is_accepted

KEPT = 65_536


class Remembered(dict[str, Any]):
    """By text what a function makes of it."""

    def __init__(self, function: Callable[[str], Any]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, text: str) -> Any:
        if len(self) >= KEPT:
            self.clear()
        value = self._function(text)
        if len(text) <= MAX_TEXT:
            self[text] = value
        return value


def _port_number(port: str) -> int:
    number = int(port) if len(port) <= 5 and port.isdigit() and port.isascii() else 0
    return number if number < 65536 else 0


same = Remembered(lambda text: text)
refused = Remembered(lambda action: 0 if is_accepted(action) else 1)
"""By action."""
port = Remembered(_port_number)
"""0: it is none."""
client = Remembered(lambda address: subjects.value(subjects.client_address(address)))
"""By address: the one that is counted."""
