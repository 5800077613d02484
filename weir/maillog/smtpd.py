"""Lines of Postfix's servers: smtpd, and postscreen with its helpers before it.

A client chooses its HELO name, the sender, the recipients, its login name, and what AUTH= says. Each is taken only from
a place that the daemon alone can have written: left of all that the client chose, or between its own brackets.

Sources of the formats: Postfix's smtpd/smtpd.c, smtpd/smtpd_check.c (log_whatsup), smtpd/smtpd_sasl_glue.c,
proto/POSTSCREEN_README; real lines in the tests.
"""

from weir.maillog.messages import (
    Action,
    Connected,
    ConnectionLost,
    Disconnected,
    Listed,
    LoginFailed,
    Message,
    Noted,
    RateExceeded,
    Screened,
    Submitted,
    TlsEstablished,
)
from weir.maillog.patterns import ADDRESS, CLIENT, CLIENT_PARTS, QUEUE_ID, bare, whole

_CONNECTED = whole(rf"connect from {CLIENT_PARTS}")
_DISCONNECTED = whole(rf"disconnect from {CLIENT_PARTS}((?: [a-z_]+=\d+(?:/\d+)?)*)")
_SUBMITTED = whole(
    rf"(NOQUEUE|{QUEUE_ID}): client={CLIENT_PARTS}(?:, sasl_method=([^\s,]++), sasl_username=([^\s,]++))?"
)
# sasl_sender is the client's own text; what follows it is not looked at.
_SUBMITTED_WITH_MORE = whole(
    rf"(NOQUEUE|{QUEUE_ID}): client={CLIENT_PARTS}(?:, sasl_method=([^\s,]++), sasl_username=(.*?))?"
    rf"(?:, sasl_sender=.*|(?:, orig_queue_id=({QUEUE_ID}))?(?:, orig_client=({CLIENT}))?)"
)
_ACTION = whole(
    rf"(NOQUEUE|{QUEUE_ID}): ((?:milter-|proxy-)?[a-z_]{{2,20}}): ([A-Z-]{{2,20}}) from {CLIENT_PARTS}: "
    r"(?:([245]\d\d) )?(?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)"
)
_REASON = whole(
    rf"(?:<{ADDRESS}>: )?([^<>]*?);(?: from=<({ADDRESS})>,?)?(?: to=<({ADDRESS})>,?)?(?: proto=\w+,?)?(?: helo=<(.*)>)?"
    r"(?: sasl_method=\S+)?(?: sasl_username=(\S+?))?(?: sasl_sender=\S*)?"
)
_OURS = whole(r".*\[weir [a-z0-9_.-]{1,60} ([A-Za-z0-9_.-]{1,60})\]")
_LOST = whole(
    rf"(?:({QUEUE_ID}): )?(lost connection|timeout|too many errors) after ([A-Z-]+(?: \([^()]*\))?) from {CLIENT_PARTS}"
)
_LOGIN_FAILED = whole(
    rf"warning: {CLIENT_PARTS}: SASL (\S{{1,100}}) authentication (?:(aborted)|failed: (.*?)(?:, sasl_username=(.*))?)"
)
_RATE_EXCEEDED = whole(
    rf"warning: ([A-Z][A-Za-z ]{{3,60}}) limit exceeded: (\d{{1,9}}) from {CLIENT_PARTS} for service (\S+)"
)
_TLS = whole(
    r"(Anonymous|Untrusted|Trusted|Verified) TLS connection (?:established|reused) (?:from|to) (\S+)(?: to \S+)?: "
    r"(\S+) with cipher (\S+)(?: .*)?"
)
_SCREENED = whole(
    r"(CONNECT|DISCONNECT|PASS (?:NEW|OLD)|(?:WHITE|ALLOW|BLACK|DENY|BLOCK)LISTED|(?:WHITE|ALLOW)LIST VETO"
    r"|PREGREET \d+|HANGUP|DNSBL rank -?\d+|COMMAND [A-Z]+(?: LIMIT)?|BARE NEWLINE|NON-SMTP COMMAND)"
    r"(?: after [\d.]+)?(?: from| for)? \[([^\s\[\]]+)\](?::\d+)?(?:\W.*)?"
)
_LISTED = whole(r"addr (\S+) listed by domain (\S+) as (\S+)")
_DETAILS = (
    "setting up TLS connection from ",
    "SSL_accept error from ",
    "discarding EHLO keywords",
    "improper command pipelining after ",
    "initializing the server-side TLS engine",
    "SSL_accept:",
)
# Nothing was checked: the login name that Postfix adds is then that of the try before.
_PROTOCOL = (
    "Invalid base64 data",
    "Invalid authentication mechanism",
    "bad protocol",
    "another step is needed",
    "no mechanism available",
    "authentication protocol",
)
_UNAVAILABLE = (
    "Connection lost to authentication server",
    "generic failure",
    "Temporary authentication",
    "remote authentication server",
)


