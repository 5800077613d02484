"""A shelf: the windows of one kind in one partition, by subject, and which of them are not written yet.

Invariants
- A window is bytes until it is touched and when it was not touched for a while, an object in between: never both.
- One that holds nothing any more goes, with a tombstone.
- Pure: the clock comes in as a value.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

MOST = 250_000
"""Windows on one shelf, at most 170 MB: what is counted may be what a client sends. One more is not begun."""
QUIET_SECONDS = 120
"""A window becomes bytes this long after the end of its newest bucket."""


class Kept(Protocol):
    """What a shelf holds."""

    @property
    def ends(self) -> float:
        """When it holds nothing any more, Unix seconds."""

    @property
    def newest_end(self) -> float:
        """End of the newest bucket, Unix seconds."""

    def encode(self) -> bytes:
        """The record of the changelog."""


W = TypeVar("W", bound=Kept)


class Shelf(Generic[W]):
    def __init__(self, decode: Callable[[bytes], W], ends: Callable[[bytes], float]) -> None:
        """`decode` makes a window of its record, `ends` looks at the record's head only; both raise ValueError."""
        self.changed: set[str] = set()
        """Subjects whose record is to be written."""
        self._decode = decode
        self._ends = ends
        self._windows: dict[str, W] = {}
        self._raw: dict[str, bytes] = {}
        self._to_sweep: list[str] = []

    def __len__(self) -> int:
        return len(self._windows) + len(self._raw)

    def __contains__(self, subject: str) -> bool:
        return subject in self._windows or subject in self._raw

    def has_room(self, subject: str) -> bool:
        """Whether the subject has a window, or there is room for one more."""
        return len(self) < MOST or subject in self

    def get(self, subject: str, make: Callable[[], W]) -> W:
        """The window of a subject, made if there is none. Raises ValueError for a record that makes no sense."""
        window = self._windows.get(subject)
        if window is None:
            raw = self._raw.get(subject)
            window = self._windows[subject] = self._decode(raw) if raw is not None else make()
            self._raw.pop(subject, None)
        return window

    def restore(self, subject: str, value: bytes | None) -> None:
        """Take in a record of the changelog. Raises ValueError for what makes no sense."""
        if value is None:
            self._raw.pop(subject, None)
        else:
            self._ends(value)
            self._raw[subject] = value

    def take_changed(self) -> list[tuple[str, bytes | None]]:
        """What is to be written: subject and record, None for a tombstone."""
        changed, self.changed = self.changed, set()
        return [(subject, self._encoded(subject)) for subject in changed]

    def sweep(self, now: float, limit: int) -> None:
        """Look at up to `limit` windows: those that hold nothing any more go, quiet ones become bytes."""
        if not self._to_sweep:
            self._to_sweep = [*self._windows, *self._raw]
        for subject in self._to_sweep[-limit:]:
            self._sweep(subject, now)
        del self._to_sweep[-limit:]

    def _encoded(self, subject: str) -> bytes | None:
        window = self._windows.get(subject)
        return window.encode() if window is not None else self._raw.get(subject)

    def _sweep(self, subject: str, now: float) -> None:
        window = self._windows.get(subject)
        if window is not None:
            ends = window.ends
        elif (raw := self._raw.get(subject)) is not None:
            ends = self._ends(raw)
        else:
            return
        if ends <= now:
            self._windows.pop(subject, None)
            self._raw.pop(subject, None)
            self.changed.add(subject)
        elif window is not None and window.newest_end < now - QUIET_SECONDS:
            self._raw[subject] = window.encode()
            del self._windows[subject]
