"""Lines of Postfix's queue and delivery: pickup, cleanup, qmgr, the delivery agents, bounce, postsuper.

A sender chooses the addresses, the Message-ID and other headers, a remote server what it says. Queue ids are therefore
taken at the line's beginning, or at its very end; a line that could be read in two ways is not understood.

Sources of the formats: Postfix's global/log_adhoc.c, qmgr/qmgr_active.c, pickup/pickup.c, cleanup/cleanup_message.c,
bounce/bounce_notify_service.c, postsuper/postsuper.c; real lines in the tests.
"""

from weir.maillog.messages import (
    Action,
    ConnectFailed,
    Delivery,
    Expired,
    Message,
    MessageId,
    Noted,
    Notified,
    PickedUp,
    QueueChanged,
    Queued,
    RemoteSaid,
    Removed,
)
from weir.maillog.patterns import ADDRESS, QUEUE_ID, whole
from weir.maillog.smtpd import action, tls

_DELIVERY = whole(
    rf"({QUEUE_ID}): to=<({ADDRESS})>(?:, orig_to=<({ADDRESS})>)?, relay=([^\s,]++)(?:, conn_use=\d++)?"
    r", delay=(\d++(?:\.\d++)?), delays=[\d./]++(?:, (?!(?:relay|delays?|dsn)=)[a-z_]++=[^\s,]*+)*+"
    r", dsn=([245]\.\d{1,3}\.\d{1,3}), status=([A-Za-z-]++)(?: \((.*))?"
)
_QUEUED = whole(rf"({QUEUE_ID}): from=<(.*)>, size=(\d{{1,18}}), nrcpt=(\d{{1,9}}) \(queue \w+\)")
_REMOVED = whole(rf"({QUEUE_ID}): removed")
_EXPIRED = whole(rf"({QUEUE_ID}): from=<(.*)>, status=((?:force-)?expired), returned to sender")
_SKIPPED = whole(rf"{QUEUE_ID}: (?:skipped, still being delivered|passing .*)")
_MESSAGE_ID = whole(rf"({QUEUE_ID}): (resent-)?message-id=(.*)")
_CONTENT = whole(rf"({QUEUE_ID}): ((?:milter-)?[a-z]{{2,20}}): (header|body) .*")
_PICKED_UP = whole(rf"({QUEUE_ID}): uid=(\d{{1,10}}) from=<(.*)>(?: orig_id=({QUEUE_ID}))?")
_NOTIFIED = whole(rf"({QUEUE_ID}): ((?:sender|postmaster) [a-z -]{{3,40}}) notification: ({QUEUE_ID})")
_REMOTE_SAID = whole(
    rf"({QUEUE_ID}): ((?:host|lost connection with|conversation with|connect to|Cannot start TLS|TLS|SSL_connect)\W.*)"
)
_CONNECT_FAILED = whole(r"connect to (\S+): (.*)")
_DETAILS = whole(
    rf"(?:{QUEUE_ID}: )?(?:enabling PIX workarounds|breaking line|Host offered STARTTLS|SSL_connect error to"
    r"|certificate verification failed for|Server certificate not|setting up TLS connection to).*"
)
_QUEUE_CHANGED = whole(rf"({QUEUE_ID}): (placed on hold|released from hold|removed|requeued|expired)")
_SUMMARY = whole(r"(?:Placed on hold|Released from hold|Deleted|Requeued|Expired): \d+ messages?")


def delivery_agent(text: str) -> Message | None:
    """smtp, lmtp, local, virtual, pipe, error, discard."""
    if outcome := delivery(text):
        return outcome
    if found := _REMOTE_SAID(text):
        return RemoteSaid(found[1], found[2])
    if found := _CONNECT_FAILED(text):
        return ConnectFailed(found[1], found[2])
    if _DETAILS(text) or _SKIPPED(text):
        return Noted("detail", text)
    return tls(text)


def delivery(text: str) -> Message | None:
    """A recipient's outcome."""
    found = _DELIVERY(text)
    if found is None:
        return None
    queue_id, recipient, original, relay, delay, dsn, status, said = found.groups("")
    if ", relay=" in said and ", status=" in said:
        return None  # the recipient, without quotes, may have written the first half
    return Delivery(queue_id, recipient, original, relay, float(delay), dsn, status, said.removesuffix(")"))


def qmgr(text: str) -> Message | None:
    if found := _REMOVED(text):
        return Removed(found[1])
    if found := _QUEUED(text):
        queue_id, sender, size, recipients = found.groups()
        return Queued(queue_id, sender, int(size), int(recipients))
    if found := _EXPIRED(text):
        return Expired(found[1], found[2], found[3])
    if _SKIPPED(text):
        return Noted("detail", text)
    return delivery(text)


def cleanup(text: str) -> Message | None:
    if found := _MESSAGE_ID(text):
        queue_id, resent, value = found.groups()
        is_bracketed = value.startswith("<") and value.endswith(">")
        return MessageId(queue_id, value[1:-1] if is_bracketed else value, bool(resent))
    if found := _CONTENT(text):
        return Action(found[1], found[2], found[3])
    return action(text) or delivery(text)


def pickup(text: str) -> Message | None:
    if found := _PICKED_UP(text):
        queue_id, uid, sender, original = found.groups("")
        return PickedUp(queue_id, int(uid), sender, original)
    return None


def bounce(text: str) -> Message | None:
    if found := _NOTIFIED(text):
        return Notified(found[1], found[2], found[3])
    return None


def postsuper(text: str) -> Message | None:
    if found := _QUEUE_CHANGED(text):
        return QueueChanged(found[1], found[2])
    return Noted("detail", text) if _SUMMARY(text) else None
