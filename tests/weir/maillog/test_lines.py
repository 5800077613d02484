"""Lines: real ones of every daemon, and lines that others wrote to be taken for something else."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weir.maillog.lines import Parser
from weir.maillog.messages import (
    Action,
    Connected,
    ConnectFailed,
    ConnectionLost,
    Delivery,
    Disconnected,
    Expired,
    Line,
    Listed,
    LoggedIn,
    LoginEnded,
    LoginFailed,
    Message,
    MessageId,
    Noted,
    Notified,
    PickedUp,
    QueueChanged,
    Queued,
    RateExceeded,
    RemoteSaid,
    Removed,
    Screened,
    Submitted,
    TlsEstablished,
    Warned,
)

SAMPLES = Path(__file__).parent / "samples"
POSTFIX = ("mx1.maillog", "mx2.maillog", "mx3.maillog")
NOW = 1_795_600_000.0


def parsed(program: str, text: str) -> Line:
    line = Parser(lambda: NOW).parse(f"Nov 24 15:32:45 mx1 {program}[7]: {text}")
    assert line is not None
    assert line.text == text
    return line


def says(program: str, text: str) -> Message | None:
    return parsed(program, text).message


def sample(*names: str) -> list[Line | None]:
    parser = Parser(lambda: NOW)
    return [parser.parse(line) for name in names for line in (SAMPLES / name).read_bytes().splitlines()]


class TestSamples:
    """Postfix 3.7.11 and Dovecot 2.3.19.1 as they ran."""

    def test_every_line_of_postfix_is_understood(self) -> None:
        assert [line for line in sample(*POSTFIX) if line is None or line.message is None] == []

    def test_counts_are_those_of_the_text(self) -> None:
        found = Counter(type(line.message) for line in sample(*POSTFIX) if line)
        text = "".join((SAMPLES / name).read_text() for name in POSTFIX)
        assert found[Delivery] == text.count("status=")
        assert found[Removed] == text.count(": removed\n")
        assert found[Queued] == text.count("nrcpt=")
        assert found[Submitted] == text.count(": client=")
        assert found[LoginFailed] == text.count(" authentication failed") + text.count(" authentication aborted")
        assert found[PickedUp] == text.count(": uid=")
        assert found[MessageId] == text.count("message-id=")
        assert found[Connected] == text.count("]: connect from ")
        assert found[Disconnected] == text.count("]: disconnect from ")

    def test_dovecot(self) -> None:
        found = Counter(type(line.message) for line in sample("dovecot.log") if line)
        text = (SAMPLES / "dovecot.log").read_text()
        assert found[LoginFailed] == text.count("Password mismatch") + text.count("unknown user") > 0


class TestPrograms:
    @pytest.mark.parametrize(
        ("program", "service", "daemon"),
        [
            ("postfix/qmgr", "postfix", "qmgr"),
            ("postfix-out/qmgr", "postfix-out", "qmgr"),
            ("postfix/submission/qmgr", "postfix/submission", "qmgr"),
            ("mx1/qmgr", "mx1", "qmgr"),
        ],
    )
    def test_any_instance_and_syslog_name(self, program: str, service: str, daemon: str) -> None:
        line = parsed(program, "4jYmyW0Nsyz1SWGt: removed")
        assert (line.service, line.daemon, line.message) == (service, daemon, Removed("4jYmyW0Nsyz1SWGt"))

    @pytest.mark.parametrize("program", ["qmgr", "postfix/qmgr2", "qmgr/cron", "postfix/smtp"])
    def test_another_program_says_something_else(self, program: str) -> None:
        assert says(program, "4jYmyW0Nsyz1SWGt: removed") is None

    @pytest.mark.parametrize("daemon", ["smtpd", "qmgr", "cleanup", "tlsmgr", "trivial-rewrite", "postdrop", "pipe"])
    def test_warnings_of_all_daemons(self, daemon: str) -> None:
        assert says(f"postfix/{daemon}", "warning: disk: full") == Warned("warning", "disk: full")


ID = "4jYmyW0Nsyz1SWGt"
SHORT = "3F1A2B4C5D"
REJECT = f"{ID}: reject: RCPT from unknown[192.0.2.1]:25: "
TO = f"{ID}: to=<x@dest.test>, relay=mx.dest.test[192.0.2.2]:25, delay=1.5, delays=0/0/0.1/1.4, "

LINES: list[tuple[str, str, Message]] = [
    ("smtpd", "connect from mail.example.net[2001:db8::1]", Connected("mail.example.net", "2001:db8::1")),
    (
        "smtpd",
        "disconnect from unknown[192.0.2.1] ehlo=1 auth=0/2 quit=1 commands=2/4",
        Disconnected("unknown", "192.0.2.1", "ehlo=1 auth=0/2 quit=1 commands=2/4"),
    ),
    (
        "smtpd",
        "lost connection after DATA (129 bytes) from unknown[192.0.2.1]:25",
        ConnectionLost("unknown", "192.0.2.1", "lost connection", "DATA (129 bytes)"),
    ),
    (
        "smtpd",
        f"{ID}: timeout after END-OF-MESSAGE from unknown[192.0.2.1]",
        ConnectionLost("unknown", "192.0.2.1", "timeout", "END-OF-MESSAGE", ID),
    ),
    ("smtpd", f"{SHORT}: client=unknown[192.0.2.1]", Submitted(SHORT, "unknown", "192.0.2.1")),
    (
        "smtpd",
        "NOQUEUE: client=unknown[192.0.2.1]:25, sasl_method=LOGIN, sasl_username=jane doe",
        Submitted("", "unknown", "192.0.2.1", "jane doe", "LOGIN"),
    ),
    (
        "smtpd",
        f"{ID}: client=localhost[127.0.0.1], orig_queue_id={SHORT}, orig_client=a.example[192.0.2.1]:4711",
        Submitted(ID, "localhost", "127.0.0.1", "", "", SHORT, "a.example[192.0.2.1]:4711"),
    ),
    (
        "smtpd",
        REJECT + "521 5.7.1 <y@dest.test>: Recipient address rejected: account blocked [weir messages_minute a1-b2]; "
        "from=<a@weir.test> to=<y@dest.test> proto=ESMTP helo=<client.test>",
        Action(
            ID,
            "reject",
            "RCPT",
            "unknown",
            "192.0.2.1",
            521,
            "5.7.1",
            "Recipient address rejected: account blocked [weir messages_minute a1-b2]",
            "a@weir.test",
            "y@dest.test",
            "client.test",
            "",
            "a1-b2",
        ),
    ),
    (
        "smtpd",
        "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 554 5.7.1 Service unavailable; Client host [192.0.2.1] "
        "blocked using "
        'zen.spamhaus.org; see https://check.test/; from=<"a b"@weir.test> to=<y@dest.test> proto=ESMTP '
        "helo=<[192.0.2.1]>",
        Action(
            "",
            "reject",
            "RCPT",
            "unknown",
            "192.0.2.1",
            554,
            "5.7.1",
            "Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; see https://check.test/",
            '"a b"@weir.test',
            "y@dest.test",
            "[192.0.2.1]",
        ),
    ),
    (
        "smtpd",
        "NOQUEUE: reject: RCPT from unknown[192.0.2.1]: 450 4.7.1 later; from=<a@weir.test> to=<y@dest.test> "
        "proto=ESMTP "
        "helo=<x> sasl_method=PLAIN sasl_username=a@weir.test",
        Action(
            "",
            "reject",
            "RCPT",
            "unknown",
            "192.0.2.1",
            450,
            "4.7.1",
            "later",
            "a@weir.test",
            "y@dest.test",
            "x",
            "a@weir.test",
        ),
    ),
    (
        "smtpd",
        "NOQUEUE: reject: CONNECT from unknown[192.0.2.1]: 554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: "
        "no; proto=SMTP",
        Action("", "reject", "CONNECT", "unknown", "192.0.2.1", 554, "5.7.1", "Client host rejected: no"),
    ),
    (
        "smtpd",
        f"proxy-accept: END-OF-MESSAGE from unknown[192.0.2.1]: 250 2.0.0 Ok: queued as {ID}; from=<a@weir.test> "
        "to=<y@dest.test> proto=ESMTP helo=<x>".join(("NOQUEUE: ", "")),
        Action(
            "",
            "proxy-accept",
            "END-OF-MESSAGE",
            "unknown",
            "192.0.2.1",
            250,
            "2.0.0",
            f"Ok: queued as {ID}",
            "a@weir.test",
            "y@dest.test",
            "x",
        ),
    ),
    (
        "smtpd",
        "warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
        LoginFailed("smtpd", "", "192.0.2.1", "LOGIN", "credentials"),
    ),
    (
        "smtpd",
        "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: Connection lost to authentication server, "
        "sasl_username=a@weir.test",
        LoginFailed("smtpd", "a@weir.test", "192.0.2.1", "PLAIN", "unavailable"),
    ),
    (
        "smtpd",
        "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: Invalid base64 data in initial response, "
        "sasl_username=of-the-try-before",
        LoginFailed("smtpd", "", "192.0.2.1", "PLAIN", "protocol"),
    ),
    (
        "smtpd",
        "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: (reason unavailable), "
        "sasl_username=(unavailable)",
        LoginFailed("smtpd", "", "192.0.2.1", "PLAIN", "credentials"),
    ),
    (
        "smtpd",
        "warning: Connection rate limit exceeded: 4 from unknown[192.0.2.1]:25 for service 192.0.2.9:587",
        RateExceeded("Connection rate", 4, "unknown", "192.0.2.1", "192.0.2.9:587"),
    ),
    (
        "smtpd",
        "Trusted TLS connection established from a.test[192.0.2.1]: TLSv1.2 with cipher ECDHE (256/256 bits)",
        TlsEstablished("Trusted", "a.test[192.0.2.1]", "TLSv1.2", "ECDHE"),
    ),
    ("postscreen", "CONNECT from [192.0.2.1]:4711 to [192.0.2.9]:25", Screened("CONNECT", "192.0.2.1")),
    ("postscreen", "PASS OLD [2001:db8::1]:4711", Screened("PASS OLD", "2001:db8::1")),
    ("postscreen", "DNSBL rank 7 for [192.0.2.1]:4711", Screened("DNSBL rank 7", "192.0.2.1")),
    (
        "postscreen",
        "HANGUP after 0.2 from [192.0.2.1]:4711 in tests after SMTP handshake",
        Screened("HANGUP", "192.0.2.1"),
    ),
    ("postscreen", "PREGREET 14 after 0.05 from [192.0.2.1]:4711: EHLO x\\r\\n", Screened("PREGREET 14", "192.0.2.1")),
    (
        "postscreen",
        "NOQUEUE: reject: RCPT from [192.0.2.1]:4711: 550 5.7.1 Service unavailable; client [192.0.2.1] blocked "
        "using bl.test; "
        "from=<a@b.test>, to=<y@dest.test>, proto=ESMTP, helo=<x>",
        Action(
            "",
            "reject",
            "RCPT",
            "",
            "192.0.2.1",
            550,
            "5.7.1",
            "Service unavailable; client [192.0.2.1] blocked using bl.test",
            "a@b.test",
            "y@dest.test",
            "x",
        ),
    ),
    ("dnsblog", "addr 192.0.2.1 listed by domain bl.test as 127.0.0.2", Listed("192.0.2.1", "bl.test", "127.0.0.2")),
    ("pickup", f"{ID}: uid=33 from=<www-data>", PickedUp(ID, 33, "www-data")),
    ("pickup", f"{ID}: uid=33 from=<> orig_id={SHORT}", PickedUp(ID, 33, "", SHORT)),
    ("cleanup", f"{ID}: message-id=<1@client.test>", MessageId(ID, "1@client.test")),
    ("cleanup", f"{ID}: resent-message-id=1@client.test", MessageId(ID, "1@client.test", True)),
    (
        "cleanup",
        f"{ID}: reject: header Subject: x: y from unknown[192.0.2.1]; from=<a@b.test> to=<c@d.test> proto=ESMTP "
        "helo=<x>: 5.7.1 no",
        Action(ID, "reject", "header"),
    ),
    (
        "cleanup",
        f"{ID}: milter-reject: END-OF-MESSAGE from unknown[192.0.2.1]: 5.7.1 Spam message rejected; "
        "from=<a@b.test> to=<c@d.test> "
        "proto=ESMTP helo=<x>",
        Action(
            ID,
            "milter-reject",
            "END-OF-MESSAGE",
            "unknown",
            "192.0.2.1",
            0,
            "5.7.1",
            "Spam message rejected",
            "a@b.test",
            "c@d.test",
            "x",
        ),
    ),
    ("qmgr", f"{ID}: from=<a@b.test>, size=333, nrcpt=2 (queue active)", Queued(ID, "a@b.test", 333, 2)),
    ("qmgr", f"{ID}: from=<a@b.test>, status=expired, returned to sender", Expired(ID, "a@b.test", "expired")),
    ("qmgr", f"{ID}: from=<>, status=force-expired, returned to sender", Expired(ID, "", "force-expired")),
    (
        "smtp",
        TO + "dsn=5.1.1, status=bounced (host mx.dest.test[192.0.2.2] said: 550 5.1.1 no (x) (in reply to RCPT TO "
        "command))",
        Delivery(
            ID,
            "x@dest.test",
            "",
            "mx.dest.test[192.0.2.2]:25",
            1.5,
            "5.1.1",
            "bounced",
            "host mx.dest.test[192.0.2.2] said: 550 5.1.1 no (x) (in reply to RCPT TO command)",
        ),
    ),
    (
        "smtp",
        TO.replace("delay=", "conn_use=3, delay=") + "tls=verified, dsn=2.0.0, status=sent (250 ok)",
        Delivery(ID, "x@dest.test", "", "mx.dest.test[192.0.2.2]:25", 1.5, "2.0.0", "sent", "250 ok"),
    ),
    (
        "lmtp",
        f'{ID}: to=<"a b"@dest.test>, orig_to=<root>, relay=dest.test[private/dovecot-lmtp], delay=0, '
        "delays=0/0/0/0, dsn=2.0.0, "
        "status=sent (250 2.0.0 <a> Saved)",
        Delivery(
            ID,
            '"a b"@dest.test',
            "root",
            "dest.test[private/dovecot-lmtp]",
            0.0,
            "2.0.0",
            "sent",
            "250 2.0.0 <a> Saved",
        ),
    ),
    (
        "local",
        f"{ID}: to=<|/usr/bin/list post>, relay=local, delay=2, delays=1/0/0/1, dsn=2.0.0, status=sent (forwarded "
        f"as {SHORT})",
        Delivery(ID, "|/usr/bin/list post", "", "local", 2.0, "2.0.0", "sent", f"forwarded as {SHORT}"),
    ),
    (
        "smtp",
        f"{ID}: host mx.dest.test[192.0.2.2] said: 451 later (in reply to RCPT TO command)",
        RemoteSaid(ID, "host mx.dest.test[192.0.2.2] said: 451 later (in reply to RCPT TO command)"),
    ),
    (
        "smtp",
        "connect to mx.dest.test[2001:db8::2]:25: Network is unreachable",
        ConnectFailed("mx.dest.test[2001:db8::2]:25", "Network is unreachable"),
    ),
    ("bounce", f"{ID}: sender non-delivery notification: {SHORT}", Notified(ID, "sender non-delivery", SHORT)),
    ("bounce", f"{ID}: sender delivery status notification: {SHORT}", Notified(ID, "sender delivery status", SHORT)),
    ("postsuper", f"{ID}: placed on hold", QueueChanged(ID, "placed on hold")),
    ("postsuper", f"{ID}: released from hold", QueueChanged(ID, "released from hold")),
    (
        "anvil",
        "statistics: max connection rate 1/60s for (smtp:192.0.2.1) at Nov 24 15:30:49",
        Noted("statistics", "max connection rate 1/60s for (smtp:192.0.2.1) at Nov 24 15:30:49"),
    ),
]


@pytest.mark.parametrize(("daemon", "text", "message"), LINES)
def test_lines_of_postfix(daemon: str, text: str, message: Message) -> None:
    assert says(f"postfix/{daemon}", text) == message


LOGINS: list[tuple[str, str, Message | None]] = [
    (
        "dovecot",
        "imap-login: Login: user=<a@weir.test>, method=PLAIN, rip=192.0.2.1, lip=192.0.2.9, mpid=17, TLS, "
        "session=<x+/1>",
        LoggedIn("imap-login", "a@weir.test", "192.0.2.1", "PLAIN"),
    ),
    (
        "dovecot",
        "imap-login: Logged in: user=<a@weir.test>, method=PLAIN, rip=2001:db8::1, lip=2001:db8::9, mpid=17, "
        "TLS, session=<x>",
        LoggedIn("imap-login", "a@weir.test", "2001:db8::1", "PLAIN"),
    ),
    (
        "dovecot",
        "pop3-login: Disconnected (auth failed, 3 attempts in 12 secs): user=<a>, method=PLAIN, rip=192.0.2.1, "
        "lip=192.0.2.9, "
        "TLS: Disconnected, session=<x>",
        LoginFailed("pop3-login", "a", "192.0.2.1", "PLAIN", "credentials", 3),
    ),
    (
        "dovecot",
        "imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs): user=<a>, "
        "method=LOGIN, rip=192.0.2.1, "
        "lip=192.0.2.9, session=<x>",
        LoginFailed("imap-login", "a", "192.0.2.1", "LOGIN", "credentials"),
    ),
    (
        "dovecot",
        "imap-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) (auth_failed): "
        "user=<a>, method=PLAIN, "
        "rip=192.0.2.1, lip=192.0.2.9, TLS, session=<x>",
        LoginFailed("imap-login", "a", "192.0.2.1", "PLAIN", "credentials"),
    ),
    (
        "dovecot",
        "imap-login: Disconnected (no auth attempts in 0 secs): user=<>, rip=192.0.2.1, lip=192.0.2.9, TLS "
        "handshaking, session=<x>",
        LoginEnded("imap-login", "", "192.0.2.1"),
    ),
    (
        "dovecot",
        "auth: passwd-file(a@weir.test,192.0.2.1): Password mismatch",
        LoginFailed("auth", "a@weir.test", "192.0.2.1", "passwd-file", "credentials"),
    ),
    (
        "dovecot",
        "auth-worker(17): conn unix:auth-worker (pid=16,uid=97): auth-worker<3>: sql(a,192.0.2.1,<x>): unknown user",
        LoginFailed("auth", "a", "192.0.2.1", "sql", "unknown user"),
    ),
    (
        "dovecot",
        "auth: sql(a,192.0.2.1): Password mismatch (given password: secret)",
        LoginFailed("auth", "a", "192.0.2.1", "sql", "credentials"),
    ),
    (
        "dovecot",
        "auth(a@weir.test,192.0.2.1,sasl:plain)<Cd5N/+1>: passwd-file: Password mismatch",
        LoginFailed("auth", "a@weir.test", "192.0.2.1", "passwd-file", "credentials"),
    ),
    (
        "dovecot",
        "auth-worker(a@weir.test)<11659>: request [1]: ldap: Password mismatch (for LDAP bind)",
        LoginFailed("auth", "a@weir.test", "", "ldap", "credentials"),
    ),
    (
        "dovecot",
        "auth-worker(a@weir.test,192.0.2.1)<11659>: request [24]: sql: unknown user",
        LoginFailed("auth", "a@weir.test", "192.0.2.1", "sql", "unknown user"),
    ),
    ("dovecot", "auth(a,192.0.2.1,sasl:plain)<x>: something else: unknown user", None),
    ("dovecot", "imap(a)<17><x>: Logged out in=1 out=2", Noted("detail", "")),
    ("dovecot", "auth: something else", None),
    (
        "saslauthd",
        "do_auth         : auth failure: [user=a] [service=smtp] [realm=weir.test] [mech=pam] [reason=PAM auth error]",
        LoginFailed("saslauthd", "a@weir.test", "", "pam", "credentials"),
    ),
    (
        "saslauthd",
        ": auth success: [user=a@weir.test] [service=smtp] [realm=] [mech=pam]",
        LoggedIn("saslauthd", "a@weir.test", "", "pam"),
    ),
]


@pytest.mark.parametrize(("program", "text", "message"), LOGINS)
def test_lines_of_others(program: str, text: str, message: Message | None) -> None:
    assert says(program, text) == message


def test_what_syslog_writes_once_for_many() -> None:
    said = "warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: UGFzc3dvcmQ6"
    line = parsed("postfix/smtpd", f"message repeated 3 times: [ {said}]")
    assert (line.message, line.times) == (says("postfix/smtpd", said), 3)
    assert says("postfix/smtpd", "message repeated 3 times: [ something new]") is None


class TestForged:
    """What a client or a remote server writes stays what it is."""

    def test_a_recipient_that_writes_its_own_success(self) -> None:
        forged = "a>, relay=none, delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (ok"
        real = "relay=mx.test[192.0.2.2]:25, delay=1, delays=0/0/0/1, dsn=5.1.1, status=bounced (no such user)"
        quoted = says("postfix/smtp", f'{ID}: to=<"{forged}"@dest.test>, {real}')
        assert isinstance(quoted, Delivery)
        assert (quoted.status, quoted.dsn, quoted.text) == ("bounced", "5.1.1", "no such user")
        assert says("postfix/smtp", f"{ID}: to=<{forged}@dest.test>, {real}") is None
        forged = "a>, relay=127.0.0.1[127.0.0.1]:10024, delay=0, delays=0/0/0/0, x="
        assert says("postfix/smtp", f"{ID}: to=<{forged}@dest.test>, {real}") is None

    def test_a_server_that_writes_another_status(self) -> None:
        text = "host x[192.0.2.2] said: 550 no), dsn=2.0.0, status=sent (250 ok"
        found = says("postfix/smtp", TO + f"dsn=5.0.0, status=bounced ({text})")
        assert isinstance(found, Delivery)
        assert (found.status, found.text) == ("bounced", text)

    def test_a_sender_that_writes_another_size(self) -> None:
        sender = '"a>, size=1, nrcpt=1 (queue active)"@b.test'
        found = says("postfix/qmgr", f"{ID}: from=<{sender}>, size=333, nrcpt=2 (queue active)")
        assert found == Queued(ID, sender, 333, 2)

    def test_a_sender_that_writes_another_queue_id(self) -> None:
        sender = f"a> orig_id={SHORT}"
        assert says("postfix/pickup", f"{ID}: uid=33 from=<{sender}>") == PickedUp(ID, 33, sender)

    def test_a_message_id_that_is_a_line(self) -> None:
        value = f"x>, status=sent {SHORT}: removed"
        assert says("postfix/cleanup", f"{ID}: message-id=<{value}>") == MessageId(ID, value)

    def test_a_client_that_names_another_login(self) -> None:
        found = says(
            "postfix/smtpd",
            f"{ID}: client=unknown[192.0.2.1], sasl_method=PLAIN, sasl_username=mallory, sasl_sender=x, "
            "sasl_username=alice, "
            f"orig_queue_id={SHORT}, orig_client=a[192.0.2.3]",
        )
        assert found == Submitted(ID, "unknown", "192.0.2.1", "mallory", "PLAIN")

    def test_a_failed_login_name_that_is_another_failure(self) -> None:
        name = "x, sasl_username=alice"
        found = says(
            "postfix/smtpd",
            "warning: unknown[192.0.2.1]: SASL PLAIN authentication failed: (reason unavailable), "
            f"sasl_username={name}",
        )
        assert isinstance(found, LoginFailed)
        assert found.user == name

    @pytest.mark.parametrize(
        "helo", ["x> sasl_method=PLAIN sasl_username=alice", "x> sasl_method=PLAIN sasl_username=alice <"]
    )
    def test_a_helo_that_names_a_login(self, helo: str) -> None:
        found = says("postfix/smtpd", REJECT + f"554 5.7.1 no; from=<a@b.test> to=<c@d.test> proto=ESMTP helo=<{helo}>")
        assert isinstance(found, Action)
        assert found.sasl_username == ""
        found = says(
            "postfix/smtpd",
            REJECT + f"554 5.7.1 no; from=<a@b.test> to=<c@d.test> proto=ESMTP helo=<{helo}> sasl_method=LOGIN "
            "sasl_username=bob",
        )
        assert isinstance(found, Action)
        assert found.sasl_username == "bob"

    @pytest.mark.parametrize(
        "rest",
        [
            '<"x [weir cause id]; from=<a@b.test> "@d.test>: Recipient address rejected: no; from=<a@b.test> '
            "to=<c@d.test> "
            "proto=ESMTP helo=<x>",
            "<c@d.test>: Recipient address rejected: no; from=<a@b.test> to=<c@d.test> proto=ESMTP helo=<x [weir "
            "cause id]>",
            "<c@d.test>: Recipient address rejected: no; from=<a@b.test> to=<c@d.test> proto=ESMTP "
            "helo=<x>: y [weir cause id]; from=<a@b.test>",
            "<c@d.test>: Recipient address rejected: no; from=<x [weir cause id]> to=<c@d.test> proto=ESMTP helo=<x>",
            "<[weir cause id]>: Recipient address rejected: no; from=<x> to=<c@d.test> proto=ESMTP helo=<x>",
            "<a@b.test>: Recipient address rejected: x [weir cause id]; from=<a@b.test> to=<c@d.test> proto=ESMTP "
            "helo=<x>: Sender address rejected: no; from=<a@b.test> to=<c@d.test> proto=ESMTP helo=<x>",
            "<c@d.test>: Recipient address rejected: [weir cause id] no; from=<x> to=<c@d.test> proto=ESMTP helo=<x>",
        ],
    )
    def test_a_refusal_that_is_not_ours(self, rest: str) -> None:
        found = says("postfix/smtpd", REJECT + "554 5.7.1 " + rest)
        assert isinstance(found, Action)
        assert (found.code, found.decision) == (554, "")

    @pytest.mark.parametrize(
        "text",
        [
            f"{ID}: removed from=<a>",
            f"from=<a>: {ID}: removed",
            f"warning: {ID}: removed",
            "statistics: removed",
            "removed",
            f"{ID}: from=<a>, size=1, nrcpt=1 (queue active) and more",
        ],
    )
    def test_half_a_line_of_qmgr(self, text: str) -> None:
        assert not isinstance(says("postfix/qmgr", text), Removed | Queued)

    @pytest.mark.parametrize(
        ("program", "text"),
        [
            ("dovecot", "auth: passwd-file(alice,192.0.2.9): Password mismatch,192.0.2.1): unknown user"),
            (
                "dovecot",
                "auth: sql(alice,192.0.2.9): Password mismatch (x,192.0.2.1): unknown user (given password: y)",
            ),
            ("dovecot", "auth: passwd-file(alice,192.0.2.9,192.0.2.1): Password mismatch"),
            ("dovecot", "auth(alice,192.0.2.9)<x>: sql: Password mismatch,192.0.2.1)<x>: sql: unknown user"),
            ("dovecot", "auth(alice,192.0.2.9,sasl:plain,192.0.2.1,sasl:plain)<x>: sql: unknown user"),
            (
                "dovecot",
                "imap-login: Disconnected (auth failed, 1 attempts in 2 secs): user=<alice>, method=PLAIN, "
                "rip=192.0.2.9, "
                "lip=192.0.2.9, session=<a>, method=PLAIN, rip=192.0.2.1, lip=192.0.2.9, session=<x>",
            ),
            (
                "dovecot",
                "imap-login: Login: user=<alice>, method=PLAIN, rip=192.0.2.9, TLS>, method=PLAIN, "
                "rip=192.0.2.1, session=<x>",
            ),
            (
                "dovecot",
                "imap-login: Login: user=<alice>, rip=192.0.2.9, lip=192.0.2.9, x: user=<b>, rip=192.0.2.1, "
                "session=<x>",
            ),
            (
                "saslauthd",
                ": auth failure: [user=alice] [service=smtp] [realm=] [mech=pam] [service=smtp] [realm=] [mech=pam]",
            ),
        ],
    )
    def test_a_login_name_that_is_the_rest_of_the_line(self, program: str, text: str) -> None:
        assert not isinstance(says(program, text), LoginFailed | LoggedIn)


REAL = [line for name in (*POSTFIX, "dovecot.log") for line in (SAMPLES / name).read_bytes().splitlines()] + [
    f"Nov 24 15:32:45 mx1 {program}[7]: {text}".encode()
    for program, text in [*((f"postfix/{one[0]}", one[1]) for one in LINES), *((one[0], one[1]) for one in LOGINS)]
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real line with pieces of others, of itself, or of anything in it."""
    line = draw(st.sampled_from(REAL))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(line)))
        end = draw(st.integers(start, len(line)))
        other = draw(st.sampled_from(REAL))
        piece = draw(
            st.binary(max_size=20)
            | st.integers(0, len(other)).map(lambda cut, other=other: other[cut:])  # type: ignore[misc]
            | st.sampled_from([b"<", b">", b'"', b"\\", b": ", b", ", b"[", b"]", b"(", b")", b"\xff", b"\0", b"\n"])
        )
        line = line[:start] + piece + line[end:]
    return line


@given(mutated() | st.binary())
@example(b"")
def test_no_line_raises(line: bytes) -> None:
    Parser(lambda: NOW).parse(line)


PIECES = (*'<"\\=([', "a, ", ": ", "; ", "<>: ", "; from=<", ", a=b", ">, ", " a=1", "0/", " to=<", '"<', ", x=")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "program",
    [
        *("dovecot", "saslauthd"),
        *(f"postfix/{name}" for name in ("smtpd", "smtp", "qmgr", "cleanup", "pickup", "postscreen", "bounce")),
    ],
)
def test_no_line_hangs(program: str) -> None:
    """Lines of 16 KiB, the longest that are read: beginnings of real ones with one piece again and again."""
    parser = Parser(lambda: NOW)
    for start in {text[: len(text) // 2] for _, text, _ in [*LINES, *LOGINS]}:
        for piece in PIECES:
            parser.parse(f"Nov 24 15:32:45 mx1 {program}[7]: {start}{piece * (16384 // len(piece))}")
