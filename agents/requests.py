"""Requests as events: what of a policy request goes into the history, and what it adds to the counts.

Invariant: an event holds attributes of the envelope and the connection only, never contents or secrets.
"""

from agents.message_counts import Counts
from agents.policy_protocol import PolicyRequest
from agents.verdict import Verdict
from weir.events import MAX_TEXT, Request
from weir.subjects import value


def event(
    request: PolicyRequest, account: str, verdict: Verdict, counts: Counts, time: float, clock_offset: float
) -> Request:
    """The event of a request; `account` is the subject of its login or "", `time` Unix seconds. Its seq is still 0."""
    return Request(
        seq=0,
        time=time,
        clock_offset=clock_offset,
        protocol_state=request.protocol_state,
        action=verdict.action[:MAX_TEXT],
        decision=verdict.decision,
        cut=request.cut,
        sasl_username=value(account),
        sasl_method=request.sasl_method,
        sender=request.sender,
        recipient=request.recipient,
        recipient_count=request.recipient_count,
        client_address=request.client_address,
        client_name=request.client_name,
        client_port=request.client_port,
        helo_name=request.helo_name,
        server_address=request.server_address,
        queue_id=request.queue_id,
        instance=request.instance,
        size=request.size,
        encryption_protocol=request.encryption_protocol,
        policy_context=request.policy_context,
        messages=counts.messages,
        recipients=counts.recipients,
        bytes=counts.bytes,
        attempted_messages=counts.attempted_messages,
        attempted_recipients=counts.attempted_recipients,
    )
