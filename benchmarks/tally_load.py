"""Tallies written straight to weir.tallies, as agents would: for what streams alone can do."""

import itertools
import os
import time

from confluent_kafka import Producer

from weir import envelopes, subjects, tallies, topics

HOSTS = 3


def account(number: int) -> str:
    """The subject of a made-up account."""
    return subjects.sasl_username(f"user{number}@customer{number % 997}.example")


class TallyLoad:
    """A producer with seqs of its own for each of its hosts."""

    def __init__(self, bootstrap: str, hosts: int = HOSTS) -> None:
        epoch = os.urandom(8).hex()
        self._heads = [envelopes.head(f"mx{number}", epoch) for number in range(hosts)]
        self._seqs = [itertools.count(1) for _ in range(hosts)]
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "queue.buffering.max.messages": 1_000_000,
                "linger.ms": 5,
            }
        )

    def preload(self, number: int, envelope: int, accounts: int) -> None:
        """Write `number` tallies of one message each in envelopes of that size, the hosts in turn."""
        by_partition: dict[int, list[str]] = {}
        for subject in map(account, range(accounts)):
            by_partition.setdefault(subjects.partition(subject), []).append(subject)
        turns = {partition: itertools.cycle(own) for partition, own in by_partition.items()}
        now = time.time()
        for index in range(number // envelope):
            partition = index % subjects.PARTITIONS
            self._send(index % len(self._heads), partition, [next(turns[partition]) for _ in range(envelope)], now, 1)
        self.flush()

    def attack(self, subject: str, messages: int) -> None:
        """One tally of so many messages, sent at once."""
        self._send(0, subjects.partition(subject), [subject], time.time(), messages)

    def flush(self) -> None:
        if self._producer.flush(60):
            raise TimeoutError("Kafka did not take all tallies within 60 s")

    def _send(self, host: int, partition: int, names: list[str], now: float, messages: int) -> None:
        lines = [
            tallies.encoder.encode(
                tallies.Tally(next(self._seqs[host]), name, now, messages, messages, beside="client_address:192.0.2.10")
            )
            for name in names
        ]
        self._producer.produce(topics.TALLIES, envelopes.encode(self._heads[host], lines), partition=partition)
        self._producer.poll(0)
