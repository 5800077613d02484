"""Tallies: what one event means for one subject.

Invariants: `tallies` is a pure function without settings: whatever the agent had to find out stands in the event. An
event gives at most one tally for each subject, all with the event's seq. Times are by the broker's clock (offset off).
Numbers out of range are refused when a tally is decoded, so sums of them stay within 64 bits.
"""

from typing import Annotated

import msgspec

from weir import subjects
from weir.events import Event, Heartbeat, Request

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


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Tally] = msgspec.json.Decoder(Tally)


def tallies(event: Event) -> list[Tally]:
    """What to count for whom; empty for an event that counts for nobody."""
    time = event.time - event.clock_offset
    if isinstance(event, Heartbeat):
        return [Tally(event.seq, subjects.heartbeat(number), time) for number in event.quiet_partitions]
    return _request(event, time)


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
