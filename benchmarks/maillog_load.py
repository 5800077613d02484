"""A mail log made up: the lines of many messages, mixed as those of a busy host are, in each form of head."""

import itertools
import json
import random
import time
from collections.abc import Iterable, Iterator

ACCOUNTS = 2000
CONCURRENT = 50
"""Messages whose lines are mixed."""
_LETTERS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
_BOOT = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
_REFUSALS = (
    "550 5.1.1 <{}>: Recipient address rejected: User unknown in relay recipient table (in reply to RCPT TO command)",
    "550-5.1.1 The email account that you tried to reach does not exist. Please try 550-5.1.1 double-checking the "
    "recipient's email address for typos or 550 5.1.1 unnecessary spaces. {} - gsmtp (in reply to RCPT TO command)",
    "552 5.2.2 <{}>: user is over quota (in reply to end of DATA command)",
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org "
    "(in reply to RCPT TO command)",
)

Said = tuple[str, int, str]
"""Program, process id, text."""


def queue_id(number: int) -> str:
    """A long queue id."""
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(_LETTERS))
        digits.append(_LETTERS[digit])
    return f"4j{''.join(digits)}z1SW"


def message(number: int, chance: random.Random) -> Iterator[Said]:
    """All that is logged of one message, one session each."""
    account = number * 7919 % ACCOUNTS
    user, own, pid = f"user{account}@customer{account % 97}.example", queue_id(number), 20000 + number % 100
    client = f"dsl-{account}.provider.example[198.51.{account % 100}.{account % 250}]:{10000 + number % 50000}"
    smtpd = "postfix/submission/smtpd", pid
    yield *smtpd, f"connect from {client}"
    if number % 3 == 0:
        cipher = "TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature ECDSA (prime256v1)"
        yield *smtpd, f"Anonymous TLS connection established from {client}: TLSv1.3 with cipher {cipher}"
    if number % 50 == 0:
        failed = "SASL PLAIN authentication failed: (reason unavailable)"
        yield *smtpd, f"warning: {client}: {failed}, sasl_username={user}"
    yield *smtpd, f"{own}: client={client}, sasl_method=PLAIN, sasl_username={user}"
    yield "postfix/cleanup", 301, f"{own}: message-id=<{number:012x}.{account}@mail.customer{account % 97}.example>"
    recipients = 1 + (number % 10 == 0) * 2
    yield "postfix/qmgr", 302, f"{own}: from=<{user}>, size={2000 + number % 90000}, nrcpt={recipients} (queue active)"
    yield *smtpd, f"disconnect from {client} ehlo=2 starttls=1 auth=1 mail=1 rcpt={recipients} data=1 quit=1 commands=8"
    for copy in range(recipients):
        to = f"someone{number % 5000 + copy}@other{number % 300}.example"
        relay = f"mx{number % 5}.other{number % 300}.example[203.0.113.{number % 250}]:25"
        said = f"250 2.0.0 Ok: queued as {queue_id(number ^ 0x5555)}"
        result = f"dsn=2.0.0, status=sent ({said})"
        if chance.random() < 0.05:
            text = _REFUSALS[number % len(_REFUSALS)].format(to)
            result = f"dsn=5.1.1, status=bounced (host {relay.removesuffix(':25')} said: {text})"
        delays = f"delay={number % 30 / 10}, delays=0.1/0/0.2/{number % 27 / 10}"
        yield "postfix/smtp", 400 + number % 50, f"{own}: to=<{to}>, relay={relay}, {delays}, {result}"
    yield "postfix/qmgr", 302, f"{own}: removed"


def mixed(messages: int, first: int = 0) -> Iterator[Said]:
    """The lines of so many messages, those of some dozen at a time mixed; a message's own stay in order."""
    chance = random.Random(first)
    running: list[Iterator[Said]] = []
    numbers = iter(range(first, first + messages))
    while True:
        running += [message(number, chance) for number in itertools.islice(numbers, CONCURRENT - len(running))]
        if not running:
            return
        one = chance.choice(running)
        line = next(one, None)
        if line is None:
            running.remove(one)
        else:
            yield line


def classic(said: Iterable[Said], since: float, rate: int = 1000) -> Iterator[bytes]:
    """With heads of RFC 3164, `rate` lines a second."""
    for number, (program, pid, text) in enumerate(said):
        if number % rate == 0:
            stamp = time.strftime("%b %e %H:%M:%S", time.localtime(since + number // rate))
        yield f"{stamp} mx1 {program}[{pid}]: {text}\n".encode()


def precise(said: Iterable[Said], since: float, rate: int = 1000) -> Iterator[bytes]:
    """With heads of RFC 3339."""
    for number, (program, pid, text) in enumerate(said):
        if number % rate == 0:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since + number // rate))
        yield f"{stamp}.{number % rate * 1_000_000 // rate:06}+00:00 mx1 {program}[{pid}]: {text}\n".encode()


def journal(said: Iterable[Said], since: float, rate: int = 1000) -> Iterator[bytes]:
    """As `journalctl -o json` has them."""
    for number, (program, pid, text) in enumerate(said):
        moment = str(int((since + number / rate) * 1e6))
        entry = {
            "__CURSOR": f"s=0639a5b4c5ad4a1b9d4c4f1c8f7a9f39;i={number:x};b={_BOOT};m={number:x}",
            "__REALTIME_TIMESTAMP": moment,
            "_BOOT_ID": _BOOT,
            "_TRANSPORT": "syslog",
            "PRIORITY": "6",
            "SYSLOG_FACILITY": "2",
            "SYSLOG_IDENTIFIER": program,
            "SYSLOG_PID": str(pid),
            "_PID": str(pid),
            "_UID": "101",
            "_COMM": program.rpartition("/")[2],
            "_SYSTEMD_UNIT": "postfix@-.service",
            "_HOSTNAME": "mx1",
            "MESSAGE": text,
        }
        yield json.dumps(entry).encode() + b"\n"
