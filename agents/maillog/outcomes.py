"""What the tracker tells of messages: who sent them, and what became of them."""

from typing import NamedTuple, TypeAlias

from msgspec import Struct

from weir.maillog.bounces import Bounce


class Message(Struct, gc=False, omit_defaults=True):
    """A message in a queue of this host, as a plain record."""

    queue_id: str
    since: float
    """When it was submitted, Unix seconds: the first line that tells of it; of one that came out of a content filter,
    when it came to us."""
    user: str = ""
    """The login name behind it."""
    uid: int = -1
    """The local user behind it (sendmail), -1: none."""
    client: str = ""
    """Address of the client that submitted it; empty for what was made on this host."""
    message_id: str = ""
    sender: str = ""
    size: int = 0
    """Bytes; 0: not told yet."""
    recipients: int = 0
    """As the queue manager counts them at first; 0: it was not queued yet."""
    parent: str = ""
    """Queue id of the message that this one came out of: through a content filter, requeued, or as its notification;
    its own, if a filter before the queue gave it to us."""
    held: bool = False
    asked: bool = False
    """A policy request of it was seen."""
    instance: str = ""
    """The Postfix instance that has it in its queue, by its name in the log; empty: not told yet."""


class Queued(NamedTuple):
    """A message in a queue of this host."""

    instance: str
    queue_id: str
    held: bool
    since: float
    """When it was submitted, Unix seconds."""


class Began(Struct, gc=False, frozen=True, tag=True):
    """A message was submitted; its recipients are not known yet."""

    message: Message
    time: float
    pid: int
    """Of the smtpd, which is the hexadecimal first part of a policy request's `instance`."""


class Accepted(Struct, gc=False, frozen=True, tag=True):
    """A message is in the queue: its sender, size and recipients are known."""

    message: Message
    time: float


class Delivered(Struct, gc=False, frozen=True, tag=True):
    """What became of a message for one recipient; a deferred one is tried again."""

    message: Message
    time: float
    status: str
    """`sent`, `bounced` or `deferred`."""
    recipient: str
    relay: str
    dsn: str
    bounce: Bounce | None
    """Why it was not sent."""
    text: str
    """What the remote server said."""


class Ended(Struct, gc=False, frozen=True, tag=True):
    """Nothing more will be told of a message."""

    message: Message
    time: float
    how: str
    """`removed` (all recipients are done with), `refused`, `discarded`, `deleted` (by hand), `expired` (returned
    to its sender)."""


class Held(Struct, gc=False, frozen=True, tag=True):
    """A message was put on hold, or released."""

    message: Message
    time: float
    held: bool


class Refused(Struct, gc=False, frozen=True):
    """A client was refused."""

    time: float
    user: str
    """Who had sent in the same session; empty: not known."""
    client: str
    stage: str
    code: int
    dsn: str
    recipient: str
    queue_id: str
    decision: str
    """Id of our decision, if the refusal is ours: such a one is never evidence."""


class LoggedIn(Struct, gc=False, frozen=True):
    """A login at smtpd, told by the first message that it sent."""

    time: float
    user: str
    client: str


class Waiting(Struct):
    """Outcomes that wait for the other end of a content filter."""

    message: Message
    """The one that may have come out of a filter, or the one that was put into it."""
    until: float
    outcomes: list[Began | Accepted | Delivered | Ended | Held]


class Recent(Struct, omit_defaults=True):
    """What the tracker knows beside messages, as a plain record: see the fields of that name there."""

    sessions: dict[int, tuple[str, str]] = {}
    ahead: dict[int, str] = {}
    waiting: dict[str, Waiting] = {}
    expected: dict[str, Waiting] = {}
    tied: dict[str, str] = {}
    ended: dict[str, float] = {}


Outcome: TypeAlias = Began | Accepted | Delivered | Ended | Held | Refused | LoggedIn
