"""A load on agents whose truth is known: smtpds that send messages and write down what they asked and were answered.

Invariants
- The truth is a file of JSON lines, one for each time that a request was sent (`Asked`), written when it was answered
  or its connection had failed; nobody else writes it.
- An smtpd does as Postfix's does: one connection, one request at a time, a failed one is tried once more a second later
  on a new connection, and then the message goes on without an answer (`default_action=DUNNO`).
- Who sends what follows from the seed; when, from the rate and the answers.
"""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from fleet.policy_client import PolicyClient, new_instance
from weir import subjects

TRIES = 2
RETRY_SECONDS = 1.0
REPLY_SECONDS = 10.0
RCPT = "RCPT"
END_OF_MESSAGE = "END-OF-MESSAGE"


class Asked(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of the truth: a request that was sent, and what came of it. Times are Unix seconds."""

    host: str
    account: str
    client: str
    instance: str
    state: str
    recipient: str = ""
    """At RCPT; each recipient of a message is another."""
    recipients: int = 0
    """At END-OF-MESSAGE, of the whole message; so is `size`."""
    size: int = 0
    sent: float
    answered: float = 0.0
    action: str = ""
    """Empty if there was no answer."""
    error: str = ""
    """Why there was none: the agent may have judged and counted the request, or not."""

    @property
    def accepted(self) -> bool:
        return self.action == "DUNNO"


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Asked] = msgspec.json.Decoder(Asked)


class Truth:
    """The file, written by all smtpds of a run; leaving its `with` block closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def write(self, asked: Asked) -> None:
        with self._lock:
            self._file.write(_encoder.encode(asked) + b"\n")

    def read(self) -> list[Asked]:
        """All lines so far."""
        with self._lock:
            self._file.flush()
        return _decoder.decode_lines(self._path.read_bytes())


class Smtpd:
    """One smtpd of a mail host; for one thread. Leaving its `with` block closes the connection."""

    def __init__(self, host: str, policy_socket: Path, truth: Truth) -> None:
        self.host = host
        self._socket = policy_socket
        self._truth = truth
        self._connection: PolicyClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def send(self, account: str, client: str, recipients: int = 1, size: int = 1000) -> str:
        """Send one message; returns the action that refused it, else the last one ("" if that was no answer)."""
        instance = new_instance()
        action = ""
        for number in range(recipients):
            action = self._ask(account, client, instance, RCPT, recipient=f"r{number}@dest.test")
            if action not in ("", "DUNNO"):
                return action
        return self._ask(account, client, instance, END_OF_MESSAGE, recipients=recipients, size=size)

    def try_recipient(self, account: str, client: str) -> str:
        """Ask about one recipient of a new message that is then given up; returns the action."""
        return self._ask(account, client, new_instance(), RCPT, recipient="r0@dest.test")

    def _ask(
        self,
        account: str,
        client: str,
        instance: str,
        state: str,
        recipient: str = "",
        recipients: int = 0,
        size: int = 0,
    ) -> str:
        for attempt in range(TRIES):
            asked = Asked(
                host=self.host,
                account=account,
                client=client,
                instance=instance,
                state=state,
                recipient=recipient,
                recipients=recipients,
                size=size,
                sent=time.time(),
            )
            try:
                asked.action = self._answer(asked)
                asked.answered = time.time()
            except OSError as error:
                asked.error = repr(error)
                self._close()
            self._truth.write(asked)
            if asked.answered:
                return asked.action
            if attempt + 1 < TRIES:
                time.sleep(RETRY_SECONDS)
        return ""

    def _answer(self, asked: Asked) -> str:
        if self._connection is None:
            self._connection = PolicyClient(self._socket, REPLY_SECONDS)
        who = asked.account, asked.client, asked.instance
        if asked.state == RCPT:
            return self._connection.at_recipient(*who, asked.recipient)
        return self._connection.at_end_of_message(*who, asked.recipients, asked.size)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Sender(NamedTuple):
    account: str
    client: str


def senders(number: int, realm: str, seed: int) -> list[Sender]:
    """Accounts of a realm with a client each; of every third one both subjects lie in one partition."""
    chosen = random.Random(f"{realm} {seed}")
    found = []
    for count in range(number):
        account = f"user{count}@{realm}"
        client = near(account, chosen) if count % 3 == 0 else address(chosen)
        found.append(Sender(account, client))
    return found


def near(account: str, chosen: random.Random) -> str:
    """A client whose subject lies in the partition of the account's."""
    partition = subjects.partition(subjects.sasl_username(account))
    while subjects.partition(subjects.client_address(client := address(chosen))) != partition:
        pass
    return client


def address(chosen: random.Random) -> str:
    """An address of 198.18.0.0/15, which is kept for measurements (RFC 2544)."""
    return f"198.{chosen.randint(18, 19)}.{chosen.randint(0, 255)}.{chosen.randint(1, 254)}"


@contextmanager
def load(
    sockets: Mapping[str, Path], truth: Truth, mail_of: list[Sender], seed: int, rate: float = 120.0, smtpds: int = 2
) -> Iterator[None]:
    """Send mail through all hosts (name → policy socket) as long as the block runs.

    `rate` is in messages a second over all hosts, each of 1 to 4 recipients; each host has `smtpds` connections.
    """
    ending = threading.Event()
    interval = len(sockets) * smtpds / rate
    threads = [
        threading.Thread(
            target=_send_until,
            args=(ending, Smtpd(host, path, truth), mail_of, random.Random(f"{seed} {host} {number}"), interval),
            name=f"smtpd {host} {number}",
        )
        for host, path in sockets.items()
        for number in range(smtpds)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join()


def _send_until(
    ending: threading.Event, smtpd: Smtpd, mail_of: list[Sender], chosen: random.Random, interval: float
) -> None:
    due = time.monotonic() + chosen.uniform(0, interval)
    with smtpd:
        while not ending.wait(max(0.0, due - time.monotonic())):
            sender = chosen.choice(mail_of)
            smtpd.send(sender.account, sender.client, chosen.randint(1, 4), chosen.randint(500, 50_000))
            due = max(due + interval * chosen.uniform(0.5, 1.5), time.monotonic() - 1.0)
