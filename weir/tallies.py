"""Tallies: what one event means for one subject.

Invariants: `tallies` is a pure function without settings: whatever the agent had to find out stands in the event. An
event gives at most one tally for each subject, all with the event's seq. Times are by the broker's clock (offset off).
Numbers out of range are refused when a tally is decoded, so sums of them stay within 64 bits.
"""

from typing import Annotated

import msgspec

from weir import subjects
from weir.events import Event, Heartbeat, Request, is_accepted
from weir.limits import Increment, Maximum, Seconds, What

Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


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


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Tally] = msgspec.json.Decoder(Tally)


def tallies(event: Event) -> list[Tally]:
    """What to count for whom; empty for an event that counts for nobody."""
    time = event.time - event.clock_offset
    if isinstance(event, Heartbeat):
        return [Tally(event.seq, subjects.heartbeat(number), time) for number in event.quiet_partitions]
    if not event.limits or not is_accepted(event.action):
        return _request(event, time)
    return _request(event, time) + _limits(event, time)


def _limits(event: Request, time: float) -> list[Tally]:
    """Of each limit that counted an accepted request; one that did so twice gives one tally all the same."""
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
    account = subjects.sasl_username(event.sasl_username)
    client = subjects.client_address(event.client_address)
    pairs = ((account, client), (client, account))
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
        for subject, beside in pairs
        if subject
    ]
