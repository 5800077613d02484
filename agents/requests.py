"""Requests as events: what was found out about a policy request, beside its attributes.

Invariant: an event holds attributes of the envelope and the connection only, never contents or secrets.
"""

from agents.message_counts import Counts
from agents.policy_protocol import PolicyRequest
from agents.verdict import Verdict
from weir.events import MAX_TEXT
from weir.limits import Hit
from weir.subjects import value


def fill(
    request: PolicyRequest,
    account: str,
    verdict: Verdict,
    hits: list[Hit],
    counts: Counts,
    time: float,
    clock_offset: float,
) -> None:
    """Make a request its event: set all that is no attribute, whatever a client has sent by such a name.

    `account` is the subject of its login or "", `time` Unix seconds; its seq comes from the spool.
    """
    request.time = time
    request.clock_offset = clock_offset
    request.action = verdict.action[:MAX_TEXT]
    request.decision = verdict.decision
    request.rule = verdict.rule
    if hits:  # no client can set this one: it is a list
        request.limits = hits
    request.sasl_username = value(account)
    request.messages = counts.messages
    request.recipients = counts.recipients
    request.bytes = counts.bytes
    request.attempted_messages = counts.attempted_messages
    request.attempted_recipients = counts.attempted_recipients
