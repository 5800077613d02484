"""What a line of the mail log says, as one typed message each.

Invariants: a field is what the daemon wrote at a place that nobody else can shift; what cannot be told apart from text
that a client or a remote server chose is left empty. Nothing here holds a password or a message's contents.

Words: `queue_id` is "" where Postfix has none (NOQUEUE); addresses stand without their angle brackets, in the form that
Postfix wrote them; a client is name, address and port, the name `unknown` where Postfix says so.
"""

from typing import TypeAlias

from msgspec import Struct


class Connected(Struct, gc=False, frozen=True, tag="connected"):
    """smtpd: a session begins."""

    client_name: str
    client_address: str


class Disconnected(Struct, gc=False, frozen=True, tag="disconnected"):
    """smtpd: a session ends."""

    client_name: str
    client_address: str
    commands: str
    """The counters as Postfix writes them: `ehlo=1 auth=0/2 quit=1 commands=2/4`, accepted of all if they differ."""


class ConnectionLost(Struct, gc=False, frozen=True, tag="connection_lost"):
    """smtpd: a session ends early."""

    client_name: str
    client_address: str
    reason: str
    """`lost connection`, `timeout` or `too many errors`."""
    after: str
    """The command before it."""
    queue_id: str = ""


class Submitted(Struct, gc=False, frozen=True, tag="submitted"):
    """smtpd: a message begins (`client=`)."""

    queue_id: str
    client_name: str
    client_address: str
    sasl_username: str = ""
    sasl_method: str = ""
    original_queue_id: str = ""
    """Of the message that a content filter was given, as it told us by XFORWARD."""
    original_client: str = ""


class Action(Struct, gc=False, frozen=True, tag="action"):
    """smtpd, postscreen, cleanup: what a restriction, a milter or a header check made of a request."""

    queue_id: str
    action: str
    """`reject`, `hold`, `discard`, `warn`, `milter-reject`, `proxy-accept` … as Postfix names it."""
    stage: str
    """`RCPT`, `END-OF-MESSAGE` …; `header` or `body` where cleanup found it."""
    client_name: str = ""
    client_address: str = ""
    code: int = 0
    """Of the SMTP reply, 0: none."""
    dsn: str = ""
    text: str = ""
    """The reason, without the address before it; empty if it cannot be told from what the client chose."""
    sender: str = ""
    recipient: str = ""
    helo: str = ""
    sasl_username: str = ""
    """Since Postfix 3.10."""
    decision: str = ""
    """Id of our decision, if the refusal is ours."""


class LoginFailed(Struct, gc=False, frozen=True, tag="login_failed"):
    """A failed try to log in, as one of the programs that see it tells it: the same try may stand in two logs."""

    service: str
    """`smtpd`, `auth` (Dovecot's authentication process), `imap-login` …, `saslauthd`."""
    user: str
    """As the client gave it; empty if the program does not tell."""
    client_address: str
    method: str
    reason: str
    """`credentials`, `unknown user`, `protocol` (nothing was checked), `unavailable` (nothing could be checked)."""
    tries: int = 1


class LoggedIn(Struct, gc=False, frozen=True, tag="logged_in"):
    """A login that succeeded, at Dovecot or saslauthd."""

    service: str
    user: str
    client_address: str
    method: str


class LoginEnded(Struct, gc=False, frozen=True, tag="login_ended"):
    """Dovecot: a connection that ended without a failed try, or the end of one that was logged in."""

    service: str
    user: str
    client_address: str


class TlsEstablished(Struct, gc=False, frozen=True, tag="tls"):
    """A TLS connection, from a client or to a server."""

    trust: str
    """`Anonymous`, `Untrusted`, `Trusted` or `Verified`."""
    peer: str
    protocol: str
    cipher: str


class PickedUp(Struct, gc=False, frozen=True, tag="picked_up"):
    """pickup: a message of sendmail(1), or one that was requeued."""

    queue_id: str
    uid: int
    sender: str
    original_queue_id: str = ""


class MessageId(Struct, gc=False, frozen=True, tag="message_id"):
    """cleanup: the Message-ID of the header."""

    queue_id: str
    message_id: str
    resent: bool = False


