"""What the mail log tells, as events: of outcomes that the tracker found, and of logins.

Invariants: accounts are named as in policy requests (lower case, default realm); every text and number fits into an
event, whatever stands in the log; a message without a login, and one that a program on this host made, was not to be
asked about.
"""

import pwd
from collections.abc import Collection
from functools import lru_cache
from typing import TypeAlias

from agents.maillog.asked import AskedMessages
from agents.maillog.outcomes import Accepted, Began, Delivered, Ended, Held, LoggedIn, Message, Outcome, Refused
from weir import subjects
from weir.events import MAX_TEXT, Delivery, Login, Rejected, Removed, Submitted
from weir.maillog import messages

Told: TypeAlias = Submitted | Delivery | Removed | Rejected | Login

MAX_SIZE = 2**40
MAX_UID = 2**32
MAX_TIME = 2.0**32 - 1


class Teller:
    def __init__(self, default_realm: str, ignore_uids: Collection[int], asked: AskedMessages) -> None:
        self.default_realm = default_realm
        self._ignore_uids = frozenset(ignore_uids)
        self._asked = asked

    def event(self, outcome: Outcome) -> Told | None:  # noqa: PLR0911 (a table)
        """The event of an outcome; None: nothing is told of it."""
        match outcome:
            case Began(message, time, pid):
                self._begin(message, time, pid)
                return None
            case Accepted(message, time):
                return self._accepted(message, time)
            case Delivered():
                return self._delivered(outcome)
            case Ended(message, time, how):
                return self._removed(message, time, how)
            case Held(message, time, held):
                message.asked = message.asked or self._asked.knows(message.queue_id)
                return self._removed(message, time, "held" if held else "released")
            case Refused():
                return self._refused(outcome)
            case LoggedIn(time, user, client):
                return self._login(time, user, client, "smtpd", "")

    def logged_in(self, time: float, said: messages.LoggedIn) -> Told | None:
        """A login elsewhere. What saslauthd grants, smtpd or another program tells as well."""
        if said.service == "saslauthd":
            return None
        return self._login(time, said.user, said.client_address, said.service, said.method)

    def login_failed(self, time: float, failed: messages.LoginFailed) -> Told:
        login = self._login(time, failed.user, failed.client_address, failed.service, failed.method)
        login.tries, login.failed = failed.tries, failed.reason
        return login

    def _begin(self, message: Message, time: float, pid: int) -> None:
        if message.user:
            message.asked = self._asked.began(message.queue_id, pid, time)
        if message.uid in self._ignore_uids or message.uid > MAX_UID:
            message.uid = -1

    def _accepted(self, message: Message, time: float) -> Submitted:
        message.asked = message.asked or self._asked.knows(message.queue_id)
        return Submitted(
            seq=0,
            time=_time(time),
            submitted=_time(message.since),
            queue_id=message.queue_id,
            parent=_parent(message),
            message_id=message.message_id[:MAX_TEXT],
            sasl_username=self._account(message.user),
            client_address=message.client[:MAX_TEXT],
            uid=message.uid,
            login=_login_name(message.uid),
            sender=message.sender[:MAX_TEXT],
            size=min(message.size, MAX_SIZE),
            recipients=message.recipients,
            unasked=bool(message.user) and not message.asked and not message.parent,
        )

    def _delivered(self, delivered: Delivered) -> Delivery:
        message, bounce = delivered.message, delivered.bounce
        return Delivery(
            seq=0,
            time=_time(delivered.time),
            submitted=_time(message.since),
            queue_id=message.queue_id,
            message_id=message.message_id[:MAX_TEXT],
            sasl_username=self._account(message.user),
            client_address=message.client[:MAX_TEXT],
            uid=message.uid,
            parent=_parent(message),
            sender=message.sender[:MAX_TEXT],
            recipient=delivered.recipient[:MAX_TEXT],
            status=delivered.status,
            relay=delivered.relay[:MAX_TEXT],
            dsn=delivered.dsn,
            bounce=bounce.kind if bounce else "",
            list=bounce.list[:MAX_TEXT] if bounce else "",
            text=delivered.text[:MAX_TEXT],
        )

    def _removed(self, message: Message, time: float, how: str) -> Removed:
        return Removed(
            seq=0,
            time=_time(time),
            submitted=_time(message.since),
            queue_id=message.queue_id,
            message_id=message.message_id[:MAX_TEXT],
            sasl_username=self._account(message.user),
            client_address=message.client[:MAX_TEXT],
            uid=message.uid,
            parent=_parent(message),
            how=how,
        )

    def _refused(self, refused: Refused) -> Rejected:
        return Rejected(
            seq=0,
            time=_time(refused.time),
            queue_id=refused.queue_id,
            sasl_username=self._account(refused.user),
            client_address=refused.client[:MAX_TEXT],
            recipient=refused.recipient[:MAX_TEXT],
            stage=refused.stage,
            code=refused.code,
            dsn=refused.dsn,
            decision=refused.decision,
        )

    def _login(self, time: float, user: str, client: str, service: str, method: str) -> Login:
        return Login(
            seq=0,
            time=_time(time),
            sasl_username=self._account(user),
            client_address=client[:MAX_TEXT],
            service=service[:MAX_TEXT],
            method=method[:MAX_TEXT],
        )

    def _account(self, user: str) -> str:
        return subjects.value(subjects.sasl_username(user, self.default_realm))


def _parent(message: Message) -> str:
    """Of a message that a filter before the queue gave to us there is no other queue id."""
    return "" if message.parent == message.queue_id else message.parent


def _time(time: float) -> float:
    """Within what an event holds: a log may tell of any year."""
    return min(max(time, 0.0), MAX_TIME)


@lru_cache(maxsize=1000)
def _login_name(uid: int) -> str:
    if uid < 0:
        return ""
    try:
        return pwd.getpwuid(uid).pw_name[:MAX_TEXT]
    except (KeyError, OverflowError):
        return ""