def smtpd(text: str) -> Message | None:  # noqa: PLR0911 (a list of forms)
    """What smtpd says; None: not understood, or nothing of its own."""
    if text.startswith("connect"):
        if found := _CONNECTED(text):
            return Connected(found[1] or "", found[2])
    elif text.startswith("disconnect"):
        if found := _DISCONNECTED(text):
            return Disconnected(found[1] or "", found[2], found[3][1:])
    elif text.startswith("warning: "):
        return _warning(text)
    elif found := _SUBMITTED(text):
        queue_id, name, address, method, user = found.groups("")
        return Submitted(bare(queue_id), name, address, user, method)
    elif found := _SUBMITTED_WITH_MORE(text):
        queue_id, name, address, method, user, original_id, original_client = found.groups("")
        return Submitted(bare(queue_id), name, address, user, method, original_id, original_client)
    elif found := _LOST(text):
        queue_id, reason, after, name, address = found.groups("")
        return ConnectionLost(name, address, reason, after, queue_id)
    elif text.startswith(_DETAILS):
        return Noted("detail", text)
    return action(text) or tls(text)


def postscreen(text: str) -> Message | None:
    """What postscreen and tlsproxy say."""
    if found := _SCREENED(text):
        return Screened(found[1], found[2])
    if text.startswith(("entering STRESS mode", "leaving STRESS mode")):
        return Noted("detail", text)
    return action(text) or tls(text)


def dnsblog(text: str) -> Message | None:
    if found := _LISTED(text):
        return Listed(found[1], found[2], found[3])
    return None


def tls(text: str) -> Message | None:
    """A TLS connection is there."""
    if found := _TLS(text):
        return TlsEstablished(found[1], found[2], found[3], found[4])
    return None


def action(text: str) -> Message | None:
    """A restriction's or a milter's result."""
    found = _ACTION(text)
    if found is None:
        return None
    queue_id, name, stage, client_name, client_address, code, dsn, rest = found.groups("")
    reason = _REASON(rest)
    said, sender, recipient, helo, user = reason.groups("") if reason else ("",) * 5
    # Postfix leaves no angle brackets in a HELO: with some, an address without quotes has written what stands before.
    ours = _OURS(said) if not {"<", ">"} & set(helo) else None
    return Action(
        bare(queue_id),
        name,
        stage,
        client_name,
        client_address,
        int(code or 0),
        dsn,
        said,
        sender,
        recipient,
        helo,
        "" if user.endswith(">") else user,
        ours[1] if ours else "",
    )


def _warning(text: str) -> Message | None:
    if found := _LOGIN_FAILED(text):
        _, address, method, aborted, why, user = found.groups("")
        reason = "credentials"
        if aborted or why.startswith(_PROTOCOL):
            reason = "protocol"
        elif why.startswith(_UNAVAILABLE):
            reason = "unavailable"
        is_known = reason != "protocol" and user != "(unavailable)"
        return LoginFailed("smtpd", user if is_known else "", address, method, reason)
    if found := _RATE_EXCEEDED(text):
        what, count, name, address, service = found.groups("")
        return RateExceeded(what, int(count), name, address, service)
    return None
