"""Events: facts, one struct for each kind. An agent makes them; the spool, weir.events and the history hold them.

Invariants: `seq` rises by one for each event of an epoch (the epoch and the host stand in the head of the spool
segment and of the envelope); an event needs no settings to be understood; one event is at most 64 KiB of JSON.
Fields that are not known are ignored, so that an older reader understands a newer agent. Numbers out of range are
refused when an event is decoded.
"""

from typing import Annotated

import msgspec

from weir.limits import MAX_HITS, Hit

MAX_TEXT = 512
"""Characters kept of one attribute: with the number of attributes below, an event stays under 64 KiB."""
MAX_RULE = 60
"""Characters kept of a rule's id."""


Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Time = Annotated[float, msgspec.Meta(ge=0, lt=2**32)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
Offset = Annotated[float, msgspec.Meta(ge=-(2**32), le=2**32)]


class Request(msgspec.Struct, tag_field="kind", tag="request", omit_defaults=True, gc=False, kw_only=True):
    """A policy request and the reply given. Attributes as in Postfix's SMTPD_POLICY_README.

    `messages`, `recipients` and `bytes` are what this request adds to the accepted counts of its message, the
    `attempted_` ones what it adds to what was asked for: each once, however many requests a message makes.
    """

    seq: Number
    time: Time
    """Unix time by the agent's own clock, seconds."""
    clock_offset: Offset = 0.0
    """Seconds that the agent's clock was ahead of the broker's."""
    protocol_state: str
    action: str = "DUNNO"
    """The reply's action, whole."""
    decision: str = ""
    """Id of the decision or of the operator's word behind the action."""
    rule: Annotated[str, msgspec.Meta(max_length=MAX_RULE)] = ""
    """Id of the rule that gave the action."""
    limits: Annotated[list[Hit], msgspec.Meta(max_length=MAX_HITS)] = []
    """The rules' limits that counted this request and are counted over the fleet."""
    cut: bool = False
    """A text was longer than is kept."""
    sasl_username: Annotated[str, msgspec.Meta(max_length=MAX_TEXT)] = ""
    """Canonical: lower case, with realm."""
    sasl_method: str = ""
    sender: str = ""
    recipient: str = ""
    recipient_count: Number = 0
    client_address: str = ""
    client_name: str = ""
    client_port: str = ""
    helo_name: str = ""
    server_address: str = ""
    queue_id: str = ""
    instance: str = ""
    size: Number = 0
    encryption_protocol: str = ""
    policy_context: str = ""
    messages: Number = 0
    recipients: Number = 0
    bytes: Number = 0
    attempted_messages: Number = 0
    attempted_recipients: Number = 0


class _Event(msgspec.Struct, omit_defaults=True, gc=False, kw_only=True):
    """What every event has."""

    seq: Number
    time: Time
    """Unix time by the agent's own clock, seconds, as all times here."""
    clock_offset: Offset = 0.0
    """Seconds that the agent's clock was ahead of the broker's."""


class _OfMessage(_Event, omit_defaults=True, gc=False, kw_only=True):
    """What the mail log tells of a message."""

    submitted: Time = 0.0
    """When its submission began."""
    queue_id: Text
    message_id: Text = ""
    sasl_username: Text = ""
    """Canonical: lower case, with realm. So everywhere below."""
    client_address: Text = ""
    uid: Annotated[int, msgspec.Meta(ge=-1, le=2**32)] = -1
    """The local user that gave it to sendmail(1), such as a web server's; -1: none."""
    parent: Text = ""
    """Queue id, on the same host, of the message that it came out of: as its notification, or through a content
    filter."""


class Submitted(_OfMessage, tag_field="kind", tag="submitted", omit_defaults=True, gc=False, kw_only=True):
    """A message is in a host's queue: who sent it, as the mail log says. Told once for each message, whatever content
    filters do with it; what the host makes itself (notifications, forwards, vacation replies) is nobody's. Its time is
    when it came into the queue.
    """

    login: Text = ""
    """Name of that user on the host."""
    sender: Text = ""
    size: Number = 0
    recipients: Number = 0
    unasked: bool = False
    """It has a login, and yet no policy request of it was seen: this host is not protected."""


class Delivery(_OfMessage, tag_field="kind", tag="delivery", omit_defaults=True, gc=False, kw_only=True):
    """What became of a message for one recipient; a deferred one is tried again."""

    sender: Text = ""
    recipient: Text = ""
    status: Text
    """`sent`, `bounced` or `deferred`."""
    relay: Text = ""
    dsn: Text = ""
    bounce: Text = ""
    """Why it was not sent, a kind of `weir.maillog.bounces`."""
    list: Text = ""
    """The block list that the remote server named."""
    text: Text = ""
    """What the remote server said."""


class Removed(_OfMessage, tag_field="kind", tag="removed", omit_defaults=True, gc=False, kw_only=True):
    """A message left the queue, or is held in it."""

    how: Text
    """`removed` (all recipients are done with), `refused`, `discarded`, `deleted`, `expired`; `held`, `released`."""


class Rejected(_Event, tag_field="kind", tag="rejected", omit_defaults=True, gc=False, kw_only=True):
    """A client was refused by Postfix."""

    queue_id: Text = ""
    sasl_username: Text = ""
    """Who had sent in the same session; empty: not known."""
    client_address: Text = ""
    recipient: Text = ""
    stage: Text = ""
    code: Annotated[int, msgspec.Meta(ge=0, le=999)] = 0
    dsn: Text = ""
    decision: Text = ""
    """Id of our decision, if the refusal is ours: such a one is never evidence."""


class Login(_Event, tag_field="kind", tag="login", omit_defaults=True, gc=False, kw_only=True):
    """A login, or a try that failed."""

    sasl_username: Text = ""
    """Empty: the log does not tell."""
    client_address: Text = ""
    service: Text = ""
    method: Text = ""
    tries: Annotated[int, msgspec.Meta(ge=0, le=2**20)] = 1
    failed: Text = ""
    """Why it failed: `credentials`, `unknown user` …; empty: it did not."""


class Queue(_Event, tag_field="kind", tag="queue", omit_defaults=True, gc=False, kw_only=True):
    """What the agent did with a subject's mail in this host's queues."""

    subject: Text
    how: Text
    """`held`, `released`, `deleted`; `left`: it stays on hold."""
    messages: Number = 0
    cause: Text = ""
    """Id of the decision or of the operator's word behind it."""
    error: Text = ""
    """Why not all was done."""


class Heartbeat(_Event, tag_field="kind", tag="heartbeat", omit_defaults=True, gc=False, kw_only=True):
    """An agent's own state, every five seconds; also on weir.status, where the newest of each host stays."""

    version: str
    """Weir's version on that host."""
    host: str
    freshness: float = -1.0
    """Age in seconds of what the fleet knows of this host (its worst partition); -1: never heard."""
    stale: bool = False
    """Decisions and operators' words were not read to their end since the start."""
    decisions: int = 0
    """Decisions in memory."""
    rules: str = ""
    """Digest of the rule set in use; empty: no rules."""
    spool_bytes: int = 0
    """Bytes in the spool that Kafka has not acknowledged."""
    dropped: int = 0
    """Events dropped since the agent's start (spool full, disk full)."""
    unasked: int = 0
    """Messages with a login, since the agent's start, that it was never asked about."""
    quiet_partitions: list[int] = []
    """Partitions of weir.tallies that had nothing from this host for five seconds: each gets a heartbeat tally."""


Event = Request | Submitted | Delivery | Removed | Rejected | Login | Queue | Heartbeat

encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def is_accepted(action: str) -> bool:
    """Whether mail goes on after this action: it is none of REJECT, 4xx, 5xx, DEFER*, DISCARD.

    >>> is_accepted("DUNNO"), is_accepted("521 5.7.1 blocked"), is_accepted("defer_if_permit later")
    (True, False, False)
    """
    if action == "DUNNO":
        return True
    word = (action.split(maxsplit=1) or [""])[0].upper()  # a tab too ends it: our reply has a space there
    if len(word) == 3 and word.isdigit():
        return word[0] not in "45"
    return word not in ("REJECT", "DISCARD") and not word.startswith("DEFER")
