"""Groups: values that rules have put together at run time, each for a while (`groupadd`, tested with `ITEM=%%GROUP`).

Invariants: a value that is in a group is not put in again, so its time is never extended; values compare without case;
a group holds no more than `LARGEST` values, whoever sends them.
"""

LARGEST = 100_000


class Groups:
    """The groups of one host. `now` is in Unix seconds."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, float]] = {}
        """Group → value → end. The order is that of coming, not that of going: times differ by rule."""

    def add(self, group: str, value: str, seconds: float, now: float) -> None:
        """Put a value in for so long, unless it is in."""
        members = self._groups.setdefault(group, {})
        value = value.lower()
        if members.get(value, 0.0) > now:
            return
        if len(members) >= LARGEST and value not in members:
            self._sweep(members, now)
        if len(members) < LARGEST or value in members:
            members[value] = now + seconds

    def remove(self, group: str, value: str) -> None:
        self._groups.get(group, {}).pop(value.lower(), None)

    def contains(self, group: str, value: str, now: float) -> bool:
        return self._groups.get(group, {}).get(value.lower(), 0.0) > now

    def members(self, group: str, now: float) -> list[str]:
        """The values that are in the group, lower-cased."""
        return [value for value, end in self._groups.get(group, {}).items() if end > now]

    def dump(self, now: float) -> list[tuple[str, str, float]]:
        """Group, value and end of all, to be kept over a restart."""
        return [
            (group, value, end)
            for group, members in self._groups.items()
            for value, end in members.items()
            if end > now
        ]

    def restore(self, records: list[tuple[str, str, float]], now: float) -> None:
        """Take up what was dumped, as far as it is not over."""
        for group, value, end in records:
            self.add(group, value, end - now, now)

    @staticmethod
    def _sweep(members: dict[str, float], now: float) -> None:
        for value in [value for value, end in members.items() if end <= now]:
            del members[value]
