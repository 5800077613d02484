"""Tallies: what one event means for one subject.

Invariants: `tallies` is a pure function without settings: whatever the agent had to find out stands in the event. An
event gives at most one tally for each subject, all with the event's seq. Times are by the broker's clock (offset off).
Numbers out of range are refused when a tally is decoded, so sums of them stay within 64 bits.
"""

from typing import Annotated

import msgspec

from weir import subjects
from weir.events import Delivery, Event, Heartbeat, Login, Queue, Rejected, Removed, Request, Submitted, is_accepted
from weir.limits import Increment, Maximum, Seconds, What

Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


RESULTS = (
    "sent",
    "deferred",
    *(f"bounced_{kind}" for kind in ("unknown_recipient", "listed", "spam", "rate", "mailbox_full", "other")),
    "rejected",
    "login",
    "login_failed",
)
"""What the mail log tells of an account, a client or a local user; bounces by `weir.maillog.bounces.Kind`."""

Result = Annotated[str, msgspec.Meta(max_length=40)]


class Tally(msgspec.Struct, omit_defaults=True, gc=False):
    """One line of an envelope on weir.tallies; host and epoch stand in the envelope's head."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    subject: str
    time: float
    """Unix time of the event, seconds, by the broker's clock."""
    messages: Count = 0
    """Accepted; so are `recipients` and `bytes`."""
    recipients: Count = 0
    bytes: Count = 0
    attempted_messages: Count = 0
    """Asked for, whatever the reply was."""
    attempted_recipients: Count = 0
    beside: str = ""
    """The subject that was seen beside this one: the client of an account, the account of a client."""
    increment: Increment = 0
    """Of a limit: what the request adds to it. `maximum`, `seconds` and `what` are the limit's, so that whoever counts
    needs no rules."""
    maximum: Maximum = 0.0
    seconds: Seconds = 0.0
    what: What = ""
    result: Result = ""
    """Of the mail log: what happened, one of RESULTS. `time` is then when the message was submitted."""
    results: Count = 0
    """How often."""


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Tally] = msgspec.json.Decoder(Tally)


def tallies(event: Event) -> list[Tally]:
    """What to count for whom; empty for an event that counts for nobody."""
    time = event.time - event.clock_offset
    if isinstance(event, Heartbeat):
        return [Tally(event.seq, subjects.heartbeat(number), time) for number in event.quiet_partitions]
    if isinstance(event, Request):
        return _request(event, time) + _limits(event, time)
    if isinstance(event, Submitted):
        return _submitted(event, time)
    if isinstance(event, Queue):
        return []
    return _result(event, time)


def _limits(event: Request, time: float) -> list[Tally]:
    """Of each limit that counted an accepted request; one that did so twice gives one tally all the same."""
    if not event.limits or not is_accepted(event.action):
        return []
    found: dict[str, Tally] = {}
    for hit in event.limits:
        subject = subjects.limit(hit.digest, hit.key)
        increment = hit.increment
        if subject in found:
            increment = min(increment + found[subject].increment, 2**40)
        found[subject] = Tally(
            event.seq,
            subject,
            time,
            increment=increment,
            maximum=hit.maximum,
            seconds=hit.seconds,
            what=hit.what,
        )
    return list(found.values())


def _request(event: Request, time: float) -> list[Tally]:
    if not (event.attempted_recipients or event.recipients or event.bytes):
        return []
    return [
        Tally(
            event.seq,
            subject,
            time,
            event.messages,
            event.recipients,
            event.bytes,
            event.attempted_messages,
            event.attempted_recipients,
            beside,
        )
        for subject, beside in _pairs(event.sasl_username, event.client_address)
    ]


def _submitted(event: Submitted, time: float) -> list[Tally]:
    """A message that no policy request told of: a local user's, or one that went by unasked."""
    if event.unasked:
        pairs = _pairs(event.sasl_username, event.client_address)
    else:
        pairs = [(subjects.uid(event.uid), "")] if event.uid >= 0 else []
    return [
        Tally(event.seq, subject, time, 1, event.recipients, event.size, 1, event.recipients, beside)
        for subject, beside in pairs
    ]


def _result(event: Delivery | Removed | Rejected | Login, time: float) -> list[Tally]:
    """What became of a message counts at the time of its submission: late bounces land where their message does."""
    result, count = _result_of(event)
    if not result:
        return []
    uid = -1
    if isinstance(event, Delivery):
        time, uid = event.submitted - event.clock_offset, event.uid
    pairs = _pairs(event.sasl_username, event.client_address)
    if uid >= 0:
        pairs.append((subjects.uid(uid), ""))
    return [Tally(event.seq, subject, time, beside=beside, result=result, results=count) for subject, beside in pairs]


def _result_of(event: Delivery | Removed | Rejected | Login) -> tuple[str, int]:
    if isinstance(event, Delivery):
        name = f"bounced_{event.bounce or 'other'}" if event.status == "bounced" else event.status
        return (name if name in RESULTS else "", 1)
    if isinstance(event, Rejected):
        return ("" if event.decision else "rejected", 1)  # our own refusals are no evidence
    if isinstance(event, Login):
        return ("login_failed" if event.failed else "login", event.tries)
    return "", 0


def _pairs(sasl_username: str, client_address: str) -> list[tuple[str, str]]:
    """Account and client, each with the other beside it."""
    account, client = subjects.sasl_username(sasl_username), subjects.client_address(client_address)
    return [pair for pair in ((account, client), (client, account)) if pair[0]]
