"""Failed logins, each counted once although several programs may tell of it.

    dovecot: auth: passwd-file(alice@example.org,192.0.2.1): Password mismatch     who, and from where
    smtpd: warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: …        from where, and who since Postfix 3.9
    dovecot: imap-login: Disconnected (auth failed, 2 attempts): user=<…>, rip=…   who, from where, how often

smtpd and Dovecot's login processes tell of a try themselves. What the process that checks passwords (Dovecot's `auth`,
saslauthd) said before only adds the name; it is told by itself if nobody else has told of the try within WAIT seconds.
If it writes into a file of its own, its line may also be read after smtpd's.

Where several data bases are asked one after the other, each of them may have a line: they are of one try, and of none
if a later one grants the login.

Invariants: tries at which nothing was checked do not count; memory is bounded; the clock is that of the lines.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, takewhile

import msgspec

from weir.maillog.messages import LoginFailed

WAIT = 30.0
"""Seconds: a failed try is answered late on purpose, and smtpd tells of it then."""
ONE_TRY = 2.0
"""Seconds within which the data bases are asked: a client that is refused waits longer (auth_failure_delay)."""
TOLD = 600.0
"""Seconds for which a try that was told is remembered: a login process tells of it once more at its client's end."""
MAX_CLIENTS = 10_000
MAX_TRIES = 1000
"""Of one client; and of all of them ten times as many that wait."""
MAX_ANSWERED = 100
"""Of one client."""
_CHECKERS = ("auth", "saslauthd")
_COUNTED = ("credentials", "unknown user")


class Try(msgspec.Struct):
    """What a checker said."""

    time: float
    failed: LoginFailed
    told: bool = False
    taken: bool = False
    """Another program has told of it, or it was none."""
    methods: list[str] = []
    """The data bases that did not grant it."""
    answered: bool = False
    """smtpd has told of it, and no checker did so far."""


class Tries:
    def __init__(self) -> None:
        self._waiting: deque[Try] = deque()
        """The oldest first."""
        self._by_client: dict[str, deque[Try]] = {}
        """Those that others may tell of yet; saslauthd knows no client."""
        self._answered: dict[str, deque[Try]] = {}
        """Those that smtpd has told of, and a checker may yet."""

    def take(self, time: float, failed: LoginFailed) -> Iterator[LoginFailed]:
        """What is to be counted for a line, if anything; `flush` comes before it."""
        if failed.reason not in _COUNTED:
            return
        if failed.service in _CHECKERS:
            if not self._is_answered(time, failed) and not self._is_further(time, failed):
                self._add(Try(time, failed, methods=[failed.method]))
            return
        told, user = 0, failed.user
        for _ in range(failed.tries):
            found = self._find(time, failed)
            if found is None:
                if failed.service == "smtpd":
                    self._add(Try(time, failed, told=True, answered=True))
                break
            found.taken = True
            self._by_client[found.failed.client_address].remove(found)
            told += found.told
            user = user or found.failed.user
        if told < failed.tries:
            yield msgspec.structs.replace(failed, user=user, tries=failed.tries - told)

    def succeeded(self, time: float, user: str, client: str) -> None:
        """A login was granted."""
        for one in self._just_now(time, user, client):
            one.taken = True
            self._by_client[client].remove(one)

    def flush(self, now: float) -> list[Try]:
        """What nobody else has told of in time."""
        found: list[Try] = []
        while self._waiting and (now >= self._waiting[0].time + WAIT or len(self._waiting) > 10 * MAX_TRIES):
            one = self._waiting.popleft()
            if not one.taken:
                one.told = True
                found.append(one)
        return found

    def records(self) -> list[Try]:
        """All that is remembered, the oldest first."""
        found = {
            id(one): one
            for one in chain(self._waiting, *self._by_client.values(), *self._answered.values())
            if not one.taken
        }
        return sorted(found.values(), key=lambda one: one.time)

    def restore(self, records: Iterable[Try]) -> None:
        """Take in what `records` told before a restart."""
        for one in records:
            self._add(one)

    def _add(self, one: Try) -> None:
        if not one.told:
            self._waiting.append(one)
        kept, limit = (self._answered, MAX_ANSWERED) if one.answered else (self._by_client, MAX_TRIES)
        client = one.failed.client_address
        if client not in kept:
            if len(kept) >= MAX_CLIENTS:
                del kept[next(iter(kept))]
            kept[client] = deque(maxlen=limit)
        kept[client].append(one)

    def _is_answered(self, time: float, failed: LoginFailed) -> bool:
        """Whether the line is of a try that smtpd has told of already."""
        for one in self._answered.get(failed.client_address, ()):
            is_before = time <= one.time <= time + WAIT
            is_same = not one.failed.user or _same(failed.user, one.failed.user)
            if is_before and is_same and failed.method not in one.methods:
                one.methods.append(failed.method)
                return True
        return False

    def _is_further(self, time: float, failed: LoginFailed) -> bool:
        """Whether the line is of a try that another data base did not grant either."""
        for one in self._just_now(time, failed.user, failed.client_address):
            if failed.method not in one.methods:
                one.methods.append(failed.method)
                if failed.reason == "credentials":  # one of them knows the user
                    one.failed = msgspec.structs.replace(one.failed, reason=failed.reason)
                return True
        return False

    def _just_now(self, time: float, user: str, client: str) -> list[Try]:
        """Tries of a moment ago, the newest first, that nobody else has told of."""
        tries = reversed(self._by_client.get(client, ()))
        recent = takewhile(lambda one: one.time > time - ONE_TRY, tries)
        return [one for one in recent if not one.told and _same(user, one.failed.user)]

    def _find(self, time: float, failed: LoginFailed) -> Try | None:
        """The oldest try that may be the one that this program tells of: smtpd does so at once."""
        seconds = WAIT if failed.service == "smtpd" else TOLD
        for client in (failed.client_address, ""):
            for one in self._by_client.get(client, ()):
                is_same = _same(failed.user, one.failed.user) or (client and not failed.user)
                if is_same and one.time > time - seconds:
                    return one
        return None


def _same(one: str, other: str) -> bool:
    """Whether it is the same name; a realm may have been added to one of them.

    >>> _same("Alice", "alice@example.org"), _same("alice@example.net", "alice@example.org"), _same("", "")
    (True, False, False)
    """
    one, other = one.lower(), other.lower()
    if "@" not in one or "@" not in other:
        one, other = one.partition("@")[0], other.partition("@")[0]
    return bool(one) and one == other
