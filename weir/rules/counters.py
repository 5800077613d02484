"""The counters of limits on one host, exactly as postfwd 2.03 counts.

A window begins with the first request that is counted, lasts as long as its limit says and is never moved; the first
request after its end begins another. A limit is exceeded if the count is above its maximum; that request counts too.

Invariants
- A counter is one value of one item for one limit: rule id, maximum and seconds. `rate` and `rcpt` with all of these
  equal share it, as in postfwd.
- One entry of a dictionary is all that a counter is: text → end of the window and count, packed into an integer.
  Entries lie in `SHARDS` dictionaries, so growing and forgetting happen in small steps whatever the number of counters.
- Any other thread may read (`dump`, `fullest`) while one counts.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from weir.rules.needs import Limit

SHARDS = 1024
SWEEP_SECONDS = 60.0
"""So often every counter is looked at, to see whether it has expired."""
_STEP_SECONDS = SWEEP_SECONDS / SHARDS
_STEP_SHARDS = 8
_COUNT_BITS = 60
_MOST = (1 << _COUNT_BITS) - 1
_LONGEST_SECONDS = 1e9
_MICROSECONDS = 1_000_000
_LIMITS_KEPT = 10_000


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
    count: int  # type: ignore[assignment]

    @property
    def share(self) -> float:
        """Of the maximum; above 1: exceeded."""
        return self.count / self.maximum if self.maximum > 0 else float("inf")


class _Kind(NamedTuple):
    """What counters with the same prefix have in common."""

    item: str
    rule: str
    maximum: float
    seconds: float


class Counters:
    """`Limits` for one host."""

    def __init__(self) -> None:
        self._shards: list[dict[str, int]] = [{} for _ in range(SHARDS)]
        self._kinds: dict[str, _Kind] = {}
        """By the prefix of their counters."""
        self._prefixes: dict[_Kind, str] = {}
        self._known: dict[Limit, str] = {}
        """Prefixes of limits met lately: a limit's hash costs less than a kind."""
        self._now = 0.0
        self._moment = 0
        self._alive = 0
        """The time of the last count, in seconds and microseconds, and the least entry that is not over at that time:
        many limits count a request."""
        self._swept = 0.0
        self._next_shard = 0

    def __len__(self) -> int:
        """Counters in memory, with some that have expired in the last minutes."""
        return sum(map(len, self._shards))

    def count(self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float) -> tuple[int, bool]:
        """Count `increment` for the key; `now` in Unix seconds."""
        if now != self._now:
            self._now = now
            self._moment = int(now * _MICROSECONDS)
            self._alive = self._moment << _COUNT_BITS
            if not 0.0 <= now - self._swept < _STEP_SECONDS:
                self.sweep(now)
        name = (self._known.get(limit) or self._prefix_of(limit)) + key
        shard = self._shards[hash(name) % SHARDS]
        packed = shard.get(name, 0)
        if packed < self._alive:
            count = min(increment, _MOST)
            shard[name] = _end(self._moment, limit.seconds) << _COUNT_BITS | count
        else:
            count = (packed & _MOST) + increment
            if count > _MOST:
                increment, count = _MOST - (packed & _MOST), _MOST
            shard[name] = packed + increment
        return count, count > limit.maximum

    def sweep(self, now: float) -> None:
        """Forget what has expired in a few shards. `count` does it too; this is for a host without requests."""
        steps = int(abs(now - self._swept) / _STEP_SECONDS)
        if not steps:
            return
        alive = int(now * _MICROSECONDS) << _COUNT_BITS
        for _ in range(min(steps, _STEP_SHARDS)):
            shard = self._shards[self._next_shard]
            left = {name: packed for name, packed in shard.items() if packed >= alive}
            if len(left) < len(shard):
                self._shards[self._next_shard] = left
            self._next_shard = (self._next_shard + 1) % SHARDS
        self._swept = now

    def dump(self, now: float) -> Iterator[Counter]:
        """All live counters. Counting may go on between two of them."""
        moment = int(now * _MICROSECONDS)
        for number in range(SHARDS):
            for name, packed in list(self._shards[number].items()):
                until = packed >> _COUNT_BITS
                if until >= moment:
                    prefix, _, key = name.partition(" ")
                    kind = self._kinds[prefix]
                    yield Counter(kind.item, key, *kind[1:], until / _MICROSECONDS, packed & _MOST)

    def restore(self, counters: Iterable[Counter], now: float) -> None:
        """Take up what was dumped, as far as it is not over."""
        moment = int(now * _MICROSECONDS)
        for item, key, rule, maximum, seconds, end, count in counters:
            until = round(end * _MICROSECONDS)
            if moment <= until <= _end(moment, seconds):
                name = f"{self._prefix(_Kind(item, rule, maximum, seconds))} {key}"
                self._shards[hash(name) % SHARDS][name] = until << _COUNT_BITS | min(count, _MOST)

    def fullest(self, number: int, now: float) -> list[Counter]:
        """The counters that have most of their maximum, the fullest first."""
        return heapq.nlargest(number, self.dump(now), key=lambda counter: counter.share)

    def reset(self, key: str) -> int:
        """Forget all counters of `ITEM=VALUE`, or of a value of whatever item; how many there were. Most limits spell
        values in lower case, so that spelling is looked for too.
        """
        item, _, value = key.partition("=")
        keys, values = {key, key.lower()}, {value, value.lower()}
        names = {
            f"{prefix} {one}"
            for prefix, kind in self._kinds.items()
            for one in keys | (values if kind.item == item else set())
        }
        return sum(self._shards[hash(name) % SHARDS].pop(name, None) is not None for name in names)

    def void(self, limit: Limit, key: str, before: float) -> None:
        """Forget a limit's counter of a key if its window began before a time (Unix seconds)."""
        name = (self._known.get(limit) or self._prefix_of(limit)) + key
        shard = self._shards[hash(name) % SHARDS]
        until = shard.get(name, 0) >> _COUNT_BITS
        if until and until < _end(int(before * _MICROSECONDS), limit.seconds):
            del shard[name]

    def _prefix_of(self, limit: Limit) -> str:
        if len(self._known) >= _LIMITS_KEPT:
            self._known.clear()
        prefix = self._prefix(_Kind(limit.item, limit.rule, limit.maximum, limit.seconds)) + " "
        self._known[limit] = prefix
        return prefix

    def _prefix(self, kind: _Kind) -> str:
        prefix = self._prefixes.get(kind)
        if prefix is None:
            prefix = self._prefixes[kind] = f"{len(self._prefixes):x}"
            self._kinds[prefix] = kind
        return prefix


def _end(moment: int, seconds: float) -> int:
    """Of a window that begins at a moment; both in microseconds."""
    return moment + int(min(seconds, _LONGEST_SECONDS) * _MICROSECONDS)
