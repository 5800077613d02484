"""Heads: every form of time, the year that a log does not tell, and no head that a text could forge."""

import calendar
import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.maillog.headers import Head, Headers


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def utc(*parts: int) -> float:
    return float(calendar.timegm((*parts, 0, 0, 0)[:9]))


def split(line: str, now: float = utc(2026, 11, 25)) -> Head | None:
    return Headers(lambda: now).split(line)


def moment(line: str, now: float = utc(2026, 11, 25)) -> float:
    head = split(line, now)
    assert head is not None
    return head.time


REST = " mx1 postfix/submission/smtpd[18179]: connect from unknown[192.0.2.1]"


class TestTimes:
    def test_without_a_year_is_local_time(self) -> None:
        assert split("Nov 24 15:32:45" + REST) == Head(
            utc(2026, 11, 24, 14, 32, 45), "mx1", "postfix/submission/smtpd", 18179, "connect from unknown[192.0.2.1]"
        )

    def test_days_of_one_digit(self) -> None:
        assert moment("Nov  4 15:32:45" + REST) == utc(2026, 11, 4, 14, 32, 45)

    def test_summer_time(self) -> None:
        assert moment("Jul 24 15:32:45" + REST) == utc(2026, 7, 24, 13, 32, 45)

    @pytest.mark.parametrize(
        ("now", "stamp", "year"),
        [
            (utc(2027, 1, 1, 0, 30), "Dec 31 23:59:59", 2026),
            (utc(2026, 12, 31, 22, 59, 50), "Jan  1 00:00:05", 2027),  # the clock of the host is ahead
            (utc(2026, 11, 25), "Nov 27 12:00:00", 2025),
            (utc(2026, 3, 1), "Feb 29 12:00:00", 2024),
            (utc(2024, 3, 1), "Feb 29 12:00:00", 2024),
        ],
    )
    def test_the_year_is_the_last_that_fits(self, now: float, stamp: str, year: int) -> None:
        assert time.localtime(moment(stamp + REST, now)).tm_year == year

    @pytest.mark.parametrize("stamp", ["Oct 25 02:30:00" + REST, "2026-10-25 02:30:00 auth: Info: x"])
    @pytest.mark.parametrize("now", [utc(2026, 10, 25, 0, 30), utc(2026, 10, 25, 1, 30)])
    def test_of_the_hour_that_comes_twice_it_is_the_one_of_now(self, stamp: str, now: float) -> None:
        assert moment(stamp, now + 1) == now

    @pytest.mark.parametrize(
        ("stamp", "expected"),
        [
            ("2026-11-24T15:32:45+01:00", utc(2026, 11, 24, 14, 32, 45)),
            ("2026-11-24T15:32:45.123456-02:30", utc(2026, 11, 24, 18, 2, 45) + 0.123456),
            ("2026-11-24T15:32:45.5Z", utc(2026, 11, 24, 15, 32, 45) + 0.5),
            ("2026-11-24T15:32:60Z", utc(2026, 11, 24, 15, 33)),
        ],
    )
    def test_rfc_3339(self, stamp: str, expected: float) -> None:
        assert moment(stamp + REST) == pytest.approx(expected, abs=1e-6)

    def test_stamps_after_each_other_are_read_as_alone(self) -> None:
        stamps = [
            "2026-11-24T15:32:45.000001+01:00",
            "2026-11-24T15:32:45.900000+01:00",
            "2026-11-24T15:32:45.900000-01:00",
            "2026-11-24T15:32:45Z",
            "Nov 24 15:32:45",
            "2026-11-24T15:32:45.25Z",
            "Nov 24 15:32:45",
            "2026-11-24T15:32:46.25Z",
        ]
        headers = Headers(lambda: utc(2026, 11, 25))
        together = [headers.split(stamp + REST) for stamp in stamps]
        assert together == [split(stamp + REST) for stamp in stamps]
        assert None not in together

    @pytest.mark.parametrize(
        "stamp",
        [
            "Nov 31 15:32:45",
            "Nov 24 25:32:45",
            "Nix 24 15:32:45",
            "2026-13-24T15:32:45Z",
            "2026-11-24T15:32:45",
            "2026-11-24T15:32:45.x+01:00",
            "Nov 24 15:32",
        ],
    )
    def test_what_is_no_time_is_no_head(self, stamp: str) -> None:
        assert split(stamp + REST) is None
        headers = Headers(lambda: utc(2026, 11, 25))
        headers.split("2026-11-24T15:32:45.1+01:00" + REST)
        assert headers.split(stamp + REST) is None


