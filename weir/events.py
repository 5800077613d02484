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


class Heartbeat(msgspec.Struct, tag_field="kind", tag="heartbeat", omit_defaults=True, gc=False, kw_only=True):
    """An agent's own state, every five seconds; also on weir.status, where the newest of each host stays."""

    seq: Number
    time: Time
    clock_offset: Offset = 0.0
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
    quiet_partitions: list[int] = []
    """Partitions of weir.tallies that had nothing from this host for five seconds: each gets a heartbeat tally."""


Event = Request | Heartbeat

encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def is_accepted(action: str) -> bool:
    """Whether mail goes on after this action: it is none of REJECT, 4xx, 5xx, DEFER*, DISCARD.

    >>> is_accepted("DUNNO"), is_accepted("521 5.7.1 blocked"), is_accepted("defer_if_permit later")
    (True, False, False)
    """
    if action == "DUNNO":
        return True
    word = action.partition(" ")[0].upper()
    if len(word) == 3 and word.isdigit():
        return word[0] not in "45"
    return word not in ("REJECT", "DISCARD") and not word.startswith("DEFER")
