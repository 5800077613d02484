"""Date, time, days and months: ranges, open ends, no wrap, local time."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from weir.rules import calendar
from weir.rules.items import Kind

THURSDAY = datetime(2024, 2, 29, 22, 30, tzinfo=UTC).timestamp()
NOVEMBER = datetime(2024, 11, 15, 12, 0, tzinfo=UTC).timestamp()
JANUARY = datetime(2024, 1, 7, 0, 0, tzinfo=UTC).timestamp()
"""A Sunday."""

Zone = Callable[[str], None]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    change("UTC")
    yield change
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("kind", "text", "now", "holds"),
    [
        (Kind.DATE, "29.02.2024", THURSDAY, True),
        (Kind.DATE, "01.03.2024", THURSDAY, False),
        (Kind.DATE, "-28.02.2024", THURSDAY, False),
        (Kind.DATE, "-29.02.2024", THURSDAY, True),
        (Kind.DATE, "01.02.2024 -", THURSDAY, True),
        (Kind.DATE, "01.03.2024-", THURSDAY, False),
        (Kind.DATE, "31.12.2023 - 01.03.2024", THURSDAY, True),
        (Kind.TIME, "22:00:00-23:00:00", THURSDAY, True),
        (Kind.TIME, "22:30:00-22:30:00", THURSDAY, True),
        (Kind.TIME, "22:30:01-", THURSDAY, False),
        (Kind.TIME, "22:00:00-", THURSDAY, True),
        (Kind.TIME, "-22:29:59", THURSDAY, False),
        (Kind.TIME, "22:00:00-06:00:00", THURSDAY, False),
        (Kind.TIME, "22:00:00-24:00:00", THURSDAY, True),
        (Kind.DAYS, "Mon-Fri", THURSDAY, True),
        (Kind.DAYS, "thu", THURSDAY, True),
        (Kind.DAYS, "4", THURSDAY, True),
        (Kind.DAYS, "5", THURSDAY, False),
        (Kind.DAYS, "Wed-Mon", THURSDAY, False),
        (Kind.DAYS, "Fri-", THURSDAY, False),
        (Kind.DAYS, "-4", THURSDAY, True),
        (Kind.DAYS, "0", THURSDAY, True),
        (Kind.DAYS, "Sun", THURSDAY, False),
        (Kind.DAYS, "Sun", JANUARY, True),
        (Kind.DAYS, "0-3", THURSDAY, False),
        (Kind.MONTHS, "Feb", THURSDAY, True),
        (Kind.MONTHS, "1", THURSDAY, True),
        (Kind.MONTHS, "2", THURSDAY, False),
        (Kind.MONTHS, "Oct-Dec", NOVEMBER, True),
        (Kind.MONTHS, "dec-jan", JANUARY, False),
        (Kind.MONTHS, "10-11", NOVEMBER, False),
        (Kind.MONTHS, "10", NOVEMBER, False),
        (Kind.MONTHS, "10", JANUARY, True),
    ],
)
def test_ranges(kind: Kind, text: str, now: float, holds: bool) -> None:
    assert calendar.compile(kind, text)(now) is holds


def test_times_are_those_of_the_process(zone: Zone) -> None:
    holds = calendar.compile(Kind.TIME, "23:00:00-23:59:59")
    assert not holds(THURSDAY)
    zone("Europe/Berlin")
    assert holds(THURSDAY)
    assert calendar.compile(Kind.DATE, "01.03.2024")(THURSDAY + 3600)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.DATE, "1.2.2024"),
        (Kind.DATE, "2024-02-29"),
        (Kind.DATE, "32.01.2024"),
        (Kind.DATE, "01.13.2024"),
        (Kind.TIME, "22:00-23:00"),
        (Kind.TIME, "25:00:00-"),
        (Kind.TIME, "-23:60:00"),
        (Kind.DAYS, "Thursday"),
        (Kind.DAYS, "7"),
        (Kind.DAYS, "Mon-Tue-Wed"),
        (Kind.MONTHS, "January"),
        (Kind.MONTHS, "123"),
        (Kind.MONTHS, "\u0663"),
    ],
)
def test_what_is_no_time_is_refused(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match=f"got {text}"):
        calendar.compile(kind, text)
