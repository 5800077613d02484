"""Requests as events: what of a policy request goes into the history, and what it adds to the counts.

Invariants: an event holds attributes of the envelope and the connection only, never contents or secrets; each text is
at most MAX_TEXT characters long; a number that is none is 0.
"""

from agents.message_counts import Counts
from agents.policy_protocol import Attributes
from agents.verdict import Verdict
from weir.events import MAX_TEXT, Request
from weir.subjects import value

_TEXTS = (
    "protocol_state",
    "sasl_method",
    "sender",
    "recipient",
    "client_address",
    "client_name",
    "client_port",
    "helo_name",
    "server_address",
    "queue_id",
    "instance",
    "encryption_protocol",
    "policy_context",
)
"""Attributes that an event takes over as they are."""


def event(
    attributes: Attributes, account: str, verdict: Verdict, counts: Counts, time: float, clock_offset: float
) -> Request:
    """The event of a request; `account` is the subject of its login or "", `time` Unix seconds. Its seq is still 0."""
    get = attributes.get
    made = Request(
        seq=0,
        time=time,
        clock_offset=clock_offset,
        protocol_state=get("protocol_state", ""),
        action=verdict.action,
        decision=verdict.decision,
        sasl_username=value(account) if account else "",
        sasl_method=get("sasl_method", ""),
        sender=get("sender", ""),
        recipient=get("recipient", ""),
        recipient_count=number(get("recipient_count", "")),
        client_address=get("client_address", ""),
        client_name=get("client_name", ""),
        client_port=get("client_port", ""),
        helo_name=get("helo_name", ""),
        server_address=get("server_address", ""),
        queue_id=get("queue_id", ""),
        instance=get("instance", ""),
        size=number(get("size", "")),
        encryption_protocol=get("encryption_protocol", ""),
        policy_context=get("policy_context", ""),
        messages=counts.messages,
        recipients=counts.recipients,
        bytes=counts.bytes,
        attempted_messages=counts.attempted_messages,
        attempted_recipients=counts.attempted_recipients,
    )
    if max(map(len, attributes.values())) > MAX_TEXT:
        _cut(made)
    return made


def number(text: str) -> int:
    """A count or a size; 0 for what is no number of at most 15 digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0


def _cut(made: Request) -> None:
    for name in _TEXTS:
        text = getattr(made, name)
        if len(text) > MAX_TEXT:
            setattr(made, name, text[:MAX_TEXT])
            made.cut = True
