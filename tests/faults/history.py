"""A stream of events of our own making, sinks on it, and what their history must then hold."""

import random
import time
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from fleet.kafka import Kafka
from fleet.own import Sink, Table, merged
from fleet.process import wait_until
from sinks.reader import reader
from weir import decisions, envelopes, kafka, subjects, topics
from weir.decisions import Decision, Evidence
from weir.events import Request, encoder
from weir.settings import History
from weir.settings import Kafka as KafkaSettings

HOSTS = 5
ACCOUNTS = 40


class Sums(NamedTuple):
    events: int
    messages: int
    recipients: int
    refused: int


class Stream:
    """Envelopes on weir.events, as agents would write them; all that was written is known."""

    def __init__(self, name: str, bootstrap: str, seed: int) -> None:
        self.events: dict[tuple[str, str, int], Request] = {}
        self.decisions: dict[tuple[str, int], Decision] = {}
        self.chosen = random.Random(seed)
        self._name = name
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": True})
        self._next: Counter[tuple[str, str]] = Counter()
        self._sent: defaultdict[tuple[str, str], list[Request]] = defaultdict(list)
        self._epochs = {f"{name}-mx{number}": "first" for number in range(HOSTS)}

    def write(self, number: int, start: float | None = None, span: float = 120.0) -> None:
        """So many events more, of any hosts, of the `span` seconds from `start` on (default: the last two minutes)."""
        start = time.time() - span if start is None else start
        while number > 0:
            host = self.chosen.choice(list(self._epochs))
            size = min(self.chosen.randint(1, 40), number)
            number -= size
            self._send(host, self._epochs[host], [self._event(host, start, span) for _ in range(size)])
        self._flush()

    def begin_epoch(self) -> None:
        """A host's agent comes back from a power loss."""
        self._epochs[self.chosen.choice(list(self._epochs))] = f"{self.chosen.getrandbits(64):016x}"

    def send_again(self, number: int) -> None:
        """The last so many events of a host once more, as an agent does that did not hear them acknowledged."""
        host, epoch = self.chosen.choice([key for key, sent in self._sent.items() if sent])
        tail = self._sent[host, epoch][-number:]
        for begin in range(0, len(tail), 50):
            self._produce(host, epoch, tail[begin : begin + 50])
        self._flush()

    def decide(self, number: int) -> None:
        """Records of decisions, some of them about the same."""
        for _ in range(number):
            account = f"sasl_username:{self._account()}"
            since = float(int(time.time()) - self.chosen.randrange(5) * 3600)
            identity = decisions.decision_id(account, "burst", since)
            change = sum(1 for known, _ in self.decisions if known == identity)
            evidence = Evidence("messages", 61, 60, 60, since, [f"{self._name}-mx1"], ["client_address:192.0.2.1"])
            decision = Decision(1, identity, account, "burst", "521 no", evidence, since, since + 3600, change=change)
            self.decisions[identity, change] = decision
            self._producer.produce(
                topics.DECISIONS,
                decisions.encoder.encode(decision),
                decisions.key("burst", account),
                subjects.partition(account),
            )
        self._flush()

    def garbage(self) -> None:
        for topic in (topics.EVENTS, topics.DECISIONS, topics.OPERATORS):
            for value in (b"garbage", b'{"version":7}', b"\xff\xfe", b"[" * 5000):
                self._producer.produce(topic, value, b"no key of ours", 0)
        self._flush()

    def _event(self, host: str, start: float, span: float) -> Request:
        epoch = self._epochs[host]
        self._next[host, epoch] += 1
        refused = self.chosen.random() < 0.1
        moment = start + self.chosen.random() * span
        return Request(
            seq=self._next[host, epoch],
            time=round(moment, 3),
            protocol_state="RCPT",
            action="521 5.7.1 no [weir burst 0123456789ab]" if refused else "DUNNO",
            decision="0123456789ab" if refused else "",
            sasl_username=self._account(),
            client_address=f"192.0.2.{self.chosen.randrange(20)}",
            sender="a'b\\c\u00e9\n\t\x00",
            messages=0 if refused else 1,
            recipients=0 if refused else self.chosen.randint(1, 5),
        )

    def _account(self) -> str:
        return f"user{self.chosen.randrange(ACCOUNTS)}@{self._name}.test"

    def _send(self, host: str, epoch: str, events: list[Request]) -> None:
        self._sent[host, epoch] += events
        self.events.update(((host, epoch, event.seq), event) for event in events)
        self._produce(host, epoch, events)

    def _produce(self, host: str, epoch: str, events: list[Request]) -> None:
        value = envelopes.encode(envelopes.head(host, epoch), map(encoder.encode, events))
        self._producer.produce(topics.EVENTS, value, host)

    def _flush(self) -> None:
        assert self._producer.flush(60) == 0


