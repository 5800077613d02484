"""One line of the mail log → its head and a typed message.

Invariants: no line raises, however malformed; what is not understood has the message None and is never guessed; the
program decides which forms are looked for, so no text of one daemon is taken for another's.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

from weir.maillog import delivery, logins, smtpd
from weir.maillog.headers import Headers
from weir.maillog.messages import Line, Message, Noted, Warned
from weir.maillog.patterns import whole

Understand: TypeAlias = Callable[[str], Message | None]

_PROGRAMS = 1000
"""Programs that are kept in memory."""
_LEVELS = ("warning", "error", "fatal", "panic")
_LIFECYCLE = whole(
    r"(?:daemon started|reload) -- version .*|terminating on signal \d+|table \S+ has changed -- restarting"
    r"|(?:starting|stopping|refreshing|aborting) the Postfix mail system|the Postfix mail system is .*"
    r"|waiting for the Postfix mail system .*"
)
_REPEATED = whole(r"message repeated (\d{1,4}) times: \[ ?(.*)\]")
"""By rsyslog's RepeatedMsgReduction, which Ubuntu switches on."""
_CACHE = whole(r"cache \S+ (?:full|partial) cleanup: .*|close database .*")


def _postfix(text: str) -> Message | None:
    """What any program of Postfix may say."""
    level, _, rest = text.partition(": ")
    if level in _LEVELS:
        return Warned(level, rest)
    if level == "statistics":
        return Noted("statistics", rest)
    if _LIFECYCLE(text):
        return Noted("lifecycle", text)
    return Noted("cache", text) if _CACHE(text) else None


def _either(own: Understand) -> Understand:
    return lambda text: own(text) or _postfix(text)


_OWN: dict[Understand, tuple[str, ...]] = {
    smtpd.smtpd: ("smtpd",),
    smtpd.postscreen: ("postscreen", "tlsproxy"),
    smtpd.dnsblog: ("dnsblog",),
    delivery.delivery_agent: ("smtp", "lmtp", "local", "virtual", "pipe", "error", "discard", "retry"),
    delivery.qmgr: ("qmgr", "oqmgr", "nqmgr"),
    delivery.cleanup: ("cleanup",),
    delivery.pickup: ("pickup",),
    delivery.bounce: ("bounce", "defer", "trace"),
    delivery.postsuper: ("postsuper",),
}
"""Daemons with lines of their own."""
_PLAIN = (
    *("master", "anvil", "scache", "verify", "flush", "showq", "proxymap", "trivial-rewrite", "tlsmgr", "postlogd"),
    *("spawn", "qmqpd", "postfix-script", "postdrop", "sendmail", "postqueue", "postmap", "postalias", "postmulti"),
    *("postlog", "postcat", "postconf", "postkick", "postlock"),
)
_DAEMONS: dict[str, Understand] = {
    **dict.fromkeys(_PLAIN, _postfix),
    **{name: _either(own) for own, names in _OWN.items() for name in names},
}
_OTHERS: dict[str, Understand] = {"dovecot": logins.dovecot, "saslauthd": logins.saslauthd}


def _not_ours(text: str) -> None:
    """No program whose lines we know."""


class Parser:
    """Parses lines of one log, in their order."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` tells about when the lines were written (Unix seconds)."""
        self._split = Headers(clock).split
        self._programs: dict[str, tuple[str, str, Understand]] = {}

    def parse(self, line: bytes | str) -> Line | None:
        """What a line without its line break says; None: it has no head that we know."""
        if isinstance(line, bytes):
            line = line.decode(errors="backslashreplace")
        head = self._split(line)
        if head is None:
            return None
        moment, host, program, pid, text = head
        service, daemon, understand = self._programs.get(program) or self._program(program)
        message = understand(text)
        if message is None and (repeated := _REPEATED(text)):
            return Line(moment, host, service, daemon, pid, understand(repeated[2]), text, int(repeated[1]))
        return Line(moment, host, service, daemon, pid, message, text)

    def _program(self, program: str) -> tuple[str, str, Understand]:
        service, slash, daemon = program.rpartition("/")
        understand = (_DAEMONS if slash else _OTHERS).get(daemon, _not_ours)
        if len(self._programs) >= _PROGRAMS:
            self._programs.clear()
        self._programs[program] = service, daemon, understand
        return service, daemon, understand
