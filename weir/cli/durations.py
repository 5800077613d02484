"""Durations as an operator writes them: `90s`, `30m`, `12h`, `7d`."""

import re

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 366 * UNITS["d"]


def seconds(text: str) -> int:
    """Seconds of a duration, from 1 s to 366 days. Raises ValueError with what was expected.

    >>> seconds("90s"), seconds("12h")
    (90, 43200)
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    length = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= length <= LONGEST:
        raise ValueError(f"expected a duration such as 90s, 30m, 12h or 7d, at most 366d, got {text!r}")
    return length


def shown(length: float) -> str:
    """A duration in its largest unit that leaves it whole, whole seconds at the least.

    >>> shown(5400), shown(86400), shown(61.2)
    ('90m', '1d', '61s')
    """
    whole = round(length)
    unit = next((unit for unit in "dhm" if whole and whole % UNITS[unit] == 0), "s")
    return f"{whole // UNITS[unit]}{unit}"
