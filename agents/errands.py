"""What rules have done elsewhere: other policy servers that are asked, mails that are sent.

Invariants: nothing here makes the event loop wait; whatever goes wrong is logged and passed over; what a client sent is
never an option of a program nor a line of its own in a mail or a request.
"""

import asyncio
import queue
import subprocess
import threading

import structlog

from weir.rules.needs import Ask, Mail

ASK_SECONDS = 9.0
"""For the whole of a question to another policy server; postfwd gives the connection so long."""
MAIL_SECONDS = 30.0
"""For each step of sending a mail."""
MAILS = 100
"""That wait to be sent; one more is dropped and logged."""
_MAX_REPLY = 4096
_SMTP_PORT = 25

log = structlog.get_logger(__name__)


async def ask(question: Ask) -> str | None:
    """The action that the other policy server replies, or None."""
    place = f"{question.address}:{question.port}"
    lines = "".join(f"{name}={value}\n" for name, value in question.attributes.items())
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_connection(question.address, question.port, limit=_MAX_REPLY)
            try:
                writer.write(lines.encode(errors="replace") + b"\n")
                answer = await reader.readuntil(b"\n")
            finally:
                writer.close()
    except (OSError, EOFError, asyncio.LimitOverrunError) as error:  # a time-out is an OSError
        log.warning("policy server cannot be asked", server=place, error=str(error) or type(error).__name__)
        return None
    name, _, action = answer.decode(errors="replace").rstrip("\r\n").partition("=")
    if name != "action":
        log.warning("policy server gave no action", server=place)
        return None
    return action


class Post:
    """Sends mails, one after the other, in a thread that the first one starts."""

    def __init__(self) -> None:
        self._mails: queue.Queue[Mail] = queue.Queue(MAILS)
        self._thread: threading.Thread | None = None

    def send(self, mail: Mail) -> None:
        """Take it over, at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="post", daemon=True)
            self._thread.start()
        try:
            self._mails.put_nowait(mail)
        except queue.Full:
            log.error("mail dropped: too many wait to be sent", recipient=mail.recipient)

    def _work(self) -> None:
        while True:
            mail = self._mails.get()
            try:
                if mail.path:
                    _by_program(mail)
                else:
                    _by_smtp(mail)
            except Exception as error:  # whatever it is, the next one may go
                log.error("mail not sent", recipient=mail.recipient, error=str(error))
            else:
                log.info("mail sent", sender=mail.sender, recipient=mail.recipient)


def _by_program(mail: Mail) -> None:
    subprocess.run(
        [mail.path, "-i", "-f", mail.sender, "--", mail.recipient],
        input=_text(mail),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=MAIL_SECONDS,
        check=True,
    )


def _by_smtp(mail: Mail) -> None:
    import smtplib  # the library of mail is large, and few rules send any

    host, _, port = mail.server.partition(":")
    with smtplib.SMTP(host, int(port or _SMTP_PORT), mail.helo or None, MAIL_SECONDS) as connection:
        connection.sendmail(mail.sender, [mail.recipient], _text(mail).replace(b"\n", b"\r\n"))


def _text(mail: Mail) -> bytes:
    heads = {"From": mail.sender, "To": mail.recipient, "Subject": mail.subject}
    lines = [f"{name}: {' '.join(value.split())}" for name, value in heads.items()]
    return "\n".join([*lines, "", mail.body, ""]).encode(errors="replace")
