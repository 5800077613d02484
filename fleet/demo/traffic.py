"""Who sends what in the demo: people's usual mail, a newsletter, and a stolen login used from many addresses.

Invariants: all that was sent, with the server's answer, stands in the ledger; all is bounded in count and time.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from fleet.postfix import PostfixHost
from fleet.smtp_client import Answer, Session

DOMAIN = "weir.test"
VICTIM = f"alice@{DOMAIN}"
NEWSLETTER = f"news@{DOMAIN}"
GONE = "gone.test"
"""Nobody has an address there any more: stolen logins send to lists that are old."""
PEOPLE = tuple(f"user{number:02}@{DOMAIN}" for number in range(1, 29))
ACCOUNTS = (*PEOPLE, NEWSLETTER, VICTIM)
ATTACKERS = tuple(f"127.0.50.{number}" for number in range(1, 41))
NEWSLETTER_CLIENT = "127.0.60.1"
PASSWORDS = {account: f"pw-{account.partition('@')[0]}" for account in ACCOUNTS}

MESSAGES_PER_SESSION = 5
ATTACK_SECONDS = 30.0
ATTACK_MESSAGES = 2000


class Sent(NamedTuple):
    time: float
    """When the answer was there, Unix seconds."""
    account: str
    client: str
    host: str
    answer: Answer


class Ledger:
    """What was sent and answered, from many threads."""

    def __init__(self) -> None:
        self.entries: list[Sent] = []
        self.accepted: Counter[tuple[str, str]] = Counter()
        """Messages by account and host."""
        self.refused: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def add(self, account: str, client: str, host: str, answer: Answer) -> None:
        with self._lock:
            self.entries.append(Sent(time.time(), account, client, host, answer))
            (self.accepted if answer.accepted else self.refused)[account, host] += 1


class Traffic:
    """The senders' threads; each picks its hosts and moments from a seeded generator."""

    def __init__(self, hosts: Sequence[PostfixHost], seed: int) -> None:
        self.ledger = Ledger()
        self._hosts = hosts
        self._seed = seed
        self._over = threading.Event()

    @contextmanager
    def usual_mail(self, mean_pause: float, newsletter_pause: float) -> Iterator[None]:
        """People and the newsletter send in the background until the block ends; pauses in seconds."""
        threads = [
            threading.Thread(target=self._person, args=(account, number, mean_pause))
            for number, account in enumerate((*PEOPLE, VICTIM), 1)
        ]
        threads.append(threading.Thread(target=self._newsletter, args=(newsletter_pause,)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def attack(self) -> None:
        """Use the stolen login from all addresses through all hosts, until each address was refused on each host."""
        deadline = time.monotonic() + ATTACK_SECONDS
        threads = [threading.Thread(target=self._attacker, args=(client, deadline)) for client in ATTACKERS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def send_one(self, account: str, client: str, host: PostfixHost) -> Answer:
        """One session with one message."""
        with Session(host.address, host.port, client, account, PASSWORDS[account]) as session:
            answer = session.send(account, [f"someone@{DOMAIN}"], "Hello", "How are you?")
        self.ledger.add(account, client, host.name, answer)
        return answer

    def _person(self, account: str, number: int, mean_pause: float) -> None:
        generator = random.Random(f"{self._seed} {account}")
        client = f"127.0.40.{number}"
        while not self._over.wait(generator.uniform(0.2, 2.0) * mean_pause):
            if account == VICTIM and self.ledger.refused[account, self._hosts[0].name]:
                return  # the owner of the stolen login waits for the abuse desk
            self.send_one(account, client, generator.choice(self._hosts))

    def _newsletter(self, pause: float) -> None:
        """One mailer that goes round the hosts, with some messages in each session."""
        turn = 0
        while not self._over.is_set():
            host = self._hosts[turn % len(self._hosts)]
            turn += 1
            with Session(host.address, host.port, NEWSLETTER_CLIENT, NEWSLETTER, PASSWORDS[NEWSLETTER]) as session:
                for number in range(MESSAGES_PER_SESSION):
                    answer = session.send(NEWSLETTER, [f"reader{number}@{DOMAIN}"], "News", "The news of the month.")
                    self.ledger.add(NEWSLETTER, NEWSLETTER_CLIENT, host.name, answer)
                    if not session.open or self._over.wait(pause):
                        break

    def _attacker(self, client: str, deadline: float) -> None:
        """One address: goes round the hosts, and leaves a host when it was refused there."""
        left = list(self._hosts)
        random.Random(f"{self._seed} {client}").shuffle(left)
        while left and time.monotonic() < deadline and len(self.ledger.entries) < ATTACK_MESSAGES:
            host = left.pop(0)
            with Session(host.address, host.port, client, VICTIM, PASSWORDS[VICTIM]) as session:
                for number in range(MESSAGES_PER_SESSION):
                    domain = DOMAIN if number else GONE
                    answer = session.send(VICTIM, [f"victim{number}@{domain}"], "You won", "Click here.")
                    self.ledger.add(VICTIM, client, host.name, answer)
                    if not answer.accepted:
                        break
                else:
                    left.append(host)  # not refused yet: come again