class Queued(Struct, gc=False, frozen=True, tag="queued"):
    """qmgr: a message becomes active, for the first time or once more."""

    queue_id: str
    sender: str
    size: int
    recipients: int


class Removed(Struct, gc=False, frozen=True, tag="removed"):
    """qmgr: a message is done with."""

    queue_id: str


class Expired(Struct, gc=False, frozen=True, tag="expired"):
    """qmgr: a message is given up and returned to its sender."""

    queue_id: str
    sender: str
    status: str
    """`expired` or `force-expired`."""


class Delivery(Struct, gc=False, frozen=True, tag="delivery"):
    """A delivery agent: what became of a message for one recipient."""

    queue_id: str
    recipient: str
    original_recipient: str
    """Before aliases; empty if it is the same."""
    relay: str
    """As Postfix writes it: `mx.example.net[192.0.2.1]:25`, `none`, `local` …"""
    delay: float
    """Seconds since the message came."""
    dsn: str
    status: str
    """`sent`, `bounced`, `deferred`, `expired`, `deliverable`, `undeliverable` …"""
    text: str
    """Why, mostly in the words of the remote server."""


class RemoteSaid(Struct, gc=False, frozen=True, tag="remote_said"):
    """smtp: a server did not take the message, and another one is tried."""

    queue_id: str
    text: str


class ConnectFailed(Struct, gc=False, frozen=True, tag="connect_failed"):
    """smtp: no connection to a server."""

    relay: str
    reason: str


class Notified(Struct, gc=False, frozen=True, tag="notified"):
    """bounce: a notification about a message is queued as a new message."""

    queue_id: str
    what: str
    """`sender non-delivery`, `sender delay`, `sender delivery status`, `postmaster non-delivery` …"""
    notification_id: str


class QueueChanged(Struct, gc=False, frozen=True, tag="queue_changed"):
    """postsuper: what was done to a message by hand, or by our helper."""

    queue_id: str
    change: str
    """`placed on hold`, `released from hold`, `removed`, `requeued`, `expired`."""


class RateExceeded(Struct, gc=False, frozen=True, tag="rate_exceeded"):
    """smtpd: a limit of its own (anvil) was passed."""

    what: str
    """`Connection rate`, `Message delivery request rate` …"""
    count: int
    client_name: str
    client_address: str
    service: str


class Screened(Struct, gc=False, frozen=True, tag="screened"):
    """postscreen: what it found about a client."""

    event: str
    """`CONNECT`, `PASS NEW`, `PREGREET`, `DNSBL rank 5` …"""
    client_address: str


class Listed(Struct, gc=False, frozen=True, tag="listed"):
    """dnsblog: a client is on a list."""

    client_address: str
    domain: str
    value: str


class Warned(Struct, gc=False, frozen=True, tag="warned"):
    """Any daemon: a warning or an error."""

    level: str
    """`warning`, `error`, `fatal` or `panic`."""
    text: str
    queue_id: str = ""


class Noted(Struct, gc=False, frozen=True, tag="noted"):
    """Known, and of no further use: statistics, starts and stops."""

    what: str
    """`statistics`, `lifecycle`, `cache`, `detail`."""
    text: str


Message: TypeAlias = (
    Connected
    | Disconnected
    | ConnectionLost
    | Submitted
    | Action
    | LoginFailed
    | LoggedIn
    | LoginEnded
    | TlsEstablished
    | PickedUp
    | MessageId
    | Queued
    | Removed
    | Expired
    | Delivery
    | RemoteSaid
    | ConnectFailed
    | Notified
    | QueueChanged
    | RateExceeded
    | Screened
    | Listed
    | Warned
    | Noted
)


class Line(Struct, gc=False, frozen=True):
    """A line with its head."""

    time: float
    """Unix seconds."""
    host: str
    """Empty where the log names none (Dovecot's own file)."""
    service: str
    """What stands before the daemon: Postfix's syslog_name, `postfix/submission`; empty for other programs."""
    daemon: str
    """`smtpd`, `qmgr`, `dovecot` …"""
    pid: int
    """0: the log does not tell."""
    message: Message | None
    """None: not understood."""
    text: str
    """All after the head."""
    times: int = 1
    """How often the daemon said it after the line before: rsyslog may write what is repeated as one line."""
