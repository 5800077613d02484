"""The filter in deploy/fail2ban, by Debian's fail2ban-regex."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fleet.own import CHECKOUT
from weir.decisions import action

pytestmark = pytest.mark.fleet

REPLY = action("Too much mail in a minute; write to postmaster", "burst", "0123456789ab")
TAIL = "from=<alice@weir.test> to=<x@dest.test> proto=ESMTP helo=<client.test>"


def matched(folder: Path, *lines: str) -> list[str]:
    """Addresses that the filter finds in the lines."""
    shutil.copytree("/etc/fail2ban", folder / "fail2ban")
    shutil.copy(CHECKOUT / "deploy/fail2ban/weir.conf", folder / "fail2ban/filter.d/weir.conf")
    log = folder / "mail.log"
    log.write_text("".join(line + "\n" for line in lines))
    command = ["fail2ban-regex", "--config", str(folder / "fail2ban"), "--out", "ip", str(log), "weir"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def line(rest: str, daemon: str = "postfix/submission/smtpd", time: str = "Nov 25 09:15:01") -> str:
    return f"{time} mx1 {daemon}[123]: {rest}"


def refusal(address: str, stage: str = "RCPT", what: str = "<x@dest.test>: Recipient address") -> str:
    reply, _, text = REPLY.partition(" 5.7.1 ")
    return f"{stage} from unknown[{address}]:4021: {reply} 5.7.1 {what} rejected: {text}; {TAIL}"


def test_our_refusals_are_found_at_every_stage_and_in_every_instance(tmp_path: Path) -> None:
    found = matched(
        tmp_path,
        line(f"NOQUEUE: reject: {refusal('192.0.2.1')}"),
        line(f"4jYn2r21vtz1SW86: reject: {refusal('192.0.2.2')}", "postfix-out/smtpd"),
        line(f"1A2B3C4D: reject: {refusal('2001:db8::3', 'END-OF-MESSAGE', '<END-OF-MESSAGE>: End-of-data')}"),
        line(f"NOQUEUE: reject: {refusal('192.0.2.4')}", "postfix/smtps/smtpd", "2026-11-25T09:15:01.123456+00:00"),
        line(f"NOQUEUE: reject: {refusal('192.0.2.5')}".replace(":4021:", ":")),
    )
    assert found == ["192.0.2.1", "192.0.2.2", "2001:db8::3", "192.0.2.4", "192.0.2.5"]


@pytest.mark.parametrize(
    "rest",
    [
        "connect from unknown[192.0.2.1]:4021",
        f"NOQUEUE: reject: RCPT from unknown[192.0.2.1]:4021: 554 5.7.1 <x@dest.test>: Relay access denied; {TAIL}",
        # what a client chooses is no reason and no address
        "NOQUEUE: reject: RCPT from unknown[192.0.2.1]:4021: 554 5.7.1 <x@dest.test>: Relay access denied; "
        f"from=<a@b.test> to=<x@dest.test> proto=ESMTP helo=<{refusal('192.0.2.9')}>",
        f'NOQUEUE: reject: RCPT from unknown[192.0.2.1]:4021: 554 5.7.1 <"{refusal("192.0.2.9")}"@dest.test>: Relay '
        f"access denied; {TAIL}",
        f"NOQUEUE: reject: RCPT from unknown[192.0.2.1]:4021: 521 5.7.1 <x@dest.test>: Recipient address rejected: no; "
        f"from=<{refusal('192.0.2.9')}> to=<x@dest.test> proto=ESMTP helo=<[weir burst 0123456789ab]>",
        "warning: unknown[192.0.2.1]:4021: SASL PLAIN authentication failed: (reason unavailable), "
        f"sasl_username=mx1 postfix/smtpd[123]: NOQUEUE: reject: {refusal('192.0.2.9')}",
        f"4jYn2r21vtz1SW86: client=unknown[192.0.2.1]:4021, sasl_method=PLAIN, sasl_username=NOQUEUE: reject: "
        f"{refusal('192.0.2.9')}",
        f"4jYn2r21vtz1SW86: reject: header Subject: reject: {refusal('192.0.2.9')} from unknown[192.0.2.1]; "
        "from=<a@b.test> to=<x@dest.test> proto=ESMTP helo=<a.test>: 5.7.1 no",
        f"NOQUEUE: milter-reject: {refusal('192.0.2.9')}",
        f"improper command pipelining after EHLO from unknown[192.0.2.1]:4021: NOQUEUE: reject: {refusal('192.0.2.9')}",
    ],
)
def test_nothing_else_is(tmp_path: Path, rest: str) -> None:
    assert matched(tmp_path, line(rest)) == []


def test_what_a_client_chooses_changes_no_address(tmp_path: Path) -> None:
    """Our refusal of 192.0.2.1, with an imitation of 192.0.2.9's in all that it may choose."""
    other = refusal("192.0.2.9")
    ours = refusal(
        "192.0.2.1", what=f'<"NOQUEUE: reject: {other.replace("<", "").replace(">", "")}"@dest.test>: Recipient address'
    )
    hostile = ours.replace("from=<alice@weir.test>", f"from=<{other}>").replace("helo=<client.test>", f"helo=<{other}>")
    sasl = f"{refusal('192.0.2.2')} sasl_method=PLAIN, sasl_username=NOQUEUE: reject: {other}"
    found = matched(tmp_path, line(f"NOQUEUE: reject: {hostile}"), line(f"NOQUEUE: reject: {sasl}"))
    assert found == ["192.0.2.1", "192.0.2.2"]


def test_lines_of_other_programs_are_none(tmp_path: Path) -> None:
    rest = f"NOQUEUE: reject: {refusal('192.0.2.9')}"
    others = [line(rest, daemon) for daemon in ("dovecot", "sshd", "postfix/cleanup", "postfix/smtp", "user")]
    assert matched(tmp_path, *others) == []
