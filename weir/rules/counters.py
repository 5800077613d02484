"""The counters of limits on one host, exactly as postfwd 2.03 counts. (Signatures; being written.)"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from weir.rules.needs import Limit


class Counter(NamedTuple):
    """A live counter."""

    item: str
    key: str
    """The item's value, as the limit's function spells it."""
    rule: str
    maximum: float
    seconds: float
    until: float
    """End of its window, in Unix seconds."""
    count: int


class Counters:
    """`Limits` for one host."""

    def count(self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float) -> tuple[int, bool]:
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """Forget some of what has expired: a small step, made by `count` too; for a host without requests."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def dump(self, now: float) -> Iterator[Counter]:
        """All live counters. Counting may go on between two of them."""
        raise NotImplementedError

    def restore(self, counters: Iterable[Counter], now: float) -> None:
        """Take up what was dumped, as far as it is not over."""
        raise NotImplementedError

    def fullest(self, number: int, now: float) -> list[Counter]:
        """The counters that have most of their maximum, the fullest first."""
        raise NotImplementedError

    def reset(self, key: str) -> int:
        """Forget all counters of `ITEM=VALUE`, or of a value of whatever item; how many there were."""
        raise NotImplementedError

    def void(self, item: str, key: str, before: float) -> int:
        """Forget the counters of an item's value whose window began before a time (Unix seconds); how many there were."""
        raise NotImplementedError
