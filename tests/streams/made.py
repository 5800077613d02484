"""What the tests of streams are made of: subjects of one partition, envelopes, a partition, and the oracle."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from streams.brake import Brake
from streams.decide import Judge
from streams.partition import Partition, Totals
from weir import decisions, envelopes, subjects, tallies
from weir.decisions import Decision
from weir.operators import Operators
from weir.settings import Burst, Detectors, Settings, Thresholds
from weir.tallies import Tally

NOW = 1_800_000_000.0
PARTITION = 3


def of_partition(number: int, count: int, make: Callable[[int], str]) -> list[str]:
    """The first subjects that `make` makes for that partition."""
    found: list[str] = []
    candidate = 0
    while len(found) < count:
        subject = make(candidate)
        if subjects.partition(subject) == number:
            found.append(subject)
        candidate += 1
    return found


ACCOUNTS = of_partition(PARTITION, 5, lambda number: subjects.sasl_username(f"user{number}@example.org"))
CLIENTS = of_partition(PARTITION, 5, lambda number: subjects.client_address(f"198.51.{number >> 8}.{number & 255}"))


def settings(limits: Thresholds | None = None, **burst: object) -> Settings:
    """Settings with the same limits for accounts and clients."""
    if limits is not None:
        burst |= {"account": limits, "client": limits}
    return Settings(detectors=Detectors(burst=Burst(**burst)))  # type: ignore[arg-type]


def judge(made: Settings | None = None, operators: Operators | None = None, active: float = 1000.0) -> Judge:
    made = made or Settings()
    return Judge(made, operators or Operators(), Brake(made.brake), lambda: active)


def partition(by: Judge | None = None, totals: Totals | None = None) -> Partition:
    return Partition(PARTITION, by or judge(), totals or Totals())


def tally(seq: int, subject: str, time: float, messages: int = 1, recipients: int = 1, beside: str = "") -> Tally:
    return Tally(seq=seq, subject=subject, time=time, messages=messages, recipients=recipients, beside=beside)


def envelope(lines: Iterable[Tally], host: str = "mx1", epoch: str = "e1") -> bytes:
    return envelopes.encode(envelopes.head(host, epoch), map(tallies.encoder.encode, lines))


class Topic:
    """Weir.tallies and weir.windows as Kafka would hold them, and a worker that may die at any moment."""

    def __init__(self, said: Operators | None = None) -> None:
        self.judge = judge(operators=said)
        self.totals = Totals()
        self.envelopes: list[bytes] = []
        self.records: dict[bytes, bytes] = {}
        self.published: list[Decision] = []
        self.ended: list[bytes] = []
        """Keys of decisions that are removed."""
        self.start(NOW)

    def start(self, now: float) -> None:
        self.partition = Partition(PARTITION, self.judge, self.totals)
        self.partition.restore(self.records.items(), now)

    def send(self, *lines: Tally, host: str = "mx1") -> None:
        self.envelopes.append(envelope(lines, host))

    def count(self, now: float, most: int = 1000) -> None:
        for offset in range(self.partition.next, min(self.partition.next + most, len(self.envelopes))):
            self.partition.count(offset, self.envelopes[offset], now)

    def write(self) -> None:
        batch = self.partition.snapshot()
        for key, value in batch.records:
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value
        self.published += batch.decisions
        self.ended += batch.ended

    def step(self, now: float) -> None:
        self.count(now)
        self.write()


@dataclass(frozen=True)
class Mail:
    """One fact: what an event adds for a subject."""

    subject: str
    time: float
    messages: int = 1
    recipients: int = 1


@dataclass(frozen=True)
class Outcome:
    """The last decision about a subject."""

    cause: str
    id: str
    since: float
    until: float


def naive_sum(mails: Sequence[Mail], bucket: int, seconds: int) -> tuple[int, int]:
    """Messages and recipients in the window that ends with a bucket of five seconds."""
    end = (bucket + 1) * 5
    inside = [mail for mail in mails if end - seconds <= mail.time < end]
    return sum(mail.messages for mail in inside), sum(mail.recipients for mail in inside)


def naive_outcomes(mails: Sequence[Mail], limits: Thresholds, block_seconds: int, now: float) -> dict[str, Outcome]:
    """The oracle: what is decided in the end, from nothing but the list of facts."""
    outcomes = {}
    by_subject: dict[str, list[Mail]] = defaultdict(list)
    for mail in mails:
        by_subject[mail.subject].append(mail)
    for subject, own in by_subject.items():
        since = until = 0
        for bucket in sorted({int(mail.time) // 5 for mail in own}):
            minute, hour = naive_sum(own, bucket, 60), naive_sum(own, bucket, 3600)
            too_much = (
                minute[0] > limits.messages_per_minute
                or minute[1] > limits.recipients_per_minute
                or hour[0] > limits.messages_per_hour
                or hour[1] > limits.recipients_per_hour
            )
            if too_much and bucket * 5 >= until:
                since, until = bucket * 5, bucket * 5 + block_seconds
        if until > now:
            outcomes[subject] = Outcome("burst", decisions.decision_id(subject, "burst", since), since, until)
    return outcomes


def naive_buckets(mails: Sequence[Mail]) -> dict[str, dict[int, tuple[int, int]]]:
    """Subject → bucket → messages and recipients."""
    messages: dict[str, Counter[int]] = defaultdict(Counter)
    recipients: dict[str, Counter[int]] = defaultdict(Counter)
    for mail in mails:
        messages[mail.subject][int(mail.time) // 5] += mail.messages
        recipients[mail.subject][int(mail.time) // 5] += mail.recipients
    return {
        subject: {bucket: (found[bucket], recipients[subject][bucket]) for bucket in found}
        for subject, found in messages.items()
    }
