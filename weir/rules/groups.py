"""Groups: values that rules have put together at run time, each for a while (`groupadd`, tested with `ITEM=%%GROUP`).

Invariants: a value that is in a group is not put in again, so its time is never extended; values compare without case;
a group holds no more than `LARGEST` values, whoever sends them.
"""

LARGEST = 999_999
"""As in postfwd 2.03."""
SWEEP_SECONDS = 600.0


class Groups:
    """The groups of one host. `now` is in Unix seconds."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, float]] = {}
        """Group → value → end."""
        self._swept: dict[str, float] = {}

    def add(self, group: str, value: str, seconds: float, now: float) -> None:
        """Put a value in for so long, unless it is in."""
        members = self._groups.setdefault(group, {})
        value = value.lower()
        if members.get(value, 0.0) > now:
            return
        if not 0.0 <= now - self._swept.setdefault(group, now) < SWEEP_SECONDS:
            self._swept[group] = now
            members = self._groups[group] = {one: end for one, end in members.items() if end > now}
        if len(members) < LARGEST:
            members[value] = now + seconds

    def remove(self, group: str, value: str) -> None:
        self._groups.get(group, {}).pop(value.lower(), None)

    def contains(self, group: str, value: str, now: float) -> bool:
        return self._groups.get(group, {}).get(value.lower(), 0.0) > now

    def members(self, group: str, now: float) -> list[str]:
        """The values that are in the group, lower-cased."""
        return [value for value, end in self._groups.get(group, {}).items() if end > now]
