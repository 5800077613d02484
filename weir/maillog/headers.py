"""Heads of log lines: when, where, which program; and what the program said.

    Nov 24 15:32:45 mx1 postfix/smtp[18185]: …                        RFC 3164: local time, without a year
    2026-11-24T15:32:45.123456+01:00 mx1 postfix/smtp[18185]: …       RFC 3339
    {"_SOURCE_REALTIME_TIMESTAMP":"1795534365123456","MESSAGE":"…",…}  an entry of `journalctl -o json`
    2026-11-24 15:32:45 auth: Info: …  and  Nov 24 15:32:45 auth: Info: …  Dovecot's own file

Invariants: a head is read from the left and ends at the first colon that may end it, so what a program says is never
taken for one; no line raises.
"""

import re
import time
from calendar import timegm
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

AHEAD = 86400.0
"""Seconds that a time without a year may lie in the future: clocks and time zones differ; beyond, it was last year."""
_YEARS_BACK = 8
"""The 29th of February is at most so far away."""
_PROGRAMS = 1000
"""Programs of hosts that are kept in memory."""

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}
_RFC_3164 = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)", re.ASCII).fullmatch
_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
).fullmatch
_LOCAL = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII).fullmatch
_PROGRAM = re.compile(r"(\S+) ([^\s\[\]:]+)(?:\[(\d{1,10})\])?: ?(.*)", re.ASCII | re.DOTALL).fullmatch
_DOVECOT = re.compile(
    r"([a-z][a-z0-9-]*(?:\([^()]*\))?(?:<[^<>]*>)*: (?:request \[\d+\]: )?)"
    r"(?:Info|Warning|Error|Fatal|Panic|Debug): (.*)",
    re.DOTALL,
).fullmatch


class Head(NamedTuple):
    time: float
    """Unix seconds."""
    host: str
    program: str
    pid: int
    text: str
    """What the program said."""


class _Entry(msgspec.Struct, gc=False):
    """Of the journal; a field that is no UTF-8 is an array of bytes, one that stands there twice an array of texts."""

    realtime: str = msgspec.field(name="__REALTIME_TIMESTAMP", default="")
    source_realtime: str = msgspec.field(name="_SOURCE_REALTIME_TIMESTAMP", default="")
    host: str = msgspec.field(name="_HOSTNAME", default="")
    identifier: str | list[int | str] = msgspec.field(name="SYSLOG_IDENTIFIER", default="")
    pid: str | list[int | str] = msgspec.field(name="_PID", default="")
    syslog_pid: str | list[int | str] = msgspec.field(name="SYSLOG_PID", default="")
    message: str | list[int | str] | None = msgspec.field(name="MESSAGE", default=None)


_decode = msgspec.json.Decoder(_Entry).decode


class Headers:
    """Takes heads off lines. Remembers the last time and the programs, as most lines have those of a line before."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells about when the lines were written (Unix seconds): it is what a year is inferred from."""
        self._clock = clock
        self._stamp = ""
        self._zone = ""
        self._time: float | None = None
        self._programs: dict[str, tuple[str, str]] = {}

    def split(self, line: str) -> Head | None:
        """The line's head; None: it has none that we know."""
        fourth = line[3:4]
        if fourth == " ":
            moment, rest = self._rfc_3164(line[:15]), line[16:]
        elif fourth.isdigit() and line[10:11] == "T":
            stamp, _, rest = line.partition(" ")
            moment = self._rfc_3339(stamp)
        elif line.startswith("{"):
            return _journal(line)
        else:
            moment, rest = _local(line[:19], self._clock()), line[20:]
        if moment is None:
            return None
        name, _, after = rest.partition("[")
        known = self._programs.get(name)
        if known is not None:
            pid, end, text = after.partition("]: ")
            if end and pid.isdecimal():
                return Head(moment, known[0], known[1], int(pid), text)
        return self._unknown(moment, rest)

    def _unknown(self, moment: float, rest: str) -> Head | None:
        """A head without a process id, or of a program that was not seen yet."""
        if dovecot := _DOVECOT(rest):
            return Head(moment, "", "dovecot", 0, dovecot[1] + dovecot[2])
        found = _PROGRAM(rest)
        if found is None:
            return None
        host, program, pid, text = found.groups()
        if pid:
            if len(self._programs) >= _PROGRAMS:
                self._programs.clear()
            self._programs[f"{host} {program}"] = host, program
        return Head(moment, host, program, int(pid or 0), text)

    def _rfc_3164(self, stamp: str) -> float | None:
        if stamp != self._stamp:
            self._stamp, self._time = stamp, _without_year(stamp, self._clock())
        return self._time

    def _rfc_3339(self, stamp: str) -> float | None:
        """Of most stamps only the fraction is new."""
        zone = self._zone
        if zone and stamp.startswith(self._stamp) and stamp.endswith(zone) and self._time is not None:
            fraction = stamp[19 : -len(zone)]
            if fraction[:1] == "." and fraction[1:].isdecimal():
                return self._time + float(fraction[:10])
        found = _RFC_3339(stamp)
        if found is None:
            return None
        *parts, fraction, sign, hours, minutes = found.groups()
        seconds = _utc(*map(int, parts))
        if seconds is None:
            return None
        if sign:
            seconds -= int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60)
        self._stamp, self._zone, self._time = stamp[:19], stamp[19 + len(fraction or "") :], float(seconds)
        return seconds + float(fraction or 0)


def _without_year(stamp: str, now: float) -> float | None:
    """The last such local time that is not in the future."""
    found = _RFC_3164(stamp)
    if found is None or found[1] not in _MONTHS:
        return None
    this_year = time.localtime(now).tm_year
    for year in range(this_year + 1, this_year - _YEARS_BACK, -1):
        moment = _moment(now, year, _MONTHS[found[1]], *map(int, found.groups()[1:]))
        if moment is not None and moment <= now + AHEAD:
            return moment
    return None


def _local(stamp: str, now: float) -> float | None:
    found = _LOCAL(stamp)
    return _moment(now, *map(int, found.groups())) if found else None


def _moment(now: float, year: int, month: int, day: int, hour: int, minute: int, second: int) -> float | None:
    """A local time; of the hour that comes twice in autumn, the one nearer to now."""
    try:
        first = datetime(year, month, day, hour, minute, min(second, 59))  # raises where there is no such day
        return min(first.timestamp(), first.replace(fold=1).timestamp(), key=lambda moment: abs(now - moment))
    except (ValueError, OverflowError):
        return None


def _utc(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    try:
        datetime(year, month, day, hour, minute, min(second, 59))
    except ValueError:
        return None
    return timegm((year, month, day, hour, minute, second))


def _journal(line: str) -> Head | None:
    try:
        entry = _decode(line)
        microseconds = int(entry.source_realtime or entry.realtime)
        pid = int(_text(entry.syslog_pid) or _text(entry.pid) or 0)
    except (msgspec.DecodeError, ValueError):
        return None
    message = _text(entry.message)
    program = _text(entry.identifier)
    if not program or entry.message is None or not 0 <= microseconds < 1 << 60:
        return None
    return Head(microseconds / 1e6, entry.host, program, pid, message)


def _text(value: str | list[int | str] | None) -> str:
    if isinstance(value, str):
        return value
    if not value:
        return ""
    if isinstance(value[0], str):
        return value[0]
    return bytes(one & 255 for one in value if isinstance(one, int)).decode(errors="backslashreplace")