class Sinks(AbstractContextManager["Sinks"]):
    """Sinks of one group, all on one history; leaving the `with` block stops them."""

    def __init__(self, directory: Path, kafka_: Kafka, name: str, history: Table) -> None:
        self.all: list[Sink] = []
        self._directory = directory
        self._kafka = kafka_
        self._history = {"group": f"sink-{name}", **history}
        self._stack = ExitStack()

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def add(self) -> Sink:
        name = f"s{len(self.all)}"
        settings = {"history": self._history}
        sink = Sink(name, self._directory / name, self._kafka.bootstrap, settings)
        self.all.append(self._stack.enter_context(sink))
        sink.wait_ready(lambda: "weir_sink_events_total" in sink.metrics(), 30, 0.1)
        return sink

    def history(self) -> History:
        """Settings for those who read."""
        listen = {"listen": self.all[0].queries}
        return History(**merged(listen, self._history))

    def wait_committed(self, timeout: float = 90.0) -> None:
        """Return when the group has committed all that its topics hold."""
        settings = KafkaSettings(bootstrap_servers=self._kafka.bootstrap)
        group = {"group.id": self._history["group"], "isolation.level": "read_committed"}
        consumer = Consumer(kafka.client(settings) | group)
        try:
            places = [
                TopicPartition(topic.name, number)
                for topic in topics.ALL
                if topic.name in (topics.EVENTS, topics.DECISIONS, topics.OPERATORS)
                for number in range(topic.partitions)
            ]
            ends = {(p.topic, p.partition): consumer.get_watermark_offsets(p, timeout=10)[1] for p in places}

            def committed() -> bool:
                try:
                    found = consumer.committed(places, timeout=10)
                except KafkaException:  # the group has no coordinator just now
                    return False
                return all(place.offset >= end for place in found if (end := ends[place.topic, place.partition]))

            wait_until(committed, timeout, "all to be stored and committed", 0.2)
        finally:
            consumer.close()

    def assert_exact(self, stream: Stream) -> None:
        """Wait, and compare the history with what was written: each event once, each sum right."""
        self.wait_committed()
        with reader(self.history()) as history:
            raw = {tuple(row) for row in history.query("SELECT host, epoch, seq FROM events FINAL")}
            assert raw == set(stream.events)
            ((rows,),) = history.query("SELECT count() FROM events FINAL")
            assert rows == len(stream.events)
            minutes = {
                (minute, account, client, host): Sums(*sums)
                for minute, account, client, host, *sums in history.query(
                    "SELECT toUInt32(minute), sasl_username, client, host, events, messages, recipients, refused "
                    "FROM minutes FINAL"
                )
            }
            assert minutes == _expected(stream, lambda key, event: (_minute(event), *_who(event), key[0]))
            for table, names, key_of in SUMS:
                sums = {
                    tuple(key): Sums(*numbers)
                    for *key, events, messages, recipients, refused in history.query(
                        f"SELECT {names}, events, messages, recipients, refused FROM {table} FINAL"
                    )
                    for numbers in [(events, messages, recipients, refused)]
                }
                assert sums == _expected(stream, key_of), table
            days = {
                (day, account): Sums(*sums)
                for day, account, *sums in history.query(
                    "SELECT toString(day), sasl_username, events, messages, recipients, refused FROM days FINAL"
                )
            }
            assert days == _expected(stream, lambda _, event: (_day(event), event.sasl_username))
            kept = {tuple(row) for row in history.query("SELECT id, change FROM decisions FINAL")}
            assert kept == set(stream.decisions)


SUMS: tuple[tuple[str, str, Any], ...] = (
    ("host_minutes", "toUInt32(minute), host", lambda key, event: (_minute(event), key[0])),
    ("account_hours", "toUInt32(hour), sasl_username", lambda _, event: (_hour(event), event.sasl_username)),
    ("client_hours", "toUInt32(hour), client", lambda _, event: (_hour(event), event.client_address)),
)


def _expected(stream: Stream, key_of: Any) -> dict[Any, Sums]:
    found: defaultdict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for identity, event in stream.events.items():
        sums = found[key_of(identity, event)]
        for place, number in enumerate((1, event.messages, event.recipients, int(event.decision != ""))):
            sums[place] += number
    return {key: Sums(*sums) for key, sums in found.items()}


def _minute(event: Request) -> int:
    return int(event.time) // 60 * 60


def _hour(event: Request) -> int:
    return int(event.time) // 3600 * 3600


def _day(event: Request) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(event.time))


def _who(event: Request) -> tuple[str, str]:
    return event.sasl_username, event.client_address