class TestPrograms:
    def test_without_a_process_id(self) -> None:
        head = split("Nov 24 15:32:45 mx1 dovecot: auth: passwd-file(a,1[2]: x")
        assert head is not None
        assert (head.program, head.pid, head.text) == ("dovecot", 0, "auth: passwd-file(a,1[2]: x")

    def test_dovecots_own_file(self) -> None:
        for stamp in ("2026-11-24 15:32:45", "Nov 24 15:32:45"):
            assert split(f"{stamp} auth: Info: passwd-file(a,192.0.2.1): Password mismatch") == Head(
                utc(2026, 11, 24, 14, 32, 45), "", "dovecot", 0, "auth: passwd-file(a,192.0.2.1): Password mismatch"
            )

    def test_a_level_after_the_request(self) -> None:
        """As Dovecot 2.4 writes it."""
        head = split("2026-11-24 15:32:45 auth-worker(a,192.0.2.1)<17>: request [1]: Info: sql: unknown user")
        assert head is not None
        assert (head.program, head.text) == ("dovecot", "auth-worker(a,192.0.2.1)<17>: request [1]: sql: unknown user")

    def test_a_text_is_never_taken_for_a_head(self) -> None:
        headers = Headers(lambda: utc(2026, 11, 25))
        headers.split("Nov 24 15:32:45" + REST)
        head = headers.split("Nov 24 15:32:45 mx1 dovecot: x mx1 postfix/submission/smtpd[1]: connect from a[b]")
        assert head is not None
        assert head.program == "dovecot"
        assert headers.split("Nov 24 15:32:45 mx1 postfix/submission/smtpd[1 connect from a[b]") is None


ENTRY = {
    "__REALTIME_TIMESTAMP": "1795534365999999",
    "_SOURCE_REALTIME_TIMESTAMP": "1795534365123456",
    "__CURSOR": "s=1",
    "_HOSTNAME": "mx1",
    "SYSLOG_IDENTIFIER": "postfix/smtp",
    "_PID": "17",
    "MESSAGE": "connect to a[192.0.2.1]:25: Connection refused",
}


class TestJournal:
    def entry(self, **changes: object) -> Head | None:
        return split(json.dumps(ENTRY | changes))

    def test_an_entry(self) -> None:
        assert self.entry() == Head(
            1795534365.123456, "mx1", "postfix/smtp", 17, "connect to a[192.0.2.1]:25: Connection refused"
        )

    def test_bytes_that_are_no_text(self) -> None:
        head = self.entry(MESSAGE=[97, 255, 98])
        assert head is not None
        assert head.text == "a\\xffb"

    def test_fields_that_stand_there_twice(self) -> None:
        head = self.entry(SYSLOG_PID=["18", "19"])
        assert head is not None
        assert head.pid == 18

    @pytest.mark.parametrize(
        "changes",
        [
            {"MESSAGE": None},
            {"_SOURCE_REALTIME_TIMESTAMP": "soon"},
            {"_SOURCE_REALTIME_TIMESTAMP": "9" * 400},
            {"SYSLOG_IDENTIFIER": ""},
            {"_PID": "x"},
            {"_HOSTNAME": 3},
        ],
    )
    def test_what_is_no_entry(self, changes: dict[str, object]) -> None:
        assert self.entry(**changes) is None

    def test_what_is_no_json(self) -> None:
        assert split("{") is None


@given(
    st.text()
    | st.sampled_from(["Nov 24 15:32:45", "2026-11-24T15:32:45.1Z ", "{"]).flatmap(
        lambda head: st.text().map(head.__add__)
    )
)
def test_no_line_raises(line: str) -> None:
    headers = Headers(lambda: utc(2026, 11, 25))
    headers.split("2026-11-24T15:32:45.1Z" + REST)
    headers.split(line)
