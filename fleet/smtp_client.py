"""A submission client: one SMTP session of one user from one source address.

What the server answers, and that it ends the session, is a value here, never an exception.
"""

import base64
import smtplib
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

Stage = Literal["connect", "auth", "mail", "rcpt", "data", "end_of_message"]

NO_REPLY = 0
TIMEOUT_SECONDS = 30.0
ENDING_CODES = frozenset({421, 521})


class Answer(NamedTuple):
    """What became of a message: the server's last reply and the stage it came at.

    `code` is NO_REPLY if the connection failed or ended without one; then `text` is the error.
    """

    code: int
    text: str
    stage: Stage

    @property
    def accepted(self) -> bool:
        return self.stage == "end_of_message" and 200 <= self.code < 300


class Session:
    """An authenticated session for many messages, for one thread; leaving its `with` block ends it with QUIT.

    `open` tells whether the server still takes mail on it; if not, `last` says why, and send() only repeats that.
    """

    def __init__(self, host: str, port: int, source_address: str, username: str, password: str) -> None:
        self.open = False
        self.last = Answer(NO_REPLY, "not connected", "connect")
        self._server = (host, port)
        self._source_address = source_address
        self._credentials = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
        # A name of our own for EHLO: the default one would ask the DNS.
        self._smtp = smtplib.SMTP(timeout=TIMEOUT_SECONDS, local_hostname="client.test")

    def __enter__(self) -> Self:
        self._connect()
        return self

    def __exit__(self, *raised: object) -> None:
        if self.open:
            self._command("connect", "QUIT")
        self._close()

    def send(self, sender: str, recipients: Sequence[str], subject: str = "", body: str = "") -> Answer:
        """Send one message; returns the reply to its end, or the first refusal, after which it is given up."""
        if not self.open:
            return self.last
        answer = self._command("mail", f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            if answer.code == 250:
                answer = self._command("rcpt", f"RCPT TO:<{recipient}>")
        if answer.code == 250:
            answer = self._command("data", "DATA")
        if answer.code == 354:
            answer = self._content(sender, recipients, subject, body)
        elif self.open:
            self._command("mail", "RSET")
        self.last = answer
        return answer

    def _connect(self) -> None:
        try:
            code, text = self._smtp.connect(*self._server, source_address=(self._source_address, 0))
        except (OSError, smtplib.SMTPException) as error:
            self.last = self._ended(error, "connect")
            return
        self.open = True
        self.last = self._reply(code, text, "connect")
        if code == 220:
            self.last = self._command("connect", "EHLO client.test")
        if self.last.code == 250:
            self.last = self._command("auth", f"AUTH PLAIN {self._credentials}")
        if self.last.code != 235:
            self._close()

    def _content(self, sender: str, recipients: Sequence[str], subject: str, body: str) -> Answer:
        headers = f"From: <{sender}>\nTo: {', '.join(f'<{recipient}>' for recipient in recipients)}\n"
        text = f"{headers}Subject: {subject}\n\n{body}\n"
        lines = ("." + line if line.startswith(".") else line for line in text.splitlines())
        try:
            self._smtp.send("".join(f"{line}\r\n" for line in lines).encode() + b".\r\n")
            return self._reply(*self._smtp.getreply(), "end_of_message")
        except (OSError, smtplib.SMTPException) as error:
            return self._ended(error, "end_of_message")

    def _command(self, stage: Stage, command: str) -> Answer:
        try:
            return self._reply(*self._smtp.docmd(command), stage)
        except (OSError, smtplib.SMTPException) as error:
            return self._ended(error, stage)

    def _reply(self, code: int, text: bytes, stage: Stage) -> Answer:
        if code in ENDING_CODES:
            self._close()
        return Answer(code, text.decode(errors="replace"), stage)

    def _ended(self, error: Exception, stage: Stage) -> Answer:
        self._close()
        return Answer(NO_REPLY, str(error), stage)

    def _close(self) -> None:
        self.open = False
        self._smtp.close()
